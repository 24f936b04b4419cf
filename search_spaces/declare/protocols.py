"""Named base configurations, and what makes any of them small enough for a smoke run on two CPU cores."""

from collections.abc import Mapping
from typing import Any

from satdet.config import (
    AugmentationConfig,
    DetectorConfig,
    EvaluationConfig,
    OptimizerConfig,
    TilesConfig,
    TrainingConfig,
    TrialConfig,
)
from search_spaces.declare.experiment import SimulatedSurvey, Smoke

REPORT_PROTOCOL = TrialConfig(
    tiles=TilesConfig(size=512),
    augmentation=AugmentationConfig(orientation="rotations"),
    detector=DetectorConfig(enlargement=2.0, max_detections=1000),
    optimizer=OptimizerConfig(name="adam", learning_rate=1e-3, weight_decay=1e-6),
    training=TrainingConfig(epochs=60, batch_size=2, patience=10, min_improvement=1e-4),
    evaluation=EvaluationConfig(split="validation"),
)
"""The report's way of training, without its mistakes: every parameter is trained, and input is in noise units."""

_SMOKE_VALUES: Mapping[str, Any] = {
    "tiles.size": 128,
    "augmentation.orientation": "dihedral",
    "detector.weights": "none",
    "detector.enlargement": 1.0,
    "detector.rpn_samples": 128,
    "detector.box_samples": 64,
    "detector.proposals_before_nms": 1000,
    "detector.proposals_after_nms": 150,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 5e-4,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 10,
    "optimizer.max_gradient_norm": 10.0,
    "training.epochs": 4,
    "training.batch_size": 8,
    "training.tiles_per_epoch": 160,
    "training.patience": None,
}


def smoke_of(values: Mapping[str, Any] | None = None, *, frames: int = 26, size: int = 1024) -> Smoke:
    """The usual smoke run: small tiles of a small survey, trained from scratch, with `values` on top."""
    return Smoke(survey=SimulatedSurvey(frames=frames, size=size), values={**_SMOKE_VALUES, **(values or {})})
