"""Named base configurations, the report's sweep, and what makes any of them small enough for two CPU cores."""

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
    with_values,
)
from search_spaces.declare.discrete import Choice
from search_spaces.declare.distributions import LogUniform
from search_spaces.declare.experiment import SimulatedSurvey, Smoke
from search_spaces.declare.settings import Scheduler
from search_spaces.declare.space import SearchSpace

REPORT_PROTOCOL = TrialConfig(
    tiles=TilesConfig(size=512),
    augmentation=AugmentationConfig(orientation="rotations"),
    detector=DetectorConfig(enlargement=2.0, max_detections=1000),
    optimizer=OptimizerConfig(name="adam", learning_rate=1e-3, weight_decay=1e-6),
    training=TrainingConfig(epochs=200, batch_size=2, patience=10, min_improvement=1e-4),
    evaluation=EvaluationConfig(split="validation"),
)
"""The report's way of training, without its mistakes: every parameter is trained, and input is in noise units."""

REPORT_COMPARISON = with_values(REPORT_PROTOCOL, {"training.epochs": 60})
"""The same for the 60 epochs of the report's comparison of backbones."""

REPORT_SWEEP_PROTOCOL = with_values(REPORT_PROTOCOL, {"detector.version": "v2", "detector.weights": "detector"})
"""Of the report's sweep and its final model: version 2 from the whole COCO network."""

BETTER_PROTOCOL = TrialConfig(
    tiles=TilesConfig(size=512),
    augmentation=AugmentationConfig(orientation="dihedral"),
    detector=DetectorConfig(enlargement=1.0, box_samples=128, proposals_after_nms=1000),
    optimizer=OptimizerConfig(
        name="adamw", learning_rate=5e-4, weight_decay=1e-4, schedule="cosine", warmup_steps=100, max_gradient_norm=10.0
    ),
    training=TrainingConfig(epochs=60, batch_size=8, patience=None, ema_decay=0.99),
    evaluation=EvaluationConfig(split="validation"),
)
"""Our own base: AdamW with a cosine, averaged weights, all eight orientations, no enlargement, larger batches.

It is what has learned fastest from scratch on small tiles (docs/detector.md); on full tiles it is a proposal, which
`augmentation` and `speed_accuracy` put to the test.
"""

REPORT_SWEEP = SearchSpace(
    {
        "training.patience": Choice(0, 3, 5),
        "training.batch_size": Choice(4, 8, 16),
        "optimizer.weight_decay": Choice(1e-5, 1e-4, 1e-2),
        "optimizer.learning_rate": LogUniform(1e-6, 1e-2),
    }
)
"""The space of the report's sweep as it was written down."""

REPORT_SWEEP_AS_RUN = SearchSpace(
    {
        "training.patience": Choice(5, 10, 12),
        "training.batch_size": Choice(4, 6),
        "optimizer.weight_decay": Choice(0.0, 1e-6, 1e-4, 5e-3),
        "optimizer.learning_rate": LogUniform(5e-6, 5e-3),
    }
)
"""The space that was really run."""

REPORT_BEST: tuple[Mapping[str, Any], ...] = tuple(
    {
        "training.patience": patience,
        "training.batch_size": 4,
        "optimizer.weight_decay": weight_decay,
        "optimizer.learning_rate": learning_rate,
    }
    for patience, weight_decay, learning_rate in ((5, 1e-4, 3.166e-4), (10, 0.0, 7.211e-5), (12, 5e-5, 1.367e-3))
)
"""The report's three best trials, published with map_50 0.844, 0.838 and 0.824; parts lie outside its spaces."""

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
_QUICK_VALUES: Mapping[str, Any] = {
    "detector.backbone": "resnet18",
    "detector.version": "v1",
    "training.epochs": 2,
    "training.tiles_per_epoch": 32,
}


def smoke_of(
    values: Mapping[str, Any] | None = None,
    *,
    frames: int = 26,
    size: int = 1024,
    trials: int | None = None,
    scheduler: Scheduler | None = None,
) -> Smoke:
    """The usual smoke run: small tiles of a small survey, trained from scratch, with `values` on top."""
    survey = SimulatedSurvey(frames=frames, size=size)
    return Smoke(survey=survey, values={**_SMOKE_VALUES, **(values or {})}, trials=trials, scheduler=scheduler)


def quick_smoke(
    values: Mapping[str, Any] | None = None,
    *,
    trials: int | None = None,
    scheduler: Scheduler | None = None,
    stand_in_weights: bool = False,
) -> Smoke:
    """A smoke run that shows that all works, not that anything is learned: ResNet18, 2 epochs of 32 tiles a trial."""
    return Smoke(
        survey=SimulatedSurvey(frames=12, size=512),
        values={**_SMOKE_VALUES, **_QUICK_VALUES, **(values or {})},
        trials=trials,
        scheduler=scheduler,
        stand_in_weights=stand_in_weights,
    )
