"""A search in Optuna's terms: what of a record becomes directions, distributions and trials."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from experiments.record import Event
from experiments.searchers.history import observations
from experiments.state import SearchState, TrialState
from experiments.trackers.base import cell_name
from search_spaces.declare import (
    Domain,
    IntUniform,
    InverseLogUniform,
    LogNormal,
    LogUniform,
    Objective,
    Quantised,
    SearchSpace,
)
from search_spaces.declare.distributions import Continuous
from search_spaces.declare.expressions import Expression

_ENDS = {"complete": OptunaState.COMPLETE, "pruned": OptunaState.PRUNED, "failed": OptunaState.PRUNED}
"""States of trials that did not fail; one that was stopped before its first whole epoch has no value to complete it."""


class StudyView:
    """What Optuna shows of a search.

    Parameters
    ----------
    header : dict
        The record's first event.
    """

    def __init__(self, header: Event) -> None:
        declaration = header["declaration"]
        self.name = str(declaration["name"])
        self.attributes = {"search_id": header["search_id"], "question": declaration["question"]}
        self._search_id = header["search_id"]
        self._space = SearchSpace.of_json(declaration["space"])
        self._objectives = [
            Objective(metric=each["metric"], mode=each["mode"])
            for each in (declaration["objective"], *declaration["also"])
        ]
        self._distributions = {each.name: distribution_of(each.domain) for each in self._space.parameters}

    @property
    def directions(self) -> list[StudyDirection]:
        """One an objective."""
        modes = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        return [modes[each.mode] for each in self._objectives]

    def trial(self, trial: TrialState) -> FrozenTrial:
        """A trial as Optuna's: the values of its best epoch, and the first objective by epoch."""
        (observed,) = observations(SearchState(trials={trial.trial_id: trial}), self._objectives)
        state = _state_of(trial, observed.state)
        params, outside = self._params(trial)
        shown = create_trial(
            state=state,
            values=list(observed.best) if observed.best and state in _ENDS.values() else None,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            intermediate_values={epoch: values[0] for epoch, values in observed.curve},
            user_attrs=self._attributes(trial, outside),
        )
        if state is not OptunaState.WAITING and (began := _began(trial)) is not None:
            shown.datetime_start = datetime.fromtimestamp(began)
        if trial.ended_at is not None:
            shown.datetime_complete = datetime.fromtimestamp(trial.ended_at)
        return shown

    def _params(self, trial: TrialState) -> tuple[dict[str, Any], dict[str, Any]]:
        """The trial's parameters by name, and by path what the space does not hold."""
        known = dict.fromkeys(self._space.paths) | trial.config | trial.values
        params: dict[str, Any] = {}
        outside = dict(trial.values)
        for path, name, domain in self._counting(known):
            value = readable(trial.values.get(path))
            held = path in trial.values and domain.share(trial.values[path]) is not None
            if held and _holds(self._distributions[name], value):
                params[name] = value
                del outside[path]
        return params, outside

    def _counting(self, known: Mapping[str, Any]) -> list[tuple[str, str, Domain]]:
        """Path, name and domain of each parameter that counts; of a path, the first whose condition holds."""
        counting: dict[str, tuple[str, str, Domain]] = {}
        for each in sorted(self._space.parameters, key=lambda parameter: parameter.condition is None):
            if each.condition is None or Expression(each.condition).holds(known):
                counting.setdefault(each.path, (each.path, each.name, each.domain))
        return list(counting.values())

    def _attributes(self, trial: TrialState, outside: dict[str, Any]) -> dict[str, Any]:
        attributes = {
            "trial_id": trial.trial_id,
            "search_id": self._search_id,
            "seed": trial.seed,
            "cell": cell_name(trial),
            "status": trial.status,
            "suggested_by": trial.why.get("by"),
            "suggested": trial.why or None,
            "stop_reason": trial.stop_reason,
            "stop_detail": trial.detail,
            "error": trial.error,
            "hardware": trial.hardware,
            "outside_space": outside or None,
        }
        return {name: value for name, value in attributes.items() if value is not None}


def distribution_of(domain: Domain) -> BaseDistribution:
    """Optuna's distribution with the domain's own values; its ends, where the domain has none, are far quantiles."""
    of = domain.of if isinstance(domain, Quantised) else domain
    if not isinstance(of, Continuous | IntUniform):
        return CategoricalDistribution([readable(value) for value in domain.values or ()])
    low, high = _ends(domain)
    log = isinstance(of, LogUniform | InverseLogUniform | LogNormal) and low > 0
    step = getattr(domain, "step", None)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=1 if log else int(step or 1))
    return FloatDistribution(low, high, log=log, step=None if log else step)


def _ends(domain: Domain) -> list[Any]:
    if isinstance(domain, Continuous) and all(map(math.isfinite, domain.support)):
        return list(domain.support)
    ends: list[Any] = [domain.quantile(0.0), domain.quantile(1.0)]
    return sorted(ends)


def readable(value: Any) -> Any:
    """A value in a form that Optuna can keep: lists become text."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)  # type: ignore[attr-defined]


def _state_of(trial: TrialState, observed: str) -> OptunaState:
    if trial.ended_at is None:
        return OptunaState.RUNNING if trial.attempts else OptunaState.WAITING
    return OptunaState.FAIL if trial.status == "failed" else _ENDS[observed]


def _began(trial: TrialState) -> float | None:
    """When the first epoch began, or what is nearest to it."""
    if trial.results:
        _, time, metrics = trial.results[0]
        return time - metrics["seconds"]
    return trial.ended_at
