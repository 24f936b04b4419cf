"""Learning curves of 48 real trainings of a sweep, for `experiments.simulate` to replay.

    python -m benchmarks.learning_curves [--workers 1] [--scratch /dev/shm]

Writes ``benchmarks/results/learning_curves.jsonl``: first what was run on what, then a line a training. Started again,
it goes on where it was stopped; trainings that were under way are done again.

The points are a scrambled Sobol sequence, so that the recorded ones lie evenly in the space. The detector, the data and
the loop are the real ones, on a simulated survey, with tiles and samples as few as still learn; an epoch has the same
number of tiles for every batch size. At the end, the best points are trained again with other seeds: what that changes
is noise. On one processor and with one thread a training is a function of its point and its seed.

Each training writes checkpoints of 340 MB, so `--scratch` is best in memory.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from satdet.config import TrialConfig, with_values
from search_spaces.declare import (
    REPORT_PROTOCOL,
    Choice,
    Experiment,
    LogUniform,
    Maximise,
    QuasiRandom,
    SearchSpace,
    SimulatedSurvey,
    Smoke,
)

EPOCHS = 27
"""Rungs at 1, 3, 9 and 27."""
REPEATED, REPEATS = 8, 1
"""Of the best points, so many are trained with so many more seeds."""
CURVES = ("map_50", "loss", "images_per_second", "seconds")
VALUES: dict[str, Any] = {
    "tiles.size": 64,
    "augmentation.orientation": "dihedral",
    "detector.backbone": "resnet18",
    "detector.weights": "none",
    "detector.enlargement": 1.0,
    "detector.rpn_samples": 32,
    "detector.box_samples": 8,
    "detector.proposals_before_nms": 100,
    "detector.proposals_after_nms": 24,
    "detector.max_detections": 24,
    "optimizer.warmup_steps": 4,
    "optimizer.max_gradient_norm": 10.0,
    "training.epochs": EPOCHS,
    "training.tiles_per_epoch": 16,
    "training.patience": None,
    "evaluation.batch_size": 32,
}
SURVEY = SimulatedSurvey(frames=40, size=256, seed=1)
EXPERIMENT = Experiment(
    name="learning_curves",
    question="How do trials of the report's sweep learn?",
    base=with_values(REPORT_PROTOCOL, VALUES),
    space=SearchSpace(
        {
            "training.batch_size": Choice(2, 4, 8, 16),
            "optimizer.learning_rate": LogUniform(1e-6, 1e-2),
            "optimizer.weight_decay": Choice(0.0, 1e-6, 1e-5, 1e-4, 1e-2),
        }
    ),
    objective=Maximise("map_50"),
    searcher=QuasiRandom(seed=0),
    trials=48,
    seeds=1,
    survey=SURVEY,
    smoke=Smoke(survey=SURVEY),
)
"""The report's sweep, with batches of 2 and a weight decay of 0 besides."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Record what is not recorded yet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_curves", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time, each with one thread")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where the survey and its tiles are kept")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="for checkpoints")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/learning_curves.jsonl"))
    options = parser.parse_args(arguments)
    found, trainings = read(options.out) if options.out.exists() else (header(), [])
    if found["experiment"] != header()["experiment"]:
        parser.error(f"{options.out} holds curves of other settings; choose another --out")
    _write(options.out, found, trainings)
    _prepare(options.data)
    first = [(number, 0) for number in range(EXPERIMENT.trials or 0)]
    _record(first, options)
    best = sorted((each for each in read(options.out)[1] if each["seed"] == 0), key=_best, reverse=True)[:REPEATED]
    _record([(each["point"], seed) for seed in range(1, REPEATS + 1) for each in best], options)
    _write(options.out, *read(options.out))
    return 0


def header() -> dict[str, Any]:
    """What is run on what."""
    return {
        "command": "python -m benchmarks.learning_curves",
        "machine": machine() | {"threads": 1},
        "versions": versions(),
        "experiment": EXPERIMENT.to_json(),
        "note": "seconds and images_per_second were taken while other work ran on the machine",
    }


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header, and the trainings so far; a last line that was cut short is left out."""
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    found, *trainings = map(json.loads, whole)
    return found, trainings


def values_of(point: int) -> dict[str, Any]:
    """The searched values of a point of the sequence."""
    from experiments.searchers import build_searcher

    suggestion = build_searcher(EXPERIMENT).suggest(point, tuple)
    assert suggestion is not None
    return suggestion.values


def _write(path: Path, found: dict[str, Any], trainings: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [found, *sorted(trainings, key=lambda each: (each["seed"], each["point"]))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _record(wanted: Sequence[tuple[int, int]], options: argparse.Namespace) -> None:
    done = {(each["point"], each["seed"]) for each in read(options.out)[1]}
    missing = [each for each in wanted if each not in done]
    # Not fork: torch's threads would leave their locks behind.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        trainings = [pool.submit(_train, *each, options.data, options.scratch) for each in missing]
        for training in as_completed(trainings):
            result = training.result()
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            sys.stderr.write(f"point {result['point']} seed {result['seed']}: {result['values']} {_best(result):.3f}\n")


def _prepare(data: Path) -> Any:
    from satdet.data.ingest import prepare, store_path
    from satdet.simulate import simulate_survey

    source = data / f"simulated-{SURVEY.size}px-{SURVEY.frames}-seed{SURVEY.seed}"
    simulate_survey(source, frames=SURVEY.frames, size=SURVEY.size, seed=SURVEY.seed)
    return prepare(source, EXPERIMENT.base.tiles, store_path(data, source, EXPERIMENT.base.tiles))


def _train(point: int, seed: int, data: Path, scratch: Path) -> dict[str, Any]:
    import torch

    from satdet.errors import NonFiniteLossError

    torch.set_num_threads(1)
    values = values_of(point)
    curves: dict[str, list[float]] = {name: [] for name in CURVES}
    end = "completed"
    try:
        for metrics in _epochs(with_values(EXPERIMENT.base, values), seed, data, scratch):
            for name, curve in curves.items():
                curve.append(float(f"{metrics[name]:.4g}"))
    except NonFiniteLossError:
        end = "non_finite_loss"
    return {"point": point, "seed": seed, "values": values, "end": end, **curves}


def _epochs(config: TrialConfig, seed: int, data: Path, scratch: Path) -> Iterator[dict[str, float]]:
    from satdet.training import train

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for report in train(config, _prepare(data), Path(folder), seed=seed, device="cpu"):
            yield report.metrics


def _best(training: dict[str, Any]) -> float:
    return max(training["map_50"], default=0.0)


if __name__ == "__main__":
    sys.exit(main())
