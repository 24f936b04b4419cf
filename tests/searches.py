"""Records of made-up searches, for what reads records."""

from pathlib import Path
from typing import Any

import search_spaces
from experiments.record import Record
from satdet.config import metric_names

COMPLETED = {"status": "finished", "stop_reason": "completed", "error": None, "by": "trial"}
BY_ASHA = {"status": "stopped", "stop_reason": "asha", "error": None, "by": "scheduler"}
FAILED = {"status": "failed", "stop_reason": "error", "error": "ValueError: bad", "by": "trial"}


def begin(path: Path, *, search_id: str = "5ea2c4", **settings: Any) -> Record:
    """A record with its header and first session."""
    experiment = search_spaces.load("backbone_ablation").scaled_down()
    record = Record(path, **settings)
    data = {"source": "frames", "digest": "da7a"}
    record.append(
        "search",
        version=1,
        search_id=search_id,
        declaration=experiment.to_json(),
        digest=experiment.digest(),
        data=data,
    )
    record.append("session", host="h", process=1)
    return record


def suggest(record: Record, number: int, backbone: str = "resnet18", seed: int = 0) -> str:
    """A trial that has started."""
    trial = f"t{number:04d}"
    record.append("suggested", trial=trial, values={"detector.backbone": backbone}, seed=seed)
    record.append("started", trial=trial, workers=2, gpus=2.0)
    return trial


def report(record: Record, trial: str, epoch: int, map_50: float, end: dict[str, Any] | None = None) -> None:
    """An epoch of a trial."""
    names = metric_names(search_spaces.load("backbone_ablation").base)
    metrics = {**dict.fromkeys(names, 0.5), "map_50": map_50, "loss": 1 / epoch if epoch else 0.0, "seconds": 10.0}
    record.append("result", trial=trial, epoch=epoch, metrics=metrics, end=end)
