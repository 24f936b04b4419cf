"""The trials of a record as searchers see them."""

from collections.abc import Sequence

from experiments.searchers.core import Observation
from experiments.state import OPEN, SearchState, TrialState
from search_spaces.declare import Objective

_WHOLE = ("completed", "early_stopping", "plateau", "target_reached")
"""Ends after which more epochs were not expected to change anything."""


def observations(state: SearchState, objectives: Sequence[Objective]) -> list[Observation]:
    """All trials in the order of their numbers."""
    return [_observation(number, trial, objectives) for number, trial in enumerate(state.trials.values())]


def _observation(number: int, trial: TrialState, objectives: Sequence[Objective]) -> Observation:
    names = [objective.metric for objective in objectives]
    best = trial.best(names[0], objectives[0].mode)
    curve = tuple((epoch, tuple(metrics[name] for name in names)) for epoch, _, metrics in trial.results if epoch > 0)
    values = tuple(best[name] for name in names) if best else None
    if trial.status in OPEN:
        return Observation(number, trial.values, "running", curve, values, trial.why)
    if trial.status == "failed" or not best:
        return Observation(number, trial.values, "failed", curve, None, trial.why)
    whole = trial.stop_reason in _WHOLE
    return Observation(number, trial.values, "complete" if whole else "pruned", curve, values, trial.why)
