"""What was recorded of each trial and is still to be sent: trackers collect events here and send them together."""

from dataclasses import dataclass, field
from typing import Any

from experiments.record import Event
from experiments.trackers.base import rung_metrics


@dataclass(frozen=True)
class Point:
    """Metrics at a step."""

    step: int
    time: float
    """When they were recorded [s since 1970]."""
    metrics: dict[str, float]
    epoch: bool
    """Whether they are an epoch's, of which there is one a step, or place the trial among others."""


@dataclass
class Outgoing:
    """One trial's part of the record, as far as a tracker needs more than the trial's state."""

    points: list[Point] = field(default_factory=list)
    """Those not yet sent, in the order of the record."""
    times: set[float] = field(default_factory=set)
    """When anything was recorded of it."""
    continued: dict[str, Any] = field(default_factory=dict)
    """Values of the configuration that it was continued with after an end."""
    began: float = 0.0
    """When it first started [s since 1970]."""
    whole: bool = True
    """Whether `points` has been so from the beginning of the record."""


class Outbox:
    """Trials that have changed since they were last sent."""

    def __init__(self) -> None:
        self._trials: dict[str, Outgoing] = {}
        self.changed: dict[str, Outgoing] = {}

    def add(self, event: Event, epochs: int) -> None:
        """Take note of an event of a trial that has reported so many `epochs`."""
        trial_id = event["trial"]
        trial = self._trials.setdefault(trial_id, Outgoing())
        self.changed[trial_id] = trial
        trial.times.add(event["time"])
        if event["kind"] == "result":
            metrics = {**event["metrics"], **rung_metrics(event), "epoch": float(event["epoch"])}
            trial.points.append(Point(event["epoch"], event["time"], metrics, epoch=True))
        elif compared := rung_metrics(event):
            trial.points.append(Point(epochs, event["time"], compared, epoch=False))
        if event["kind"] == "continued":
            trial.continued |= event["config"]
        if event["kind"] in ("started", "ended"):
            trial.began = trial.began or event["time"]

    def touch(self, trial_ids: list[str]) -> None:
        """Look at trials again, though nothing was recorded of them."""
        self.changed |= {trial_id: self._trials[trial_id] for trial_id in trial_ids if trial_id in self._trials}

    def sent(self, trial_id: str) -> None:
        """Forget what was sent of a trial."""
        trial = self.changed.pop(trial_id)
        if trial.points:
            trial.points, trial.whole = [], False
