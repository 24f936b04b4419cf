"""What does a grid of five NMS thresholds cost, beside one evaluation and beside five?

    python -m benchmarks.nms_grid --checkpoint MODEL [--tiles STORE] [--rounds 5]

MODEL is what ``python -m benchmarks.from_scratch --model`` leaves, or another with tiles of its rule.
Each round times, in another order: one evaluation, five evaluations with one threshold each, and the grid of the five.
The grid's metrics are compared with those of the five, and must be equal to the bit. One thread computes, and besides
the time on the clock the processor time is given: other work on the machine then disturbs least.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.from_scratch import prepare_tiles
from benchmarks.machine import machine, versions
from satdet.config import with_values
from satdet.data.loading import TileDataset, evaluation_loader
from satdet.data.store import TileSplit, TileStore
from satdet.evaluate.data import evaluation_tiles
from satdet.evaluate.grid import evaluate_grid, grid_cells
from satdet.training.evaluation import evaluate
from satdet.training.export import Model, default_device, open_model

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""The report's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its results; 1 if the grid differs from the separate evaluations."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nms_grid", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="model.pt of a trial")
    parser.add_argument("--tiles", type=Path, help="a tile store of its rule (default: that of from_scratch)")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where from_scratch keeps its tiles")
    parser.add_argument("--most", type=int, default=48, help="tiles to evaluate, spread over the split")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/nms_grid.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = open_model(options.checkpoint, default_device())
    store = TileStore.open(options.tiles) if options.tiles else prepare_tiles(options.data)[1]
    tiles = _thinned(evaluation_tiles(model, store, options.split), model, options.most)
    rounds, equal = _rounds(model, tiles, options.rounds)
    result = {
        "machine": machine(),
        "versions": versions(),
        "backbone": model.config.detector.backbone,
        "tile_size": model.config.tiles.size,
        "tiles": len(tiles),
        "thresholds": THRESHOLDS,
        "equal_to_the_bit": equal,
        "grid_over_one": _ratios(rounds, "grid", "one"),
        "five_over_one": _ratios(rounds, "five", "one"),
        "rounds": rounds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write("\n".join(_lines(result)) + "\n")
    return 0 if equal else 1


def _thinned(tiles: TileDataset, model: Model, most: int) -> TileDataset:
    step = -(-len(tiles) // most)
    return TileDataset(TileSplit(tiles.split.store, tiles.split.indices[::step]), model.config.input)


def _rounds(model: Model, tiles: TileDataset, count: int) -> tuple[list[dict[str, dict[str, float]]], bool]:
    """The seconds of each kind of evaluation in each round, and whether the grid's metrics were always the same."""
    kinds: dict[str, Callable[[], list[dict[str, float]]]] = {
        "one": lambda: [_alone(model, tiles, 0.5)],
        "five": lambda: [_alone(model, tiles, threshold) for threshold in THRESHOLDS],
        "grid": lambda: _grid(model, tiles),
    }
    kinds["one"]()  # the first of all is slower
    rounds, equal = [], True
    for number in range(count):
        seconds, metrics = {}, {}
        for place in range(len(kinds)):
            name = list(kinds)[(number + place) % len(kinds)]
            wall, processor = time.perf_counter(), time.process_time()
            metrics[name] = kinds[name]()
            seconds[name] = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        equal &= metrics["grid"] == metrics["five"]
        rounds.append(seconds)
    return rounds, equal


def _alone(model: Model, tiles: TileDataset, threshold: float) -> dict[str, float]:
    config = with_values(model.config, {"detector.nms_threshold": threshold})
    alone = dataclasses.replace(model, config=config)
    batches = evaluation_loader(tiles, config.evaluation)
    return evaluate(alone.detect, batches, max_detections=config.detector.max_detections)


def _grid(model: Model, tiles: TileDataset) -> list[dict[str, float]]:
    cells = grid_cells(model.config.detector, nms_thresholds=THRESHOLDS)
    results = evaluate_grid(model.candidates, evaluation_loader(tiles, model.config.evaluation), cells)
    return [result.metrics.compute() for result in results]


def _ratios(rounds: list[dict[str, dict[str, float]]], above: str, below: str) -> dict[str, dict[str, float]]:
    """Median, smallest and largest ratio over the rounds, of both kinds of time."""
    summary = {}
    for clock in ("wall", "processor"):
        ratios = [each[above][clock] / each[below][clock] for each in rounds]
        summary[clock] = {"median": statistics.median(ratios), "smallest": min(ratios), "largest": max(ratios)}
    return summary


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{result['tiles']} tiles of {result['tile_size']} px, {result['backbone']}, {result['machine']}"]
    for name in ("grid_over_one", "five_over_one"):
        for clock, ratio in result[name].items():
            spread = f"{ratio['smallest']:.3f} to {ratio['largest']:.3f}"
            lines.append(f"  {name.replace('_', ' ')}, {clock} time: {ratio['median']:.3f} ({spread})")
    return [*lines, f"  equal to the bit: {result['equal_to_the_bit']}"]


if __name__ == "__main__":
    sys.exit(main())
