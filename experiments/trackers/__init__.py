"""Projections of a record into MLflow, W&B and Optuna; a new tracker is one file and one line in `TRACKERS`."""

from collections.abc import Mapping

from experiments.trackers.base import Tracker, TrackerSettings, TrackerState, tracker_states
from experiments.trackers.mlflow import MlflowTracker
from experiments.trackers.optuna import OptunaTracker
from experiments.trackers.wandb import WandbTracker

TRACKERS: Mapping[str, type[Tracker]] = {
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
    "optuna": OptunaTracker,
}

__all__ = ["TRACKERS", "Tracker", "TrackerSettings", "TrackerState", "tracker_states"]
