"""The answer of a comparison in plain sentences, made from its numbers; they claim no difference without proof."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.compare import Row
    from experiments.uncertainty import Difference

_NAMED = 4
"""Cells that are named one by one; of more their number is said."""


def answer(rows: Sequence["Row"], metric: str, mode: str) -> str:
    """What the rows of a comparison say of their reference cell and the others.

    A cell counts as worse or better where the interval of its difference has no zero in it. All others, with an
    interval or without, are told apart from nothing.

    Parameters
    ----------
    rows : sequence of Row
        As `experiments.compare.compare` makes them.
    metric : str
    mode : str
        ``max`` or ``min``.
    """
    scored = [row for row in rows if row.mean is not None]
    if not scored:
        return f"No cell has a result in {metric} yet."
    reference = next(row for row in scored if row.reference)
    others = [row for row in scored if not row.reference]
    sentences = [f"{_name(reference)} has {metric} {_value(reference)}."]
    told: dict[bool, list[tuple[Row, Difference]]] = {True: [], False: []}
    same = []
    for row in others:
        found = row.difference
        if found is None or found.interval is None or found.interval.covers(0.0):
            same.append(row)
        else:
            told[(found.mean > 0) == (mode == "max")].append((row, found))
    for better, word in ((False, "worse"), (True, "better")):
        if told[better]:
            sentences.append(f"{_told(told[better], word, _name(reference))}.")
    if same:
        sentences.append(_undecided(reference, same))
    failed = sum(row.failed for row in rows)
    if failed:
        sentences.append(f"{_count(failed, 'trial')} failed and {'counts' if failed == 1 else 'count'} in no mean.")
    return " ".join(sentences)


def _told(found: Sequence[tuple["Row", "Difference"]], word: str, reference: str) -> str:
    if len(found) > _NAMED:
        sizes = [abs(difference.mean) for _, difference in found]
        return f"{len(found)} others are {word} than {reference}, by {min(sizes):.2g} to {max(sizes):.2g}"
    parts = [f"{_name(row)} is {word} than {reference} by {_size(difference)}" for row, difference in found]
    return "; ".join(parts)


def _size(difference: "Difference") -> str:
    assert difference.interval is not None
    ends = sorted((abs(difference.interval.low), abs(difference.interval.high)))
    return f"{abs(difference.mean):.3g} [{ends[0]:.3g}, {ends[1]:.3g}]"


def _undecided(reference: "Row", same: Sequence["Row"]) -> str:
    seeds = sorted({row.runs for row in (reference, *same)})
    count = _count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    if len(same) > _NAMED:
        return f"The other {len(same)} cannot be told apart from it with {count}."
    names = [_name(row) for row in (*same, reference)]
    return f"{', '.join(names[:-1])} and {names[-1]} cannot be told apart with {count}."


def _value(row: "Row") -> str:
    interval = "" if row.interval is None else f" [{row.interval.low:.3g}, {row.interval.high:.3g}]"
    return f"{row.mean:.4g}{interval} ({_count(row.runs, 'seed')})"


def _name(row: "Row") -> str:
    return row.label


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
