"""Searchers that never look at a result: random and quasi-random."""

from typing import Any

from experiments.searchers.core import MOST_REDRAWS, History, SampledSearcher
from search_spaces.declare import Experiment, Parameter, QuasiRandom, Value

_BLOCK = 64


class RandomSearcher(SampledSearcher):
    """Independent draws from the declared distributions."""

    def independent(self, point: int) -> bool:
        """Always."""
        return True

    def draw(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """One draw a parameter."""
        return self.random_values(point, attempt), {"by": "random"}


class QuasiRandomSearcher(SampledSearcher):
    """A scrambled Sobol sequence (Owen 1998), of which what cannot run is left out.

    Each parameter has its own dimension, whether it counts at a point or not.
    """

    def __init__(self, experiment: Experiment, settings: QuasiRandom) -> None:
        super().__init__(experiment)
        self._seed = settings.seed
        self._dimensions = {parameter.name: place for place, parameter in enumerate(self.searched)}
        self._cube: list[list[float]] = []
        self._starts: list[int] = [0]

    def independent(self, point: int) -> bool:
        """Always."""
        return True

    def draw(self, point: int, attempt: int, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """The next element of the sequence."""
        element = self._start(point - len(self.experiment.first)) + attempt
        return self._values(element), {"by": "sobol", "element": element}

    def _start(self, point: int) -> int:
        """The first element that the points before have left."""
        while len(self._starts) <= point:
            start = self._starts[-1]
            elements = range(start, start + MOST_REDRAWS)
            self._starts.append(next(filter(self._can_run, elements), elements[-1]) + 1)
        return self._starts[point]

    def _can_run(self, element: int) -> bool:
        return self.space.refusal(self.experiment.base, self._values(element)) is None

    def _values(self, element: int) -> dict[str, Value]:
        shares = self._shares(element)

        def choose(parameter: Parameter) -> Value:
            place = self._dimensions.get(parameter.name)
            return parameter.domain.quantile(0.0 if place is None else shares[place])

        return self.space.resolve(self.experiment.base, choose)

    def _shares(self, element: int) -> list[float]:
        if element >= len(self._cube):
            from scipy.stats.qmc import Sobol

            sequence = Sobol(max(1, len(self._dimensions)), scramble=True, rng=self._seed)
            while element >= len(self._cube):
                blocks = 1 + len(self._cube) // _BLOCK
                count = 1 << (blocks * _BLOCK - 1).bit_length()
                self._cube = sequence.reset().random(count).tolist()
        return self._cube[element]
