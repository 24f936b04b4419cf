"""Covariance matrix adaptation, replayed from the history for each suggestion."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

from experiments.searchers.core import History, Observation, SampledSearcher
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
        self._population = int(self._start().population_size)

    def independent(self, point: int) -> bool:
        """The first generation."""
        return point < self._population

    def draw(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """The next point of the present generation."""
        trials = list(history())
        cma = self._start()
        generation, closing = 0, None
        while True:
            members = [each for each in trials if each.why.get("generation") == generation]
            asked = max((int(each.why["ask"]) for each in members), default=-1) + 1
            drawn = [cma.ask() for _ in range(asked)]
            told = self._closing(trials, members, generation)
            if told is None:
                break
            places = {each.number: int(each.why["ask"]) for each in members}
            cma.tell([(drawn[places[number]], self._cost(trials, number)) for number in told])
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

    def _closing(
        self, trials: Sequence[Observation], members: Sequence[Observation], generation: int
    ) -> list[int] | None:
        """The trials with which a generation was told, or can be told now; None while too few have ended."""
        following = [each for each in trials if each.why.get("generation") == generation + 1]
        if following:
            return list(min(following, key=lambda each: each.number).why["told"])
        ended = [each.number for each in members if self._ended(trials, each.number)]
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
