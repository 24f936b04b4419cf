"""Settings of a search as plain values; `experiments` builds the searcher, scheduler and callbacks they describe."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from satdet.config import bounded, check_fields


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Base of all settings: checked when built, and plain data on request."""

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> dict[str, Any]:
        """The setting's kind and values."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"kind": type(self).__name__, **values}


@dataclass(frozen=True, kw_only=True)
class Objective(Setting):
    """The metric that decides which trial is better."""

    metric: str
    mode: Literal["max", "min"]


def Maximise(metric: str) -> Objective:
    """The objective of a metric that should be large."""
    return Objective(metric=metric, mode="max")


def Minimise(metric: str) -> Objective:
    """The objective of a metric that should be small."""
    return Objective(metric=metric, mode="min")


@dataclass(frozen=True, kw_only=True)
class Grid(Setting):
    """Every cell of the space once a seed; all cells of the first seed come first."""


@dataclass(frozen=True, kw_only=True)
class RunAll(Setting):
    """No scheduler: every trial runs to its own end."""


@dataclass(frozen=True, kw_only=True)
class ASHA(Setting):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), counted in epochs.

    A trial that reaches a rung (``grace_epochs * reduction**k``) goes on only within the best ``1 / reduction`` so far.
    """

    grace_epochs: int = bounded(10, minimum=1)
    reduction: int = bounded(3, minimum=2)


@dataclass(frozen=True, kw_only=True)
class SpeedGuard(Setting):
    """Ends a trial whose average training speed since its start is too low, as ``slow_speed_global``.

    Images a second, unlike the report's iterations a second, do not punish large batches.
    """

    images_per_second: float | None = bounded(None, above=0)
    iterations_per_second: float | None = bounded(None, above=0)
    warmup_batches: int = bounded(10, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Resources(Setting):
    """What one trial is given. CPUs None: the machine's, divided by the trials at a time."""

    workers: int = bounded(1, minimum=1, maximum=1)
    gpus_per_worker: float = bounded(1.0, minimum=0)
    """Used where the cluster has GPUs; on a cluster without any, trials run on CPUs."""
    cpus_per_worker: int | None = bounded(None, minimum=1)


Searcher = Grid
Scheduler = RunAll | ASHA
Stopper = SpeedGuard
