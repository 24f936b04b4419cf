"""Every cell of a finite space."""

from experiments.searchers.core import History, Searcher, Suggestion
from search_spaces.declare import Experiment


class GridSearcher(Searcher):
    """The known good points and all cells with the first seed, then all with the next.

    So the first answer comes early, the intervals later.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        cells = list(self.space.cells(experiment.base))
        declared = [dict(point) for point in experiment.first]
        self._cells = [(cell, "declared") for cell in declared]
        self._cells += [(cell, "grid") for cell in cells if cell not in declared]
        self._cells = self._cells[: experiment.trials]

    @property
    def total(self) -> int:
        """Cells times seeds."""
        return len(self._cells) * self.experiment.seeds

    def suggest(self, number: int, history: History) -> Suggestion | None:
        """The trial of that number; numbers are stable, whatever ended when."""
        return self.foreseen(number)

    def foreseen(self, number: int) -> Suggestion | None:
        """The trial of that number."""
        if number >= self.total:
            return None
        seed, cell = divmod(number, len(self._cells))
        values, by = self._cells[cell]
        return Suggestion(dict(values), seed, {"by": by})
