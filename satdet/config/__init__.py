"""The configuration of one trial, as a tree of frozen dataclasses that are checked when they are built.

A *path* names one value in the tree: ``optimizer.learning_rate``, ``tiles.box.k``. Search spaces, ``--set`` and the
trackers all speak in paths, so a path is the only spelling of a hyperparameter anywhere.
"""

from satdet._fields import bounded, check_fields, unknown_name
from satdet.config.detector import DetectorConfig, FreezingConfig
from satdet.config.evaluation import EvaluationConfig
from satdet.config.input import AugmentationConfig, InputConfig
from satdet.config.paths import digest, flatten, leaf, leaf_paths, parse_value, unflatten, with_values
from satdet.config.tiles import BoxConfig, TilesConfig
from satdet.config.training import OptimizerConfig, TrainingConfig
from satdet.config.trial import TrialConfig, evaluation_metric_names, metric_names
from satdet.errors import ConfigError

__all__ = [
    "AugmentationConfig", "BoxConfig", "ConfigError", "DetectorConfig", "EvaluationConfig", "FreezingConfig",
    "InputConfig", "OptimizerConfig", "TilesConfig", "TrainingConfig", "TrialConfig", "bounded", "check_fields",
    "digest", "evaluation_metric_names", "flatten", "leaf", "leaf_paths", "metric_names", "parse_value", "unflatten",
    "unknown_name", "with_values",
]  # fmt: skip
