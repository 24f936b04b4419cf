"""Projections of a search's record into MLflow and W&B; a new tracker is one file and one line in `TRACKERS`."""

from collections.abc import Mapping

from experiments.trackers.base import Tracker, TrackerSettings, TrackerState, tracker_states
from experiments.trackers.mlflow import MlflowTracker
from experiments.trackers.wandb import WandbTracker

TRACKERS: Mapping[str, type[Tracker]] = {"mlflow": MlflowTracker, "wandb": WandbTracker}

__all__ = ["TRACKERS", "Tracker", "TrackerSettings", "TrackerState", "tracker_states"]
