"""Run the smoke run of every declared experiment, and write the table of experiments.

    python -m benchmarks.smokes [NAME …] [--storage DIR]

Each is the command that a newcomer would type, in a process of its own. What it gave goes into
``benchmarks/results/smokes.json``, and all experiments with question, command, cost and result into
``docs/tables/experiments.md``. A smoke run's figures say that everything works; they say nothing about the question.
The searches are removed once they are in the results: together their checkpoints take some 70 GB.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import search_spaces
from benchmarks.machine import machine, versions
from experiments.options import RunOptions
from experiments.plan import make_plan
from experiments.resources import Capacity
from experiments.wording import values_text

RESULTS = Path("benchmarks/results/smokes.json")
TABLE = Path("docs/tables/experiments.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them and write both files; 1 if one of them did not finish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smokes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--storage", default="runs", help="folder of the searches (default: runs)")
    parser.add_argument("--table-only", action="store_true", help="write the table from the results there are")
    options = parser.parse_args(arguments)
    runs = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else {}
    wanted = [] if options.table_only else options.names or search_spaces.names()
    for number, name in enumerate(wanted, start=1):
        sys.stderr.write(f"{number}/{len(wanted)} {name}\n")
        runs[name] = _run(name, options.storage)
        for search in (name, f"{name}_model"):
            shutil.rmtree(Path(options.storage) / search, ignore_errors=True)
        runs = {each: runs[each] for each in search_spaces.names() if each in runs}
        result = {"machine": machine(), "versions": versions(), "runs": runs}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    TABLE.write_text(table(runs))
    return max((run["status"] for name, run in runs.items() if name in wanted), default=0)


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """All declared experiments as a Markdown table."""
    lines = [
        "# The declared experiments",
        "",
        "Made by `python -m benchmarks.smokes`, with the results of the smoke runs on the machine that",
        "`benchmarks/results/smokes.json` names. A smoke run shows that all works; a few epochs of small tiles say",
        "nothing about the question. Costs in full are upper bounds: stoppers and schedulers end trials early.",
        "",
        "| experiment | question | in full | smoke run | its best trial |",
        "|---|---|---|---|---|",
    ]
    for name in search_spaces.names():
        experiment = search_spaces.load(name)
        cells = [f"`{name}`", experiment.question, _cost(name), *_outcome(runs.get(name))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The command is `python -m experiments.run NAME`, with `--smoke` for the smoke run; `nms_grid` also needs",
        "`--checkpoint FILE` or `--best-of SEARCH` in full.",
    ]
    return "\n".join(lines) + "\n"


def _run(name: str, storage: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "experiments.run", name, "--smoke", "--fresh", "--json", "--storage", storage]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = round(time.monotonic() - started)
    if done.returncode not in (0, 3):
        sys.stderr.write(done.stderr[-2000:])
        return {"status": done.returncode, "seconds": seconds}
    summary = json.loads(done.stdout)
    best = next((trial for trial in summary["trials"] if trial["id"] == summary["best"]), None)
    ends: dict[str, int] = {}
    for trial in summary["trials"]:
        ends[trial["stop_reason"]] = ends.get(trial["stop_reason"], 0) + 1
    return {
        "status": done.returncode,
        "seconds": seconds,
        "trials": len(summary["trials"]),
        "epochs": sum(trial["epochs"] for trial in summary["trials"]),
        "ends": ends,
        "metric": summary["metric"],
        "best": None if best is None else best["best"][summary["metric"]],
        "values": {} if best is None else best["values"],
        "pareto": len(summary["pareto"]),
    }


def _cost(name: str) -> str:
    experiment = search_spaces.load(name)
    plan = make_plan(experiment, RunOptions(experiment=name), Capacity.of(8, 1))
    if experiment.task == "evaluate":
        return "one evaluation"
    seeds = f" ({experiment.seeds} seeds)" if experiment.seeds > 1 else ""
    return f"{plan.trials} trials{seeds} of at most {plan.epochs} epochs"


def _outcome(run: Mapping[str, Any] | None) -> list[str]:
    if run is None or "trials" not in run:
        return ["not run", ""]
    ends = ", ".join(f"{count} {reason}" for reason, count in run["ends"].items())
    how = f"{run['trials']} trials, {run['epochs']} epochs in {run['seconds'] / 60:.1f} min ({ends})"
    front = f"; {run['pareto']} on the Pareto front" if run["pareto"] else ""
    return [how, f"{run['metric']} {run['best']:.3f}: {values_text(run['values'])}{front}"]


if __name__ == "__main__":
    sys.exit(main())
