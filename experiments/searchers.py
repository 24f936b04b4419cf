"""From a searcher's settings to suggestions. A new searcher is one class here and one line in `build_searcher`."""

from dataclasses import dataclass
from typing import Protocol

from search_spaces.declare import Experiment, Grid, Searcher, Value


@dataclass(frozen=True)
class Suggestion:
    """One trial to run: the searched values by path, and the seed of its training."""

    values: dict[str, Value]
    seed: int


class SuggestsTrials(Protocol):
    """The contract of a searcher."""

    @property
    def total(self) -> int:
        """How many trials there will be."""

    def suggest(self, number: int) -> Suggestion | None:
        """The trial of that number (0, 1, 2 …); None when there is none."""


class GridSearcher:
    """All cells with the first seed, then all with the next: the first answer comes early, the intervals later."""

    def __init__(self, experiment: Experiment) -> None:
        self._cells = list(experiment.space.cells())
        self._seeds = experiment.seeds

    @property
    def total(self) -> int:
        """Cells times seeds."""
        return len(self._cells) * self._seeds

    def suggest(self, number: int) -> Suggestion | None:
        """The trial of that number; numbers are stable, whatever ended when."""
        if number >= self.total:
            return None
        seed, cell = divmod(number, len(self._cells))
        return Suggestion(self._cells[cell], seed)


def build_searcher(settings: Searcher, experiment: Experiment) -> SuggestsTrials:
    """The searcher that `settings` describe."""
    match settings:
        case Grid():
            return GridSearcher(experiment)
