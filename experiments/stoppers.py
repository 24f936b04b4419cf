"""What may end a trial or a search besides the scheduler: callbacks of a trial, and the budget."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satdet.config import ConfigError, unknown_name
from search_spaces.declare import BudgetCap, Divergence, Experiment, SpeedGuard, Target

if TYPE_CHECKING:
    from experiments.state import SearchState
    from satdet.training import Callback

_UNITS = {"s": ("seconds", 1), "m": ("seconds", 60), "h": ("seconds", 3600), "gpuh": ("gpu_seconds", 3600),
          "epochs": ("epochs", 1)}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """A cap on the whole search, over all its sessions; None: no cap."""

    seconds: float | None = None
    gpu_seconds: float | None = None
    epochs: float | None = None

    def reached(self, state: "SearchState") -> bool:
        """Whether the search has spent what it was given."""
        return any(used >= cap for used, cap, _, _ in self._spent(state))

    def spent_text(self, state: "SearchState") -> str:
        """What is spent of what was given, for people; empty without a cap."""
        return ", ".join(
            f"{used / unit:.3g} of {cap / unit:.3g} {name}" for used, cap, unit, name in self._spent(state)
        )

    def _spent(self, state: "SearchState") -> list[tuple[float, float, float, str]]:
        """What is used, the cap, and the unit that it is told in, of each cap that there is."""
        trials = state.trials.values()
        caps = (
            (state.seconds, self.seconds, 3600.0, "h"),
            (sum(trial.gpu_seconds for trial in trials), self.gpu_seconds, 3600.0, "GPU h"),
            (float(sum(trial.epochs for trial in trials)), self.epochs, 1.0, "epochs"),
        )
        return [(used, cap, unit, name) for used, cap, unit, name in caps if cap is not None]


def parse_budget(text: str) -> Budget:
    """The cap that ``12h``, ``90m``, ``40gpuh`` or ``500epochs`` means.

    Raises
    ------
    ConfigError
        If it means none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"--budget {text!r} is not like 12h, 90m, 40gpuh or 500epochs")
    if match[2] not in _UNITS:
        raise ConfigError(f"--budget {text!r}: {unknown_name('unit', match[2], _UNITS)}")
    name, factor = _UNITS[match[2]]
    return Budget(**{name: float(match[1]) * factor})


@dataclass(frozen=True)
class SearchEnds:
    """What ends a whole search early: a budget, or a target that a trial has reached."""

    budget: Budget | None
    target: float | None = None

    @classmethod
    def of(cls, experiment: Experiment, budget: Budget | None) -> "SearchEnds":
        """The declared ends; a `budget` of the command line takes the place of a declared one."""
        for stopper in experiment.stoppers:
            if isinstance(stopper, BudgetCap) and budget is None:
                budget = Budget(stopper.seconds, stopper.gpu_seconds, stopper.epochs)
        targets = [each.value for each in experiment.stoppers if isinstance(each, Target) and each.ends_search]
        return cls(budget, targets[0] if targets else None)

    def reason(self, state: "SearchState") -> str | None:
        """Why the search should end now: ``budget``, ``target_reached``, or None."""
        if self.target is not None and (ranking := state.ranking()):
            best = ranking[0].best(state.metric, state.mode)[state.metric]
            if best >= self.target if state.mode == "max" else best <= self.target:
                return "target_reached"
        if self.budget is not None and self.budget.reached(state):
            return "budget"
        return None


def build_callbacks(
    settings: Sequence[Mapping[str, Any]], speeds: Mapping[str, Sequence[float]], hardware: str
) -> "list[Callback]":
    """The training callbacks among the declared stoppers (as plain data).

    Parameters
    ----------
    settings : sequence of mapping
    speeds : mapping
        Median images a second of finished trials up to each epoch, by hardware.
    hardware : str
        What this trial runs on.
    """
    from satdet import training

    callbacks: list[Callback] = []
    for each in settings:
        if each["kind"] == SpeedGuard.__name__:
            callbacks.append(
                training.SpeedGuard(
                    images_per_second=each["images_per_second"],
                    iterations_per_second=each["iterations_per_second"],
                    warmup_batches=each["warmup_batches"],
                    of_median=each["of_median"],
                    medians=speeds,
                    hardware=hardware,
                )
            )
        elif each["kind"] == Divergence.__name__:
            callbacks.append(training.Divergence())
    return callbacks
