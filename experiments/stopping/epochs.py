"""Stoppers that look at the epochs of a trial; like a scheduler's, their memory follows from the calls alone."""

import statistics
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from search_spaces.declare import BudgetCap, Divergence, Objective, Plateau, SpeedGuard, Stopper, Target

LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The end of a trial.

    Attributes
    ----------
    reason : str
        One word, the same for all trials that end so.
    why : str
        One sentence for people, about this trial.
    """

    reason: str
    why: str


class EpochStopper(ABC):
    """Base of the stoppers that look at epochs."""

    every_epoch: ClassVar[bool] = False
    """Whether it looks at epochs without an evaluation too; the objective then is that of an earlier one."""

    @abstractmethod
    def result(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> Stop | None:
        """Whether a trial should end after `epoch`; called once an epoch, in order."""


class PlateauStopper(EpochStopper):
    """See `search_spaces.declare.Plateau`; the deviation is that of the values themselves, not of a sample.

    Where epochs are skipped, the values are those reported within so many epochs, two at least.
    """

    def __init__(self, settings: Plateau, objective: Objective) -> None:
        self._settings = settings
        self._metric = objective.metric
        self._values: dict[str, deque[tuple[int, float]]] = {}
        self._first: dict[str, int] = {}

    def result(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> Stop | None:
        """Stop a trial whose objective has stopped moving."""
        window = self._settings.epochs
        self._first.setdefault(trial_id, epoch)
        values = self._values.setdefault(trial_id, deque())
        values.append((epoch, metrics[self._metric]))
        while values[0][0] <= epoch - window:
            values.popleft()
        if epoch < self._settings.grace_epochs or epoch - self._first[trial_id] + 1 < window or len(values) < 2:
            return None
        deviation = statistics.pstdev(value for _, value in values)
        if deviation >= self._settings.tolerance:
            return None
        moved = f"standard deviation of {self._metric} over the last {window} epochs"
        return Stop(reason="plateau", why=f"{moved} is {deviation:.3g}, below {self._settings.tolerance:g}")


class TargetStopper(EpochStopper):
    """See `search_spaces.declare.Target`."""

    def __init__(self, settings: Target, objective: Objective) -> None:
        self._settings = settings
        self._objective = objective

    def result(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> Stop | None:
        """Stop a trial that is good enough."""
        value, target = metrics[self._objective.metric], self._settings.value
        reached = value >= target if self._objective.mode == "max" else value <= target
        if not reached:
            return None
        why = f"{self._objective.metric} is {value:.4g} after epoch {epoch}, the target {target:g}"
        return Stop(reason="target_reached", why=why)


class DivergenceStopper(EpochStopper):
    """See `search_spaces.declare.Divergence`; a loss that is not finite ends a trial before it gets here."""

    every_epoch: ClassVar[bool] = True

    def __init__(self, settings: Divergence) -> None:
        self._factor = settings.factor
        self._lowest: dict[str, float] = {}

    def result(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> Stop | None:
        """Stop a trial whose loss has grown far above its lowest."""
        loss = metrics[LOSS]
        lowest = self._lowest[trial_id] = min(loss, self._lowest.get(trial_id, loss))
        if not 0 < self._factor * lowest < loss:
            return None
        why = f"loss is {loss:.3g} in epoch {epoch}, above {self._factor:g} times the lowest, {lowest:.3g}"
        return Stop(reason="diverged", why=why)


def build_epoch_stoppers(stoppers: Sequence[Stopper], objective: Objective) -> list[EpochStopper]:
    """The declared stoppers that look at epochs, in their order, with empty memories."""
    built: list[EpochStopper] = []
    for settings in stoppers:
        match settings:
            case Plateau():
                built.append(PlateauStopper(settings, objective))
            case Target():
                built.append(TargetStopper(settings, objective))
            case Divergence():
                built.append(DivergenceStopper(settings))
            case SpeedGuard() | BudgetCap():  # a trial's callback; the whole search's end
                pass
            case _:
                raise AssertionError(f"no stopper for {settings!r}")
    return built
