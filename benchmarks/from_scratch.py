"""How well does a ResNet18 detector find sources after minutes of training from random weights on two CPU cores?

    python -m benchmarks.from_scratch [--seeds 3] [--model FILE]

Writes ``benchmarks/results/from_scratch.json`` and, as a table, ``docs/tables/from_scratch.md``.

Trains on a simulated survey with one seed after another and measures map_50 on the test split: frames that were neither
trained on nor used to choose an epoch. The time is that of the whole training: epochs, validation, checkpoints, export.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from satdet.config import TrialConfig, with_values
from satdet.data.store import TileStore

FRAMES, SIZE, SEED = 120, 1024, 1
VALUES: dict[str, Any] = {
    "tiles.size": 128,
    "augmentation.orientation": "dihedral",
    "detector.backbone": "resnet18",
    "detector.weights": "none",
    "detector.rpn_samples": 128,
    "detector.box_samples": 64,
    "detector.proposals_before_nms": 1000,
    "detector.proposals_after_nms": 300,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 5e-4,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 20,
    "optimizer.max_gradient_norm": 10.0,
    "training.epochs": 5,
    "training.batch_size": 8,
    "training.tiles_per_epoch": 400,
    "training.patience": None,
    "evaluation.batch_size": 16,
    "evaluation.every": 5,
}
"""The better base for small CPU runs: 250 steps, evaluated once at the end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.from_scratch", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings, with the seeds 0, 1, …")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where the survey and its tiles are kept")
    parser.add_argument("--model", type=Path, help="keep the model of seed 0 here")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/from_scratch.json"))
    parser.add_argument("--table", type=Path, default=Path("docs/tables/from_scratch.md"))
    options = parser.parse_args(arguments)
    runs = [_run(options.data, seed, options.model if seed == 0 else None) for seed in range(options.seeds)]
    scores, seconds = [run["map_50"] for run in runs], [run["seconds"] for run in runs]
    spread = {"deviation": statistics.stdev(scores)} if len(scores) > 1 else {}
    result = {
        "command": "python -m benchmarks.from_scratch",
        "machine": machine(),
        "versions": versions(),
        "survey": {"frames": FRAMES, "size": SIZE, "seed": SEED},
        "values": VALUES,
        "runs": runs,
        "map_50": {"mean": statistics.mean(scores), "minimum": min(scores), "maximum": max(scores)} | spread,
        "seconds": {"median": statistics.median(seconds), "maximum": max(seconds)},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    text = "\n".join(table(result)) + "\n"
    options.table.write_text(text)
    sys.stdout.write(text)
    return 0


def table(result: dict[str, Any]) -> Iterator[str]:
    """The results as a page of Markdown."""
    machine, scores = result["machine"], result["map_50"]
    steps = VALUES["training.epochs"] * VALUES["training.tiles_per_epoch"] // VALUES["training.batch_size"]
    yield "# From scratch"
    yield ""
    yield f"`{result['command']}`: ResNet18 v1 from random weights, {steps} steps of {VALUES['training.batch_size']}"
    yield f"tiles of {VALUES['tiles.size']} px, on {machine['cores']} cores of {machine['processor']}. Measured on the"
    yield f"test split of {FRAMES} simulated frames; the time is the whole training's, with validation and checkpoints."
    yield ""
    yield "| seed | map_50 | map | precision | recall | F1 | 50 % complete to [mag] | false / arcmin² | seconds |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    names = ("map_50", "map", "precision", "recall", "f1", "magnitude_50", "false_per_arcmin2")
    for run in result["runs"]:
        yield f"| {run['seed']} | {' | '.join(f'{run[name]:.3f}' for name in names)} | {run['seconds']:.0f} |"
    yield ""
    deviation = f", standard deviation {scores['deviation']:.4f}" if "deviation" in scores else ""
    yield f"map_50: mean {scores['mean']:.3f}, from {scores['minimum']:.3f} to {scores['maximum']:.3f}{deviation}."


def prepare_tiles(data: Path) -> tuple[Path, TileStore]:
    """The survey's folder and its tiles below folder `data`, made on first use."""
    from satdet.data.ingest import prepare, store_path
    from satdet.simulate import simulate_survey

    tiles = with_values(TrialConfig(), VALUES).tiles
    source = data / f"simulated-{SIZE}px-{FRAMES}-seed{SEED}"
    simulate_survey(source, frames=FRAMES, size=SIZE, seed=SEED)
    return source, prepare(source, tiles, store_path(data, source, tiles))


def _run(data: Path, seed: int, keep: Path | None) -> dict[str, Any]:
    from satdet.data.loading import TileDataset, evaluation_loader
    from satdet.training import train
    from satdet.training.evaluation import evaluate
    from satdet.training.export import open_model

    config = with_values(TrialConfig(), VALUES)
    _, store = prepare_tiles(data)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        *_, last = train(config, store, Path(folder), seed=seed)
        seconds = time.perf_counter() - started
        model = open_model(Path(folder) / "model.pt")
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / "model.pt", keep)
    test = TileDataset(store.split("test"), model.config.input)
    batches = evaluation_loader(test, config.evaluation)
    metrics = evaluate(model.detect, batches, max_detections=config.detector.max_detections)
    names = ("map_50", "map", "precision", "recall", "f1", "magnitude_50", "false_per_arcmin2")
    run = {"seed": seed, "seconds": round(seconds, 1), "test_tiles": len(test)}
    run |= {name: round(metrics[name], 4) for name in names}
    run |= {
        "validation_map_50": round(last.metrics["map_50"], 4),
        "training_seconds_an_epoch": last.metrics["seconds_training"],
    }
    sys.stderr.write(f"seed {seed}: map_50 {run['map_50']:.3f} on {len(test)} test tiles after {seconds:.0f} s\n")
    return run


if __name__ == "__main__":
    sys.exit(main())
