"""Replay recorded learning curves through the real searchers and schedulers: which strategy finds what how soon?

    python -m experiments.simulate [STRATEGY …] [--seeds 50] [--workers 4] [--curves FILE] [--out DIR]

Nothing is trained. A suggested trial has the curve of the nearest recorded point in the unit cube of the space, and the
scheduler sees it epoch by epoch on a virtual clock. So the figures compare strategies on the recorded landscape, which
is coarser than the space; they are no promise for another one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from satdet._cli import progress_bar, run_command
from satdet._parallel import available_cpus
from satdet.errors import StorageError, UsageError

CURVES = Path(__file__).parents[1] / "benchmarks" / "results" / "learning_curves.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.simulate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("strategies", nargs="*", metavar="STRATEGY", help="default: all; an unknown name lists them")
    parser.add_argument("--seeds", type=int, default=50, help="searches of each strategy")
    parser.add_argument("--trials", type=int, default=30, help="whole trials of random search; the budget in epochs")
    parser.add_argument("--workers", type=int, default=4, help="trials at a time in a replayed search")
    parser.add_argument("--first-rung", type=int, help="first epoch at which a scheduler may end a trial (default: 3)")
    parser.add_argument("--clock", choices=("equal", "recorded"), default="equal", help="what an epoch takes")
    parser.add_argument("--curves", type=Path, default=CURVES, help="from python -m benchmarks.learning_curves")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write replay.md, replay.json and replay.png there"
    )
    parser.add_argument("--processes", type=int, default=available_cpus(), help="processes of this machine to use")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    return run_command(lambda: _simulate(options), debug=options.debug)


def _simulate(options: argparse.Namespace) -> None:
    from experiments.simulation import report
    from experiments.simulation.comparison import Settings, compare_strategies
    from experiments.simulation.recordings import Recordings
    from experiments.simulation.strategies import FIRST_RUNG, named

    first_rung = FIRST_RUNG if options.first_rung is None else options.first_rung
    for name, value in (
        ("seeds", options.seeds), ("trials", options.trials), ("workers", options.workers), ("first-rung", first_rung),
    ):  # fmt: skip
        if value < 1:
            raise UsageError(f"--{name} {value} is below its minimum 1")
    recordings = Recordings.open(options.curves)
    strategies = named(options.strategies)
    settings = Settings(options.seeds, options.trials, options.workers, first_rung, options.clock)
    with progress_bar("searches replayed") as progress:
        comparison = compare_strategies(
            recordings, strategies, settings, processes=options.processes, progress=progress
        )
    verdicts = "".join(f"- {line}\n" for line in report.verdicts(comparison))
    method = report.method(comparison, recordings)
    sys.stdout.write(f"{report.aligned(comparison)}\n{method}\n\n{verdicts}")
    if options.out is not None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            text = f"{report.markdown(comparison)}\n{method}\n\n{verdicts}"
            (options.out / "replay.md").write_text(text)
            (options.out / "replay.json").write_text(json.dumps(report.to_json(comparison), indent=1) + "\n")
            report.draw(options.out / "replay.png", comparison, recordings.experiment.objective.metric)
        except OSError as error:
            raise StorageError(f"{options.out}: the results cannot be written ({error})") from error


if __name__ == "__main__":
    sys.exit(main())
