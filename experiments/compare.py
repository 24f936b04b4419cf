"""Compare the trials of one search or several, best cell first, with what can be told apart and what cannot.

python -m experiments.compare SEARCH [SEARCH …] [--baseline CELL] [--format table|csv|json|latex|html] [--storage DIR]
"""

import argparse
import csv
import html
import io
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from experiments.answer import answer
from experiments.copies import bring_record
from experiments.paths import storage_paths
from experiments.progress import clock
from experiments.wording import short_names, value_text, values_text
from satdet._cli import run_command
from satdet.config import unknown_name
from satdet.errors import UsageError

if TYPE_CHECKING:
    from experiments.uncertainty import Difference, Interval

Summary = Mapping[str, Any]
Trials = Sequence[Mapping[str, Any]]
FORMATS = ("table", "csv", "json", "latex", "html")


@dataclass(frozen=True)
class Row:
    """One cell of a search: its trials with all their seeds."""

    search: str
    cell: str
    values: Mapping[str, Any]
    """The searched values by path; a path that does not count in the cell is not among them."""
    label: str
    """The cell as sentences name it."""
    seeds: int
    """Trials."""
    runs: int
    """Trials that have a result."""
    failed: int
    mean: float | None
    spread: float | None
    """Standard deviation over seeds; None for a single one."""
    best: float | None
    epochs: float
    seconds: float
    gpu_hours: float
    parameters: float | None
    outcome: str
    """How the trials ended, counted."""
    interval: "Interval | None" = None
    """Of the mean, see `experiments.uncertainty`."""
    difference: "Difference | None" = None
    """From the reference cell; None for that itself, and without a result."""
    better: float | None = None
    """Probability that a run of the cell beats one of the reference."""
    reference: bool = False
    """Whether the others are compared with this cell."""
    others: tuple[float, ...] = ()
    """Means of the further objectives at each trial's best epoch."""
    front: bool = False
    """Whether a trial of the cell is on the Pareto front."""


def compare(summaries: Sequence[Summary], by: str | None = None, baseline: str | None = None) -> list[Row]:
    """A row for each cell of the searches, best mean first, cells without a result last.

    With `by`, a path, one row for each of its values: the cell with the best mean, or the one that was trained again
    with new seeds to confirm it, by those seeds alone. Differences are from the best cell, or from the one that
    `baseline` names by its values.

    Raises
    ------
    UsageError
        If the searches have different objectives, data or splits: their figures would not mean the same. If there is
        no such baseline, or it has no result.
    """
    for summary in summaries[1:]:
        for name, measured in _MEASURED.items():
            one, other = measured(summaries[0]), measured(summary)
            if one != other:
                raise UsageError(
                    f"{summaries[0]['search']} and {summary['search']} differ in their {name}: {one} and {other}"
                )
    found: list[tuple[Row, Trials]] = []
    for summary in summaries:
        cells: dict[str, list[Mapping[str, Any]]] = {}
        for trial in summary["trials"]:
            cells.setdefault(_cell(trial), []).append(trial)
        mine = [(_row(summary, cell, trials), trials) for cell, trials in cells.items()]
        found += mine if by is None else _best_by(summary, by)
    sign = -1 if summaries[0]["mode"] == "max" else 1
    found.sort(key=lambda pair: (pair[0].mean is None, sign * (pair[0].mean or 0.0)))
    return _told_apart(found, summaries[0]["metric"], summaries[0]["mode"], baseline)


def _splits(summary: Summary) -> list[str]:
    return sorted({trial["config"].get("evaluation.split", "") for trial in summary["trials"]} - {""})


_MEASURED: dict[str, Callable[[Summary], Any]] = {
    "objectives": lambda summary: summary["objectives"],
    "data": lambda summary: summary["data"],
    "split": _splits,
}
"""What has to be the same for figures to mean the same."""


def _told_apart(found: Sequence[tuple[Row, Trials]], metric: str, mode: str, baseline: str | None) -> list[Row]:
    """The rows with their intervals, and their differences from the reference."""
    from experiments.uncertainty import Comparison

    keys = [f"{row.search} {row.cell}" for row, _ in found]
    values = {key: _by_seed(trials, metric) for key, (_, trials) in zip(keys, found, strict=True)}
    comparison = Comparison(values)
    scored = [key for key in keys if values[key]]
    if not scored:
        return [row for row, _ in found]
    reference = scored[0] if baseline is None else keys[_index_of(baseline, [row for row, _ in found])]
    rows = []
    for key, (row, _) in zip(keys, found, strict=True):
        if not values[key]:
            rows.append(row)
            continue
        difference = None if key == reference else comparison.difference(key, reference)
        better = None
        if difference is not None:
            better = difference.improvement if mode == "max" else 1 - difference.improvement
        rows.append(
            replace(
                row,
                interval=comparison.interval(key),
                difference=difference,
                better=better,
                reference=key == reference,
            )
        )
    return rows


