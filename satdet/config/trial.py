"""The configuration of a whole trial."""

from dataclasses import dataclass, field

from satdet._fields import Checked
from satdet.config.detector import DetectorConfig
from satdet.config.evaluation import EvaluationConfig
from satdet.config.input import AugmentationConfig, InputConfig
from satdet.config.tiles import TilesConfig
from satdet.config.training import OptimizerConfig, TrainingConfig
from satdet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrialConfig(Checked):
    """One trial: what is trained on what, and how."""

    tiles: TilesConfig = field(default_factory=TilesConfig)
    input: InputConfig = field(default_factory=InputConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augmentation.crop is not None and self.augmentation.crop > self.tiles.size:
            raise ConfigError(
                f"augmentation.crop = {self.augmentation.crop} is larger than tiles.size = {self.tiles.size}"
            )


def evaluation_metric_names(config: TrialConfig) -> tuple[str, ...]:
    """The metrics of an evaluation, all finite; mar is given at three equal steps of detections."""
    most = config.detector.max_detections
    recalls = tuple(f"mar_{round(most * step / 3)}" for step in (1, 2, 3))
    return (
        "map", "map_50", "map_75", *recalls, "best_iou_per_gt", "best_iou_per_prediction", "predictions_minus_objects",
        "precision", "recall", "f1", "best_score", "false_per_arcmin2", "magnitude_50",
    )  # fmt: skip


def metric_names(config: TrialConfig) -> tuple[str, ...]:
    """The metrics that every epoch of a training reports, all finite."""
    return (
        "loss", "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg",
        *evaluation_metric_names(config),
        "images_per_second", "seconds", "seconds_training", "seconds_evaluation", "learning_rate",
        "parameters", "parameters_trained", "best_map_50",
    )  # fmt: skip
