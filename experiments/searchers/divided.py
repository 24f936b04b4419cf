"""A search divided by the values of one path, and the confirmation of what it found."""

import dataclasses
from collections.abc import Callable, Sequence

from experiments.searchers.core import History, Observation, Searcher, Suggestion
from search_spaces.declare import Constant, Experiment, SearchSpace, Value


class DividedSearcher(Searcher):
    """One search for each value of a path, in turn, so that each has as many trials.

    Parameters
    ----------
    experiment : Experiment
        With ``each``.
    build : callable
        Makes the searcher of a part.
    """

    def __init__(self, experiment: Experiment, build: Callable[[Experiment], Searcher]) -> None:
        super().__init__(experiment)
        assert experiment.each is not None
        self._values = self.space.domains[experiment.each].values
        self._parts = [build(_part(experiment, value)) for value in self._values]

    @property
    def total(self) -> int:
        """Points times seeds."""
        assert self.experiment.trials is not None
        return self.experiment.trials * self.experiment.seeds

    def suggest(self, number: int, history: History) -> Suggestion | None:
        """The trial of that number: the next one of the search whose turn it is."""
        part, inner = self._place(number)
        suggestion = self._parts[part].suggest(inner, lambda: self._of_part(part, history()))
        return suggestion and self._whole(part, suggestion)

    def foreseen(self, number: int) -> Suggestion | None:
        """The trial of that number if it does not depend on results."""
        part, inner = self._place(number)
        suggestion = self._parts[part].foreseen(inner)
        return suggestion and self._whole(part, suggestion)

    def _place(self, number: int) -> tuple[int, int]:
        """Which search a trial belongs to, and its number there."""
        point, seed = divmod(number, self.experiment.seeds)
        inner, part = divmod(point, len(self._parts))
        return part, inner * self.experiment.seeds + seed

    def _of_part(self, part: int, trials: Sequence[Observation]) -> list[Observation]:
        places = [(self._place(each.number), each) for each in trials]
        return [dataclasses.replace(each, number=inner) for (owner, inner), each in places if owner == part]

    def _whole(self, part: int, suggestion: Suggestion) -> Suggestion:
        """A part's suggestion in the order of the whole space."""
        assert self.experiment.each is not None
        values = {**suggestion.values, self.experiment.each: self._values[part]}
        ordered = {path: values[path] for path in self.space.paths if path in values}
        return dataclasses.replace(suggestion, values=ordered, why=suggestion.why | {"part": part})


class ConfirmingSearcher(Searcher):
    """Another searcher, and after all its trials have ended the best of them again with seeds that are new.

    The best of many trials is partly the luckiest; what is trained again has not been chosen for its luck. No scheduler
    may end these trials.
    """

    def __init__(self, experiment: Experiment, searcher: Searcher) -> None:
        super().__init__(experiment)
        self._searcher = searcher
        each = experiment.each
        self._values: Sequence[Value] = (None,) if each is None else self.space.domains[each].values

    @property
    def total(self) -> int:
        """The search's trials and those that confirm."""
        return self._searcher.total + len(self._values) * self.experiment.confirm

    def suggest(self, number: int, history: History) -> Suggestion | None:
        """The trial of that number; None while a trial of the search is still running."""
        place = number - self._searcher.total
        if place < 0:
            return self._searcher.suggest(number, history)
        searched = [each for each in history() if each.number < self._searcher.total]
        if place >= len(self._values) * self.experiment.confirm or any(each.state == "running" for each in searched):
            return None
        seed, part = divmod(place, len(self._values))
        best = self._best(self._values[part], searched)
        if best is None:
            return None
        return Suggestion(dict(best.values), self.experiment.seeds + seed, {"by": "confirm", "of": best.number})

    def foreseen(self, number: int) -> Suggestion | None:
        """The search's own."""
        return self._searcher.foreseen(number) if number < self._searcher.total else None

    def _best(self, value: Value, trials: Sequence[Observation]) -> Observation | None:
        each, mode = self.experiment.each, self.experiment.objective.mode
        sign = 1 if mode == "max" else -1
        mine = [trial for trial in trials if trial.best and (each is None or trial.values[each] == value)]
        return max(mine, key=lambda trial: sign * trial.best[0] if trial.best else 0.0, default=None)


def _part(experiment: Experiment, value: Value) -> Experiment:
    assert experiment.each is not None and experiment.trials is not None
    domains = {**experiment.space.domains, experiment.each: Constant(value)}
    space = SearchSpace(domains, experiment.space.conditions, experiment.space.constraints)
    first = tuple(point for point in experiment.first if point.get(experiment.each, value) == value)
    return dataclasses.replace(experiment, space=space, first=first, each=None, confirm=0)