def _by_seed(trials: Trials, metric: str) -> dict[int, float]:
    """The result of each seed; of several trials with the same one, their mean."""
    results: dict[int, list[float]] = {}
    for trial in trials:
        if trial["best"] and trial["status"] != "failed":
            results.setdefault(trial["seed"], []).append(trial["best"][metric])
    return {seed: statistics.fmean(values) for seed, values in results.items()}


def _index_of(baseline: str, rows: Sequence[Row]) -> int:
    matching = [
        place
        for place, row in enumerate(rows)
        if baseline in (row.cell, row.label, f"{row.search} {row.label}", *map(value_text, row.values.values()))
    ]
    if len(matching) != 1:
        known = ", ".join(row.label for row in rows)
        raise UsageError(f"--baseline {baseline!r} names {len(matching)} cells; there are: {known}")
    if rows[matching[0]].mean is None:
        raise UsageError(f"--baseline {baseline!r} has no result to compare with")
    return matching[0]


def render(summaries: Sequence[Summary], style: str, by: str | None = None, baseline: str | None = None) -> str:
    """The comparison as text in one of `FORMATS`."""
    rows = compare(summaries, by, baseline)
    metric, mode = summaries[0]["metric"], summaries[0]["mode"]
    if style == "json":
        return json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    columns = _columns(rows, summaries, exact=style == "csv")
    heading, lines = list(columns), [list(line) for line in zip(*columns.values(), strict=True)]
    if style == "table":
        status = "; ".join(f"{each['search']}: {each['status']} in {clock(each['seconds'])}" for each in summaries)
        return f"{status}\n\n{_aligned(heading, lines)}\n{answer(rows, metric, mode)}\n"
    return {"csv": _csv, "latex": _latex, "html": _html}[style](heading, lines)


def _columns(rows: Sequence[Row], summaries: Sequence[Summary], *, exact: bool) -> dict[str, list[str]]:
    """The table by columns, those left out that say nothing here; with `exact` a number a column, in all its digits."""
    metric, further = summaries[0]["metric"], [name for name, _ in summaries[0]["objectives"][1:]]
    paths = list(dict.fromkeys(path for row in rows for path in row.values))
    columns: dict[str, list[str]] = {}
    if len(summaries) > 1:
        columns["search"] = [row.search for row in rows]
    for path, name in zip(paths, paths if exact else short_names(paths), strict=True):
        columns[name] = [value_text(row.values[path]) if path in row.values else "" for row in rows]
    against = next((row.label for row in rows if row.reference and rows.index(row) > 0), "best")
    means = [row.mean for row in rows]
    differences = [row.difference.mean if row.difference else None for row in rows]
    intervals = {
        metric: (means, [row.interval for row in rows]),
        f"minus {against}": (differences, [row.difference.interval if row.difference else None for row in rows]),
    }
    known = any(interval for _, each in intervals.values() for interval in each)
    for name, (figures, ranges) in intervals.items():
        columns |= _figures(name, figures, ranges, exact=exact, known=known)
    if known:
        columns["P(better)"] = ["" if row.better is None else f"{row.better:.2f}" for row in rows]
    columns[f"best {metric}"] = [_number(row.best, exact) for row in rows]
    for place, name in enumerate(further):
        columns[name] = [f"{row.others[place]:.4g}" if row.others else "" for row in rows]
    if further:
        columns["Pareto front"] = ["on it" if row.front else "" for row in rows]
    columns["seeds"] = [str(row.seeds) for row in rows]
    columns["epochs"] = [f"{row.epochs:g}" for row in rows]
    if len({row.parameters for row in rows}) > 1:
        columns["parameters"] = ["" if row.parameters is None else f"{row.parameters / 1e6:.1f} M" for row in rows]
    if any(row.gpu_hours for row in rows):
        columns["GPU h"] = [f"{row.gpu_hours:.3g}" for row in rows]
    columns["time"] = [clock(row.seconds) for row in rows]
    columns["outcome"] = [row.outcome for row in rows]
    return columns


def _figures(
    name: str,
    figures: Sequence[float | None],
    ranges: "Sequence[Interval | None]",
    *,
    exact: bool,
    known: bool,
) -> dict[str, list[str]]:
    """A figure with its interval, in one column to look at, in three to reckon with."""
    plain = [_number(figure, exact, signed=name.startswith("minus ")) for figure in figures]
    if not known:
        return {name: plain}
    if exact:
        low = ["" if each is None else f"{each.low:.6g}" for each in ranges]
        high = ["" if each is None else f"{each.high:.6g}" for each in ranges]
        return {name: plain, f"{name} low": low, f"{name} high": high}
    shown = ["" if each is None else f" [{each.low:.3f}, {each.high:.3f}]" for each in ranges]
    return {f"{name} [95 %]": [figure + interval for figure, interval in zip(plain, shown, strict=True)]}


