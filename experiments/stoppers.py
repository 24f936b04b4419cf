"""What may end a trial or a search besides the scheduler: callbacks of a trial, and the budget."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from satdet.config import ConfigError, unknown_name
from search_spaces.declare import SpeedGuard

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

    def reached(self, state: "SearchState", gpus_per_trial: float) -> bool:
        """Whether the search has spent what it was given."""
        trial_seconds = sum(trial.seconds for trial in state.trials.values())
        spent = (
            (self.seconds, state.seconds),
            (self.gpu_seconds, trial_seconds * gpus_per_trial),
            (self.epochs, sum(trial.epochs for trial in state.trials.values())),
        )
        return any(cap is not None and used >= cap for cap, used in spent)


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


def build_callbacks(settings: Sequence[dict[str, Any]]) -> "list[Callback]":
    """The training callbacks that the declared stoppers (as plain data) describe."""
    from satdet import training

    builders = {SpeedGuard.__name__: training.SpeedGuard}
    return [builders[each["kind"]](**{key: each[key] for key in each if key != "kind"}) for each in settings]
