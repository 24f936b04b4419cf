"""What a searcher is to the platform: a function of its settings and of what the record says, and of nothing else.

A suggestion is a pure function of the search's seed, the trial's number and the trials so far. So the same results in
the same order give the same suggestions, and a resumed search goes on as if it had never been interrupted: there is no
state that could be lost.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from satdet.config import ConfigError
from search_spaces.declare import Experiment, Parameter, Skipped, Value

MOST_REDRAWS = 1000
"""Draws of one trial; if none of them can run, none ever will."""


State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Suggestion:
    """One trial to run.

    Attributes
    ----------
    values : dict
        The searched values by path.
    seed : int
        Of its training.
    why : dict
        Where the values come from: ``by`` (grid, random, sobol, model, declared, repeat), and what the searcher adds.
    skipped : tuple of Skipped
        Points that were drawn before and cannot run.
    """

    values: dict[str, Value]
    seed: int
    why: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Observation:
    """A trial of the history, as searchers see it.

    Attributes
    ----------
    number : int
        The trial's, from 0.
    values : mapping
        The searched values by path.
    state : str
        ``running`` (or waiting), ``complete``, ``pruned`` (ended by somebody else than itself), or ``failed``.
    curve : tuple
        Epoch (from 1) and the values of all objectives after it.
    best : tuple of float, optional
        Values of all objectives at the best epoch by the first; None before any.
    why : mapping
        Of its suggestion.
    """

    number: int
    values: Mapping[str, Any]
    state: State
    curve: tuple[tuple[int, tuple[float, ...]], ...]
    best: tuple[float, ...] | None
    why: Mapping[str, Any]


History = Callable[[], Sequence[Observation]]
"""All trials so far in the order of their numbers; called only by searchers that look at it."""


class Searcher(ABC):
    """Base of all searchers.

    Parameters
    ----------
    experiment : Experiment
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.space = experiment.space

    @property
    @abstractmethod
    def total(self) -> int:
        """How many trials there are, or are asked for."""

    @abstractmethod
    def suggest(self, number: int, history: History) -> Suggestion | None:
        """The trial of that number (0, 1, 2 …); None when there is none."""

    @abstractmethod
    def foreseen(self, number: int) -> Suggestion | None:
        """The trial of that number if it does not depend on results, else None."""


class SampledSearcher(Searcher):
    """Base of the searchers that draw one point after another, each of which is run with every seed.

    The experiment's known good points come first. A point that cannot run is drawn again, and reported.
    """

    @property
    def total(self) -> int:
        """Points times seeds."""
        assert self.experiment.trials is not None
        return self.experiment.trials * self.experiment.seeds

    def suggest(self, number: int, history: History) -> Suggestion | None:
        """The trial of that number; there is always one more."""
        point, seed = divmod(number, self.experiment.seeds)
        if seed:
            first = next(each for each in history() if each.number == number - seed)
            return Suggestion(dict(first.values), seed, {"by": "repeat", "of": first.number})
        if point < len(self.experiment.first):
            return Suggestion(dict(self.experiment.first[point]), seed, {"by": "declared"})
        return self._legal(point, history)

    def foreseen(self, number: int) -> Suggestion | None:
        """The trial of that number if no result changes it."""
        point, seed = divmod(number, self.experiment.seeds)
        if point >= len(self.experiment.first) and not self.independent(point):
            return None
        found = self.suggest(number - seed, lambda: ())
        if found is None or not seed:
            return found
        return Suggestion(found.values, seed, {"by": "repeat", "of": number - seed})

    @abstractmethod
    def independent(self, point: int) -> bool:
        """Whether that point is drawn without looking at results."""

    @abstractmethod
    def draw(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """The values of a point and why; `attempt` counts the draws that could not run."""

    def random_values(self, point: int, attempt: int) -> dict[str, Value]:
        """Independent draws from the declared distributions, one generator a parameter.

        A parameter's draws do not change when another one is added to the space or taken from it.
        """
        seed = getattr(self.experiment.searcher, "seed", 0)

        def choose(parameter: Parameter) -> Value:
            generator = random.Random(f"{seed} {point} {attempt} {parameter.name}")
            return parameter.domain.quantile(generator.random())

        return self.space.resolve(self.experiment.base, choose)

    @cached_property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that have more than one value."""
        return tuple(each for each in self.space.parameters if len(each.domain.values or (0, 1)) > 1)

    def _legal(self, point: int, history: History) -> Suggestion:
        skipped: list[Skipped] = []
        for attempt in range(MOST_REDRAWS):
            values, why = self.draw(point, attempt, history)
            reason = self.space.refusal(self.experiment.base, values)
            if reason is None:
                return Suggestion(values, 0, why, tuple(skipped))
            skipped.append(Skipped(values, reason))
        raise ConfigError(
            f"{self.experiment.name}: {MOST_REDRAWS} draws of trial {point} cannot run;"
            f" the last, {skipped[-1].values}: {skipped[-1].reason}"
        )
