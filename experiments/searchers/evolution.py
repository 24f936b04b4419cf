"""Covariance matrix adaptation, replayed from the history for each suggestion."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

from experiments.searchers.core import MOST_REDRAWS, History, Observation, SampledSearcher
from search_spaces.declare import CMAES, Experiment, Parameter, Value


class CMAESSearcher(SampledSearcher):
    """One point after another from the present normal distribution in the unit cube.

    A generation is told to the algorithm once enough of its points have ended; the suggestion that begins the next one
    says which they were, so that a replay comes to the same distribution. Points drawn while others are still running
    belong to their generation. A failed trial counts as worse than any other.
    """

    def __init__(self, experiment: Experiment, settings: CMAES) -> None:
        super().__init__(experiment)
        self._settings = settings
        self._names = [parameter.name for parameter in self.searched]
        self._unchanged = self._start()
        self._population = int(self._unchanged.population_size)
        self._first: list[Any] = []

    def independent(self, point: int) -> bool:
        """The first generation."""
        return self._place(point) < self._population

    def draw(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """The next point of the present generation."""
        if self.independent(point):
            ask = self._first_ask(self._place(point)) + attempt
            return self._values(self._asked(ask)), {"by": "random", "generation": 0, "ask": ask}
        trials = list(history())
        cma = self._start()
        generation, closing = 0, None
        while True:
            asks = {each.number: int(each.why["ask"]) for each in trials if each.why.get("generation") == generation}
            asked = max(asks.values(), default=-1) + 1
            drawn = [cma.ask() for _ in range(asked)]
            told = self._closing(trials, list(asks), generation)
            if told is None:
                break
            cma.tell([(drawn[asks[number]], self._cost(trials, number)) for number in told])
            generation, closing = generation + 1, told
        for _ in range(attempt):
            cma.ask()
        why: dict[str, Any] = {
            "by": "model" if generation else "random",
            "generation": generation,
            "ask": asked + attempt,
        }
        if generation and not asked:
            why["told"] = closing
        return self._values(cma.ask()), why

    def _place(self, point: int) -> int:
        """Among the points that are drawn."""
        return point - len(self.experiment.first)

    def _first_ask(self, place: int) -> int:
        """The first draw that the points before have left, in the first generation."""
        ask = 0
        for _ in range(place):
            asks = range(ask, ask + MOST_REDRAWS)
            ask = next(filter(self._can_run, asks), asks[-1]) + 1
        return ask

    def _can_run(self, ask: int) -> bool:
        return self.space.refusal(self.experiment.base, self._values(self._asked(ask))) is None

    def _asked(self, ask: int) -> Any:
        """A draw of the first generation."""
        while ask >= len(self._first):
            self._first.append(self._unchanged.ask())
        return self._first[ask]

    def _start(self) -> Any:
        dimensions = max(1, len(self._names))
        return CMA(
            mean=np.full(dimensions, 0.5),
            sigma=self._settings.sigma,
            bounds=np.tile([0.0, 1.0], (dimensions, 1)),
            seed=self._settings.seed,
            population_size=self._settings.population,
        )

    def _values(self, point: Any) -> dict[str, Value]:
        shares = dict(zip(self._names, point.tolist(), strict=False))

        def choose(parameter: Parameter) -> Value:
            return parameter.domain.quantile(min(shares.get(parameter.name, 0.0), 1 - 1e-12))

        return self.space.resolve(self.experiment.base, choose)

    def _closing(self, trials: Sequence[Observation], members: Sequence[int], generation: int) -> list[int] | None:
        """The trials with which a generation was told, or can be told now; None while too few have ended."""
        following = [each for each in trials if each.why.get("generation") == generation + 1]
        if following:
            return list(min(following, key=lambda each: each.number).why["told"])
        ended = [number for number in members if self._ended(trials, number)]
        return sorted(ended)[: self._population] if len(ended) >= self._population else None

    def _ended(self, trials: Sequence[Observation], number: int) -> bool:
        replicates = self._replicates(trials, number)
        return len(replicates) == self.experiment.seeds and all(each.state != "running" for each in replicates)

    def _cost(self, trials: Sequence[Observation], number: int) -> float:
        sign = -1.0 if self.experiment.objective.mode == "max" else 1.0
        values = [sign * each.best[0] if each.best else math.inf for each in self._replicates(trials, number)]
        return sum(values) / len(values)

    def _replicates(self, trials: Sequence[Observation], number: int) -> list[Observation]:
        return [each for each in trials if number in (each.number, each.why.get("of"))]
