"""``python -m satdet.simulate``: write a simulated survey."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from satdet._cli import progress_bar, run_command
from satdet.simulate.survey import simulate_survey


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` (default: the process's own), simulate, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _simulate(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m satdet.simulate",
        description="Write simulated frames, catalogues and labels in the telescope's own format.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; an earlier survey is extended")
    parser.add_argument("--frames", type=int, required=True, metavar="N", help="number of frames")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="same seed, same survey")
    parser.add_argument("--size", type=int, default=1024, metavar="PX", help="side of a frame (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--truth", action="store_true", help="also write the stars' true positions, NAME_truth.csv")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _simulate(options: argparse.Namespace) -> None:
    with progress_bar("simulating") as progress:
        frames = simulate_survey(
            options.out,
            frames=options.frames,
            seed=options.seed,
            size=options.size,
            workers=options.workers,
            progress=progress,
            truth=options.truth,
        )
    sys.stdout.write(f"{len(frames)} frames with catalogues and labels.csv in {options.out}\n")


if __name__ == "__main__":
    sys.exit(main())
