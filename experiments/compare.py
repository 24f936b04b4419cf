"""Compare the trials of one search or several, best cell first.

python -m experiments.compare SEARCH [SEARCH …] [--format table|csv|json|latex|html] [--storage DIR]
"""

import argparse
import csv
import html
import io
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.paths import storage_paths
from experiments.progress import clock
from satdet._cli import run_command
from satdet.errors import UsageError

Summary = Mapping[str, Any]
FORMATS = ("table", "csv", "json", "latex", "html")


@dataclass(frozen=True)
class Row:
    """One cell of a search: its trials with all their seeds."""

    search: str
    cell: str
    seeds: int
    mean: float | None
    spread: float | None
    """Standard deviation over seeds; None for a single one."""
    best: float | None
    epochs: float
    seconds: float
    outcome: str
    """How the trials ended, counted."""


def compare(summaries: Sequence[Summary]) -> list[Row]:
    """A row for each cell of the searches, best mean first, cells without a result last.

    Raises
    ------
    UsageError
        If the searches have different objectives or data: their figures would not mean the same.
    """
    for summary in summaries[1:]:
        for name, key in (("objective", ("metric", "mode")), ("data", ("data",))):
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
        rows += [_row(summary, cell, trials) for cell, trials in cells.items()]
    sign = -1 if summaries[0]["mode"] == "max" else 1
    return sorted(rows, key=lambda row: (row.mean is None, sign * (row.mean or 0.0)))


def render(summaries: Sequence[Summary], style: str) -> str:
    """The comparison as text in one of `FORMATS`."""
    rows = compare(summaries)
    metric = summaries[0]["metric"]
    if style == "json":
        return json.dumps([vars(row) for row in rows], indent=1) + "\n"
    heading = ["cell", f"{metric}", "± seeds", f"best {metric}", "seeds", "epochs", "time", "outcome"]
    if len(summaries) > 1:
        heading.insert(0, "search")
    lines = [[*([row.search] if len(summaries) > 1 else []), *_cells(row)] for row in rows]
    if style == "table":
        status = "; ".join(f"{each['search']}: {each['status']} in {clock(each['seconds'])}" for each in summaries)
        return f"{status}\n\n{_aligned(heading, lines)}"
    return {"csv": _csv, "latex": _latex, "html": _html}[style](heading, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("searches", metavar="SEARCH", nargs="+")
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument("--storage", default="runs", help="folder of the searches (default: runs)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)

    def command() -> None:
        from experiments.summary import summarise

        storage = storage_paths(options.storage)
        summaries = []
        for name in options.searches:
            if name not in storage.searches():
                known = ", ".join(storage.searches()) or "none"
                raise UsageError(f"no search {name!r} in {storage.root}; there are: {known}")
            summaries.append(summarise(storage.search(name)))
        sys.stdout.write(render(summaries, options.format))

    return run_command(command, debug=options.debug)


def _cell(trial: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={value}" for path, value in trial["values"].items()) or "base"


def _row(summary: Summary, cell: str, trials: Sequence[Mapping[str, Any]]) -> Row:
    values = [trial["best"][summary["metric"]] for trial in trials if trial["best"]]
    outcomes: dict[str, int] = {}
    for trial in trials:
        outcome = trial["status"] + (f" ({trial['stop_reason']})" if trial["status"] in ("stopped", "failed") else "")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return Row(
        search=summary["search"],
        cell=cell,
        seeds=len(trials),
        mean=statistics.fmean(values) if values else None,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        best=(max if summary["mode"] == "max" else min)(values) if values else None,
        epochs=statistics.fmean(trial["epochs"] for trial in trials),
        seconds=sum(trial["seconds"] for trial in trials),
        outcome=", ".join(f"{count} {name}" for name, count in outcomes.items()),
    )


def _cells(row: Row) -> list[str]:
    figures = ["-" if value is None else f"{value:.4f}" for value in (row.mean, row.spread, row.best)]
    return [row.cell, *figures, str(row.seeds), f"{row.epochs:g}", clock(row.seconds), row.outcome]


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
