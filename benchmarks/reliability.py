"""Write the table of docs/reliability.md from what the benchmarks with faults have left; measures nothing itself.

    python -m benchmarks.reliability

The table stands between two comments in the document; a benchmark that has not been run says so in its row.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results")
DOCUMENT = Path("docs/reliability.md")
BEGIN, END = "<!-- measured: written by python -m benchmarks.reliability -->", "<!-- end -->"

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes
    ----------
    fault, happens : str
        What is done to a search, and what comes of it.
    source : str
        The benchmark, and the file of its result.
    figure : callable
        The measured figure, from that result.
    """

    fault: str
    happens: str
    source: str
    figure: Callable[[Result], str]

    def cells(self, results: Path) -> list[str]:
        """The row's cells, with the figure as it is on disk."""
        path = results / f"{self.source}.json"
        figure = self.figure(json.loads(path.read_text())) if path.is_file() else "not measured"
        return [self.fault, self.happens, figure, f"`python -m benchmarks.{self.source}`"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Replace the table in the document."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args(arguments)
    head, begin, rest = options.document.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{options.document}: {BEGIN} and {END} are not both there")
    table = "\n".join(table_lines(options.results))
    options.document.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")
    sys.stdout.write(table + "\n")
    return 0


def table_lines(results: Path) -> list[str]:
    """The table, from the results in a folder."""
    headings = ["fault", "what happens", "measured", "again"]
    rows = [headings, ["---"] * len(headings), *(row.cells(results) for row in ROWS)]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _chaos(result: Result) -> str:
    compared, resumes = result["compared"], result["seconds_from_resume_to_training"]
    wrong = sum(result["differences"].values())
    return (
        f"{result['kills']} kills of {compared['searches']} searches: {wrong} lost, doubled or different of"
        f" {compared['trials']} trials, {compared['epochs']} epochs, {compared['decisions']} decisions,"
        f" {compared['models']} models, {compared['mlflow_runs']} MLflow and {compared['wandb_runs']} W&B runs with"
        f" {compared['mlflow_points'] + compared['wandb_points']} points; from the command to training again"
        f" {_seconds(resumes)}{_shared(result)}"
    )


def _lost(what: str) -> Callable[[Result], str]:
    def figure(result: Result) -> str:
        again = result["seconds_until_training_again"][what]
        wrong = sum(result["differences"].values())
        return (
            f"{again['count']} times: trains again after {_seconds(again)}; all trials finished, {wrong} differences"
            f" from an undisturbed search, {result['most_recorded_epochs_trained_again']} recorded epochs trained"
            f" again at most{_shared(result)}"
        )

    return figure


def _storage(*scenarios: str) -> Callable[[Result], str]:
    def figure(result: Result) -> str:
        found = {name: result["scenarios"][name] for name in scenarios if name in result["scenarios"]}
        if not found:
            return "not measured"
        statuses = "; ".join(
            f"{name.replace('_', ' ')}: {', then '.join(map(str, each['statuses']))}" for name, each in found.items()
        )
        wrong = sum(len(each["wrong"]) + sum(map(len, each["differences"].values())) for each in found.values())
        return f"exit status {statuses}; {wrong} differences from an undisturbed search"

    return figure


def _record(result: Result) -> str:
    outcomes: Counter[str] = Counter()
    for each in result["outcomes"].values():
        outcomes.update(each)
    counts = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
    return f"{result['damages']} damages: {counts}; wrong {len(result['wrong'])}"


def _checkpoints(result: Result) -> str:
    files = "checkpoints, best.pt, model.pt and stopped.json"
    return f"{result['cases']} cases of damaged, lost and unwritable {files}: wrong {result['wrong']}"


def _trackers(result: Result) -> str:
    parts = []
    for backend in (name for name, each in result.items() if isinstance(each, dict) and "wrong" in each):
        each = result[backend]
        parts.append(
            f"{backend}: {sum(each['faults'].values())} faults in {each['requests']} requests,"
            f" {each['trials']} trials, {each['epochs']} epochs: lost, doubled or wrong {sum(each['wrong'].values())}"
        )
    return "; ".join(parts)


def _cost(result: Result) -> str:
    driver = result["driver_ms_a_result"]["MLflow on SQLite and W&B offline"]
    slower = ", ".join(f"{name}: {share:+.1%}" for name, share in result["slowdown"]["median_slowdown"].items())
    return f"{driver['p95']:g} ms of the driver a result at p95 with both trackers on; slower than without ({slower})"


def _seconds(spread: Mapping[str, float]) -> str:
    return f"{spread['p50']:.0f} s (p95 {spread['p95']:.0f} s, most {spread['max']:.0f} s)"


def _shared(result: Result) -> str:
    return "; the machine had other work" if result.get("shared") else ""


ROWS = (
    Row("SIGKILL of the driver, its group, or all processes", "`--resume` goes on where it was", "chaos", _chaos),
    Row("a training process killed", "begun again from its checkpoint", "node_chaos", _lost("worker")),
    Row("a node's raylet killed", "the trial goes on on another node", "node_chaos", _lost("raylet")),
    Row("a whole node killed", "the trial goes on on another node", "node_chaos", _lost("node")),
    Row("the connection to a node lost", "given up for lost, goes on on another", "node_chaos", _lost("connection")),
    Row("the storage full, read-only or frozen for a while", "waited for", "storage_faults",
        _storage("full_for_a_while", "full_to_the_last_byte", "frozen_for_a_while", "read_only_for_a_while")),
    Row("the storage gone for a while", "waited for", "storage_faults", _storage("gone_for_a_while")),
    Row("the storage full or gone for good", "leaves; `--resume` goes on when it is back", "storage_faults",
        _storage("full_for_good", "gone_for_good")),
    Row("the storage read-only from the start", "one line, nothing begun", "storage_faults",
        _storage("read_only_from_the_start")),
    Row("a record damaged", "the newest whole state, or a refusal that names `repair`", "record_damage", _record),
    Row("files of a trial damaged", "the newest whole one, and that is recorded", "checkpoint_damage", _checkpoints),
    Row("MLflow behind a server that fails in every way", "sent later, each once", "tracker_faults", _trackers),
    Row("MLflow away or slow while a search runs", "the search does not wait for it", "tracker_cost", _cost),
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