def _number(value: float | None, exact: bool, *, signed: bool = False) -> str:
    if value is None:
        return "" if exact or signed else "-"
    return f"{value:.6g}" if exact else f"{value:+.4f}" if signed else f"{value:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("searches", metavar="SEARCH", nargs="+")
    parser.add_argument("--by", metavar="PATH", help="the best cell for each value of this path only")
    parser.add_argument("--baseline", metavar="CELL", help="the cell that others are compared with (default: the best)")
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--storage", default="runs", help="folder or address of the searches (default: runs)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)

    def command() -> None:
        from experiments.summary import summarise

        storage = storage_paths(options.storage)
        summaries = []
        for name in options.searches:
            if name not in storage.searches():
                known = ", ".join(storage.searches()) or "none"
                raise UsageError(f"no search {name!r} in {storage}; there are: {known}")
            bring_record(storage.search(name))
            summaries.append(summarise(storage.search(name)))
        sys.stdout.write(render(summaries, options.format, options.by, options.baseline))

    return run_command(command, debug=options.debug)


def _best_by(summary: Summary, path: str) -> list[tuple[Row, Trials]]:
    """For each value of a path, the row and trials of its best cell, or of those that confirm it."""
    known = {key for trial in summary["trials"] for key in trial["config"] | trial["values"]}
    if path not in known:
        raise UsageError(f"--by: {unknown_name('path', path, known)}")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in summary["trials"]:
        groups.setdefault(value_text((trial["config"] | trial["values"])[path]), []).append(trial)
    rows: list[tuple[Row, Trials]] = []
    sign = 1 if summary["mode"] == "max" else -1
    for trials in groups.values():
        confirming = [trial for trial in trials if trial["suggested"].get("by") == "confirm"]
        cells: dict[str, list[Mapping[str, Any]]] = {}
        for trial in confirming or trials:
            cells.setdefault(_cell(trial), []).append(trial)
        found = [(_row(summary, cell, members), members) for cell, members in cells.items()]
        rows.append(max(found, key=lambda pair: -math.inf if pair[0].mean is None else sign * pair[0].mean))
    return rows


def _cell(trial: Mapping[str, Any]) -> str:
    return values_text(trial["values"]) or "base"


def _row(summary: Summary, cell: str, trials: Trials) -> Row:
    ended_well = [trial for trial in trials if trial["best"] and trial["status"] != "failed"]
    values = [trial["best"][summary["metric"]] for trial in ended_well]
    outcomes: dict[str, int] = {}
    for trial in trials:
        outcome = trial["status"] + (f" ({trial['stop_reason']})" if trial["status"] in ("stopped", "failed") else "")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return Row(
        search=summary["search"],
        cell=cell,
        values=trials[0]["values"],
        label=_label(trials[0]["values"]),
        seeds=len(trials),
        runs=len(values),
        failed=sum(trial["status"] == "failed" for trial in trials),
        mean=statistics.fmean(values) if values else None,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        best=(max if summary["mode"] == "max" else min)(values) if values else None,
        epochs=statistics.fmean(trial["epochs"] for trial in trials),
        seconds=sum(trial["seconds"] for trial in trials),
        gpu_hours=sum(trial["gpu_seconds"] for trial in trials) / 3600,
        parameters=next((trial["best"]["parameters"] for trial in ended_well if "parameters" in trial["best"]), None),
        outcome=", ".join(f"{count} {name}" for name, count in outcomes.items()),
        others=tuple(
            statistics.fmean(trial["best"][name] for trial in ended_well) if values else math.nan
            for name, _ in summary["objectives"][1:]
        ),
        front=any(trial["id"] in summary["pareto"] for trial in trials),
    )


def _label(values: Mapping[str, Any]) -> str:
    """A cell in few words: the value alone where one is searched, else names with values."""
    if len(values) == 1:
        return value_text(next(iter(values.values())))
    names = short_names(list(values))
    return " ".join(f"{name}={value_text(value)}" for name, value in zip(names, values.values(), strict=True)) or "base"


def _aligned(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in [heading, *lines]) for column in range(len(heading))]
    texts = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in (heading, *lines)
    ]
    return "\n".join(text.rstrip() for text in texts) + "\n"


def _csv(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([heading, *lines])
    return stream.getvalue()


def _latex(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    body = "\n".join(map(_latex_row, lines))
    return (
        f"\\begin{{tabular}}{{{'l' * len(heading)}}}\n\\toprule\n{_latex_row(heading)}\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def latex_text(text: str) -> str:
    """A text as LaTeX takes it."""
    return "".join(_LATEX.get(char, char) for char in text)


_LATEX = {char: rf"\{char}" for char in "_%&#${}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def _html(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(row("td", line) for line in lines)
    return f"<table>\n<thead>{row('th', heading)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"


if __name__ == "__main__":
    sys.exit(main())
