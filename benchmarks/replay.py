"""Which strategy finds what random search finds, in how many epochs?

    python -m benchmarks.replay [--seeds 50]

Replays ``benchmarks/results/learning_curves.jsonl`` as `experiments.simulate` does, once with its settings and once
with schedulers that may end a trial after its first epoch. Writes ``docs/images/replay.png``, ``docs/tables/replay.md``
and ``benchmarks/results/replay.json``. Trains nothing; the Gaussian process takes most of the time.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.machine import versions
from experiments.simulate import CURVES
from experiments.simulation import report
from experiments.simulation.comparison import Comparison, Settings, compare_strategies
from experiments.simulation.recordings import Recordings
from experiments.simulation.strategies import FIRST_RUNG, STRATEGIES, named
from satdet._cli import progress_bar
from satdet._parallel import available_cpus

SCHEDULED = ("random_median", "random_asha", "tpe_asha", "random_hyperband", "bohb")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--processes", type=int, default=available_cpus())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/replay.json"))
    parser.add_argument("--table", type=Path, default=Path("docs/tables/replay.md"))
    parser.add_argument("--plot", type=Path, default=Path("docs/images/replay.png"))
    options = parser.parse_args(arguments)
    recordings = Recordings.open(options.curves)
    settings = Settings(seeds=options.seeds, trials=30, workers=4, first_rung=FIRST_RUNG, clock="equal")
    with progress_bar("searches replayed") as progress:
        whole = compare_strategies(recordings, STRATEGIES, settings, processes=options.processes, progress=progress)
        early = compare_strategies(
            recordings,
            named(list(SCHEDULED)),
            dataclasses.replace(settings, first_rung=1),
            processes=options.processes,
            progress=progress,
        )
    text = "\n".join(_lines(recordings, whole, early)) + "\n"
    result = {
        "command": "python -m benchmarks.replay",
        "versions": versions(),
        "first_rung_3": report.to_json(whole),
        "first_rung_1": report.to_json(early),
    }
    for path in (options.out, options.table, options.plot):
        path.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    options.table.write_text(text)
    report.draw(options.plot, whole, recordings.experiment.objective.metric)
    sys.stdout.write(text)
    return 0


def _lines(recordings: Recordings, whole: Comparison, early: Comparison) -> Iterator[str]:
    yield "# Replayed searches"
    yield ""
    yield f"`python -m benchmarks.replay`. {report.method(whole, recordings)}"
    yield ""
    yield report.markdown(whole)
    yield from (f"- {line}" for line in report.verdicts(whole))
    yield ""
    yield "The same, where schedulers may end a trial after its first epoch:"
    yield ""
    yield report.markdown(early)
    yield from (f"- {line}" for line in report.verdicts(early))
    yield ""
    yield from _landscape(recordings)


def _landscape(recordings: Recordings) -> Iterator[str]:
    """What the recorded trainings are, and how far the same point with another seed differs."""
    experiment = recordings.experiment
    metric, base = experiment.objective.metric, experiment.base
    first = [max(each[0].curve, default=0.0) for each in recordings.points]
    good = sorted(first, reverse=True)
    halfway = sum(value > good[0] / 2 for value in good)
    yield (
        f"Recorded with `python -m benchmarks.learning_curves`: {base.detector.backbone} from random weights, tiles of"
        f" {base.tiles.size} px, {base.training.tiles_per_epoch} an epoch, {experiment.survey.frames} simulated frames."
        f" Best {metric} of a point: {', '.join(f'{value:.3f}' for value in good[:3])} …, median"
        f" {statistics.median(first):.3f}; {halfway} of {len(good)} points reach half of the best."
    )
    again = [[max(each.curve, default=0.0) for each in point] for point in recordings.points if len(point) > 1]
    if again:
        changes = [values[1] - values[0] for values in again]
        yield (
            f"The {len(again)} best points, trained again with another seed, reach"
            f" {statistics.fmean(values[1] for values in again):.3f} instead of"
            f" {statistics.fmean(values[0] for values in again):.3f} on average: the first"
            " values were chosen for being high, the second are the fairer ones. The change has a standard deviation of"
            f" {statistics.stdev(changes):.3f}."
        )


if __name__ == "__main__":
    sys.exit(main())
