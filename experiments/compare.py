"""Compare the trials of one search or several, best cell first.

python -m experiments.compare SEARCH [SEARCH …] [--format table|csv|json|latex|html] [--storage DIR]
"""

import argparse
import csv
import html
import io
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.copies import bring_record
from experiments.paths import storage_paths
from experiments.progress import clock
from experiments.wording import value_text, values_text
from satdet._cli import run_command
from satdet.config import unknown_name
from satdet.errors import UsageError

Summary = Mapping[str, Any]
FORMATS = ("table", "csv", "json", "latex", "html")


@dataclass(frozen=True)
class Row:
    """One cell of a search: its trials with all their seeds."""

    search: str
    cell: str
    values: Mapping[str, Any]
    """The searched values by path; a path that does not count in the cell is not among them."""
    seeds: int
    mean: float | None
    spread: float | None
    """Standard deviation over seeds; None for a single one."""
    best: float | None
    epochs: float
    seconds: float
    outcome: str
    """How the trials ended, counted."""
    others: tuple[float, ...] = ()
    """Means of the further objectives at each trial's best epoch."""
    front: bool = False
    """Whether a trial of the cell is on the Pareto front."""


def compare(summaries: Sequence[Summary], by: str | None = None) -> list[Row]:
    """A row for each cell of the searches, best mean first, cells without a result last.

    With `by`, a path, one row for each of its values: the cell with the best mean, or the one that was trained again
    with new seeds to confirm it, by those seeds alone.

    Raises
    ------
    UsageError
        If the searches have different objectives or data: their figures would not mean the same.
    """
    for summary in summaries[1:]:
        for name, key in (("objectives", ("objectives",)), ("data", ("data",))):
            one, other = ([each[part] for part in key] for each in (summaries[0], summary))
            if one != other:
                raise UsageError(
                    f"{summaries[0]['search']} and {summary['search']} differ in their {name}: {one} and {other}"
                )
    rows = []
    for summary in summaries:
        cells: dict[str, list[Mapping[str, Any]]] = {}
        for trial in summary["trials"]:
            cells.setdefault(_cell(trial), []).append(trial)
        mine = [_row(summary, cell, trials) for cell, trials in cells.items()]
        rows += mine if by is None else _best_by(summary, by)
    sign = -1 if summaries[0]["mode"] == "max" else 1
    return sorted(rows, key=lambda row: (row.mean is None, sign * (row.mean or 0.0)))


def render(summaries: Sequence[Summary], style: str, by: str | None = None) -> str:
    """The comparison as text in one of `FORMATS`."""
    rows = compare(summaries, by)
    metric = summaries[0]["metric"]
    if style == "json":
        return json.dumps([vars(row) for row in rows], indent=1) + "\n"
    others = [name for name, _ in summaries[0]["objectives"][1:]]
    front = ["Pareto front"] if others else []
    paths = list(dict.fromkeys(path for row in rows for path in row.values))
    names = paths if style == "csv" else short_names(paths)
    heading = [*names, metric, "± seeds", f"best {metric}", *others, *front, "seeds", "epochs", "time", "outcome"]
    if len(summaries) > 1:
        heading.insert(0, "search")
    lines = [[*([row.search] if len(summaries) > 1 else []), *_cells(row, paths)] for row in rows]
    if style == "table":
        status = "; ".join(f"{each['search']}: {each['status']} in {clock(each['seconds'])}" for each in summaries)
        return f"{status}\n\n{_aligned(heading, lines)}"
    return {"csv": _csv, "latex": _latex, "html": _html}[style](heading, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("searches", metavar="SEARCH", nargs="+")
    parser.add_argument("--by", metavar="PATH", help="the best cell for each value of this path only")
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
        sys.stdout.write(render(summaries, options.format, options.by))

    return run_command(command, debug=options.debug)


def _best_by(summary: Summary, path: str) -> list[Row]:
    """For each value of a path, the row of its best cell, or of the trials that confirm it."""
    known = {key for trial in summary["trials"] for key in trial["config"] | trial["values"]}
    if path not in known:
        raise UsageError(f"--by: {unknown_name('path', path, known)}")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in summary["trials"]:
        groups.setdefault(value_text((trial["config"] | trial["values"])[path]), []).append(trial)
    rows = []
    sign = 1 if summary["mode"] == "max" else -1
    for trials in groups.values():
        confirming = [trial for trial in trials if trial["suggested"].get("by") == "confirm"]
        cells: dict[str, list[Mapping[str, Any]]] = {}
        for trial in confirming or trials:
            cells.setdefault(_cell(trial), []).append(trial)
        found = [_row(summary, cell, members) for cell, members in cells.items()]
        rows.append(max(found, key=lambda row: -math.inf if row.mean is None else sign * row.mean))
    return rows


def _cell(trial: Mapping[str, Any]) -> str:
    return values_text(trial["values"]) or "base"


def _row(summary: Summary, cell: str, trials: Sequence[Mapping[str, Any]]) -> Row:
    values = [trial["best"][summary["metric"]] for trial in trials if trial["best"]]
    outcomes: dict[str, int] = {}
    for trial in trials:
        outcome = trial["status"] + (f" ({trial['stop_reason']})" if trial["status"] in ("stopped", "failed") else "")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return Row(
        search=summary["search"],
        cell=cell,
        values=trials[0]["values"],
        seeds=len(trials),
        mean=statistics.fmean(values) if values else None,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        best=(max if summary["mode"] == "max" else min)(values) if values else None,
        epochs=statistics.fmean(trial["epochs"] for trial in trials),
        seconds=sum(trial["seconds"] for trial in trials),
        outcome=", ".join(f"{count} {name}" for name, count in outcomes.items()),
        others=tuple(
            statistics.fmean(trial["best"][name] for trial in trials if trial["best"]) if values else math.nan
            for name, _ in summary["objectives"][1:]
        ),
        front=any(trial["id"] in summary["pareto"] for trial in trials),
    )


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, where they are different."""
    tails = [path.rpartition(".")[2] for path in paths]
    return [tail if tails.count(tail) == 1 else path for path, tail in zip(paths, tails, strict=True)]


def _cells(row: Row, paths: Sequence[str]) -> list[str]:
    values = [value_text(row.values[path]) if path in row.values else "" for path in paths]
    figures = ["-" if value is None else f"{value:.4f}" for value in (row.mean, row.spread, row.best)]
    others = [f"{value:.4g}" for value in row.others]
    front = ["on it" if row.front else ""] if row.others else []
    return [*values, *figures, *others, *front, str(row.seeds), f"{row.epochs:g}", clock(row.seconds), row.outcome]


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
    special = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "±": r"$\pm$"}
    body = "\n".join(_latex_row(line, special) for line in lines)
    return (
        f"\\begin{{tabular}}{{{'l' * len(heading)}}}\n\\toprule\n{_latex_row(heading, special)}\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )


def _latex_row(cells: Sequence[str], special: Mapping[str, str]) -> str:
    return " & ".join("".join(special.get(char, char) for char in cell) for cell in cells) + r" \\"


def _html(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(row("td", line) for line in lines)
    return f"<table>\n<thead>{row('th', heading)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"


if __name__ == "__main__":
    sys.exit(main())
