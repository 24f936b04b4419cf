"""How well does a ResNet18 detector find sources after minutes of training from random weights on two CPU cores?

    python -m benchmarks.from_scratch [--seeds 3] [--out benchmarks/results/from_scratch.json]

Trains on a simulated survey with one seed after another and measures map_50 on the test split, frames that were neither
trained on nor used to choose the epoch. Time is of the training command's whole work: epochs, validation, checkpoints.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from satdet.config import TrialConfig, with_values

SURVEY = {"frames": 120, "size": 1024, "seed": 1}
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
    "training.epochs": 6,
    "training.batch_size": 8,
    "training.tiles_per_epoch": 640,
    "training.patience": None,
    "evaluation.batch_size": 16,
    "evaluation.every": 3,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.from_scratch", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where the survey and its tiles are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/from_scratch.json"))
    options = parser.parse_args(arguments)
    config = with_values(TrialConfig(), VALUES)
    runs = [_run(config, options.data, seed) for seed in range(options.seeds)]
    scores = [run["map_50"] for run in runs]
    result = {
        "command": "python -m benchmarks.from_scratch",
        "machine": machine(),
        "versions": versions(),
        "survey": SURVEY,
        "values": VALUES,
        "runs": runs,
        "map_50": {"mean": statistics.mean(scores), "minimum": min(scores), "maximum": max(scores)}
        | ({"deviation": statistics.stdev(scores)} if len(scores) > 1 else {}),
        "seconds": {
            "median": statistics.median(run["seconds"] for run in runs),
            "maximum": max(r["seconds"] for r in runs),
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps({key: result[key] for key in ("map_50", "seconds")}, indent=1) + "\n")
    return 0


def _run(config: TrialConfig, data: Path, seed: int) -> dict[str, Any]:
    from satdet.data.ingest import prepare, store_path
    from satdet.data.loading import TileDataset, evaluation_loader
    from satdet.simulate import simulate_survey
    from satdet.training import load_model, train
    from satdet.training.evaluation import evaluate

    source = data / f"simulated-{SURVEY['size']}px-{SURVEY['frames']}-seed{SURVEY['seed']}"
    simulate_survey(source, **SURVEY)
    store = prepare(source, config.tiles, store_path(data, source, config.tiles))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        reports = list(train(config, store, Path(folder), seed=seed))
        seconds = time.perf_counter() - started
        detector, trained = load_model(Path(folder) / "model.pt")
    test = TileDataset(store.split("test"), trained.input)
    metrics = evaluate(
        detector, evaluation_loader(test, config.evaluation), max_detections=config.detector.max_detections
    )
    run = {"seed": seed, "map_50": metrics["map_50"], "map": metrics["map"], "seconds": round(seconds, 1)}
    run |= {"test_tiles": len(test), "validation": [round(report.metrics["map_50"], 4) for report in reports]}
    sys.stderr.write(f"seed {seed}: map_50 {run['map_50']:.3f} on {len(test)} test tiles after {seconds:.0f} s\n")
    return run


if __name__ == "__main__":
    sys.exit(main())
