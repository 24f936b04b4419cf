"""Searchers that learn from results, on Optuna's samplers.

For each suggestion a study is built from the history, and a sampler from the seed and the trial's number. That costs
milliseconds, and in return no sampler has a state that a resume could lose.
"""

import dataclasses
import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, ClassVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from experiments.searchers.core import History, Observation, SampledSearcher, State
from satdet.config import flatten
from search_spaces.declare import (
    BOHB,
    GP,
    NSGA2,
    TPE,
    Beta,
    Choice,
    Experiment,
    Fragments,
    IntUniform,
    Normal,
    Parameter,
    Permutation,
    Quantised,
    Value,
)

_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_MOST_ASKS = 5
_TAIL = 1e-3
_GENERATION = NSGAIISampler._get_generation_key()


class Coordinate:
    """A parameter as Optuna sees it: unordered values by their place, numbers by their place or share.

    Numbers are searched in the unit cube of the space, where each declared distribution is uniform: a model's first
    guess is the declaration. Of distributions with tails the outermost thousandths are left to random draws: a model
    likes to try the ends, and there these have values that nobody means.
    """

    def __init__(self, parameter: Parameter) -> None:
        self.name = parameter.name
        self._domain = domain = parameter.domain
        self._values = domain.values or ()
        self.distribution: BaseDistribution
        if isinstance(domain, Choice | Permutation | Fragments):
            self.distribution = CategoricalDistribution(list(range(len(self._values))))
        elif isinstance(domain, IntUniform):
            self.distribution = IntDistribution(0, len(self._values) - 1)
        else:
            real = domain.of if isinstance(domain, Quantised) else domain
            tail = _TAIL if isinstance(real, Normal | Beta) else 0.0
            self.distribution = FloatDistribution(tail, 1.0 - tail)

    def of(self, value: Any) -> Any:
        """The coordinate of a declared value; None if the domain does not hold it."""
        share = self._domain.share(value)
        if share is None:
            return None
        if isinstance(self.distribution, FloatDistribution):
            return min(max(share, self.distribution.low), self.distribution.high)
        return self._values.index(self._domain.quantile(share))

    def suggest(self, trial: Trial) -> Value:
        """The declared value of the coordinate that Optuna suggests."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return self._values[int(trial.suggest_categorical(self.name, choices) or 0)]
            case IntDistribution(low=low, high=high):
                return self._values[trial.suggest_int(self.name, low, high)]
            case FloatDistribution(low=low, high=high):
                return self._domain.quantile(trial.suggest_float(self.name, low, high))
        raise AssertionError(self.distribution)


class ModelSearcher(SampledSearcher):
    """Base of the searchers that ask an Optuna sampler.

    Parameters
    ----------
    experiment : Experiment
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self._coordinates = {parameter.name: Coordinate(parameter) for parameter in self.searched}
        self._unset = flatten(experiment.base)
        self._directions = [
            StudyDirection.MAXIMIZE if each.mode == "max" else StudyDirection.MINIMIZE for each in experiment.objectives
        ]

    def draw(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """The model's point, or a random one if the model insists on what cannot run."""
        if attempt >= _MOST_ASKS:
            return self.random_values(point, attempt), {"by": "random", "asked": attempt}
        return self.drawn(point, attempt, history)

    @abstractmethod
    def drawn(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """As `draw`, for the first few attempts."""

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """A sampler of that seed."""

    def ask(
        self, point: int, attempt: int, trials: Sequence[FrozenTrial]
    ) -> tuple[dict[str, Value], Mapping[str, Any]]:
        """The sampler's next point after `trials`, and the attributes that it gave its trial."""
        with _quiet():
            study = optuna.create_study(directions=self._directions, sampler=self.sampler(self.seed_of(point, attempt)))
            study.add_trials(trials)
            trial = study.ask()
            values = self.space.resolve(self.experiment.base, lambda parameter: self._choose(trial, parameter))
            return values, study.get_trials(deepcopy=False)[trial.number].system_attrs

    def told(self, observation: Observation) -> FrozenTrial | None:
        """A trial of the history as Optuna's; None if the space does not hold its values."""
        params = self.coordinates_of(observation.values)
        if params is None:
            return None
        state = _STATES[observation.state]
        values: Any = observation.best
        if state is TrialState.PRUNED and (len(self._directions) > 1 or not observation.curve):
            state = TrialState.COMPLETE if values is not None else TrialState.FAIL
        if state is TrialState.COMPLETE and values is None:
            state = TrialState.FAIL
        curve = {epoch: best[0] for epoch, best in observation.curve} if len(self._directions) == 1 else {}
        return create_trial(
            state=state,
            values=list(values) if state is TrialState.COMPLETE else None,
            params=params,
            distributions={name: self._coordinates[name].distribution for name in params},
            intermediate_values=curve if state in (TrialState.PRUNED, TrialState.RUNNING) else {},
            system_attrs=self.attributes(observation),
        )

    def coordinates_of(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The coordinates of a point, which has the base's values where it says none; None if the space has no such."""
        params: dict[str, Any] = {}

        def choose(parameter: Parameter) -> Any:
            value = values.get(parameter.path, self._unset.get(parameter.path))
            if parameter.name in self._coordinates:
                params[parameter.name] = self._coordinates[parameter.name].of(value)
            elif parameter.domain.share(value) is None:
                params[parameter.name] = None
            return value

        resolved = self.space.resolve(self.experiment.base, choose)
        if set(values) - set(resolved) or None in params.values():
            return None
        return params

    def attributes(self, observation: Observation) -> dict[str, Any]:
        """What the sampler had noted about a trial."""
        return {}

    def seed_of(self, point: int, attempt: int) -> int:
        """The sampler's seed for a suggestion."""
        seed = getattr(self.experiment.searcher, "seed", 0)
        return int.from_bytes(hashlib.sha256(f"{seed} {point} {attempt}".encode()).digest()[:4])

    def _choose(self, trial: Trial, parameter: Parameter) -> Value:
        if parameter.name not in self._coordinates:
            return parameter.domain.quantile(0.0)
        return self._coordinates[parameter.name].suggest(trial)

    def _told(self, history: History) -> list[FrozenTrial]:
        return [told for each in history() if (told := self.told(each)) is not None]


class _WithStartup(ModelSearcher):
    """Random draws until enough trials have ended, then the model's."""

    startup: int
    learns_from: ClassVar[tuple[TrialState, ...]] = (TrialState.COMPLETE, TrialState.PRUNED)

    def independent(self, point: int) -> bool:
        """Points before it are too few for a model."""
        return point < self.startup

    def drawn(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """The model's point, or a random one at the start."""
        trials = self._told(history) if point >= self.startup else []
        known = sum(trial.state in self.learns_from for trial in trials)
        if known < self.startup:
            return self.random_values(point, attempt), {"by": "random", "known": known, "needed": self.startup}
        values, _ = self.ask(point, attempt, trials)
        return values, {"by": "model", "known": known}


class TPESearcher(_WithStartup):
    """Tree-structured Parzen estimator."""

    def __init__(self, experiment: Experiment, settings: TPE) -> None:
        super().__init__(experiment)
        self._settings = settings
        self.startup = settings.startup

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's, which is told of running trials as bad ones."""
        return TPESampler(
            seed=seed,
            n_startup_trials=0,
            n_ei_candidates=self._settings.candidates,
            multivariate=self._settings.multivariate,
            group=self._settings.multivariate,
            constant_liar=self._settings.constant_liar,
        )


class GPSearcher(_WithStartup):
    """Gaussian process; it learns from trials that ended by themselves and knows which are running."""

    learns_from: ClassVar[tuple[TrialState, ...]] = (TrialState.COMPLETE,)

    def __init__(self, experiment: Experiment, settings: GP) -> None:
        super().__init__(experiment)
        self.startup = settings.startup

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's, for noisy objectives: a training is never twice the same on other seeds."""
        return GPSampler(seed=seed, n_startup_trials=0)


class NSGA2Searcher(ModelSearcher):
    """Non-dominated sorting genetic algorithm; the generation of a trial is kept in its suggestion.

    An individual is a point, with the means of its trials on several seeds.
    """

    def __init__(self, experiment: Experiment, settings: NSGA2) -> None:
        super().__init__(experiment)
        self._population = settings.population

    def independent(self, point: int) -> bool:
        """The first generation is drawn from the declared distributions."""
        return point < self._population

    def drawn(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """A child of the generation before, or a random point in the first."""
        if point < self._population:
            return self.random_values(point, attempt), {"by": "random", "generation": 0}
        values, attributes = self.ask(point, attempt, self._told(lambda: _merged(history())))
        generation = int(attributes.get(_GENERATION, 0))
        return values, {"by": "model" if generation else "random", "generation": generation}

    def attributes(self, observation: Observation) -> dict[str, Any]:
        """The trial's generation."""
        return {_GENERATION: int(observation.why.get("generation", 0))}

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's."""
        return NSGAIISampler(population_size=self._population, seed=seed)


class BOHBSearcher(ModelSearcher):
    """TPE on the results at the largest number of epochs that enough trials have reached (BOHB's model)."""

    def __init__(self, experiment: Experiment, settings: BOHB) -> None:
        super().__init__(experiment)
        self._settings = settings
        self._needed = (settings.min_points or len(self.searched) + 1) + 2

    def independent(self, point: int) -> bool:
        """A model needs so many trials."""
        return point < self._needed or self._by_chance(point)

    def drawn(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """A random draw now and then, else the model's on the deepest epoch that has one."""
        if self._by_chance(point):
            return self.random_values(point, attempt), {"by": "random", "share": self._settings.random_fraction}
        earlier = history() if point >= self._needed else ()
        trials = [each for each in earlier if self.coordinates_of(each.values) is not None]
        reached = sorted((each.curve[-1][0] for each in trials if each.curve), reverse=True)
        if len(reached) < self._needed:
            return self.random_values(point, attempt), {"by": "random", "known": len(reached), "needed": self._needed}
        epoch = reached[self._needed - 1]
        seen = [told for each in trials if (told := self._at(each, epoch)) is not None]
        values, _ = self.ask(point, attempt, seen)
        known = sum(trial.state is TrialState.COMPLETE for trial in seen)
        return values, {"by": "model", "epoch": epoch, "known": known}

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's multivariate TPE, without a start of its own."""
        return TPESampler(
            seed=seed,
            n_startup_trials=0,
            n_ei_candidates=self._settings.candidates,
            multivariate=True,
            group=True,
            constant_liar=True,
        )

    def _by_chance(self, point: int) -> bool:
        return self.seed_of(point, -1) / 2**32 < self._settings.random_fraction

    def _at(self, observation: Observation, epoch: int) -> FrozenTrial | None:
        """The trial as if it had ended at `epoch`; running if it may yet come there, else None."""
        choose = max if self.experiment.objective.mode == "max" else min
        values = [value[0] for at, value in observation.curve if at <= epoch]
        arrived = bool(values) and observation.curve[-1][0] >= epoch
        if not arrived and observation.state != "running":
            return None
        state: State = "complete" if arrived else "running"
        best = (choose(values),) if arrived else None
        return self.told(dataclasses.replace(observation, state=state, curve=(), best=best))


def _merged(trials: Sequence[Observation]) -> list[Observation]:
    """One observation a point, which runs as long as one of its trials does."""
    merged = []
    for first in (each for each in trials if each.why.get("by") != "repeat"):
        own = [each for each in trials if each is first or each.why.get("of") == first.number]
        results = [each.best for each in own if each.best]
        means = tuple(map(fmean, zip(*results, strict=True))) if results else None
        state: State = next((each.state for each in own if each.best), "failed")
        if any(each.state == "running" for each in own):
            state = "running"
        merged.append(dataclasses.replace(first, state=state, best=means))
    return merged


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces every study and calls some of its arguments experimental; both are of no use to a searcher."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
