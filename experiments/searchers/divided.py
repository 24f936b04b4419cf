"""A search divided by the values of one path, and the confirmation of what it found."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

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

    def _number(self, part: int, inner: int) -> int:
        """The number in the whole search of a part's trial."""
        point, seed = divmod(inner, self.experiment.seeds)
        return (point * len(self._parts) + part) * self.experiment.seeds + seed

    def _of_part(self, part: int, trials: Sequence[Observation]) -> list[Observation]:
        places = [(self._place(each.number), each) for each in trials]
        return [
            dataclasses.replace(each, number=inner, why=_renumbered(each.why, lambda number: self._place(number)[1]))
            for (owner, inner), each in places
            if owner == part
        ]

    def _whole(self, part: int, suggestion: Suggestion) -> Suggestion:
        """A part's suggestion in the order of the whole space."""
        assert self.experiment.each is not None
        values = {**suggestion.values, self.experiment.each: self._values[part]}
        ordered = {path: values[path] for path in self.space.paths if path in values}
        why = _renumbered(suggestion.why, lambda inner: self._number(part, inner)) | {"part": part}
        return dataclasses.replace(suggestion, values=ordered, why=why)


class ConfirmingSearcher(Searcher):
    """Another searcher, and after all its trials have ended the best points again with seeds that are new.

    A point is as good as the mean of its trials that have a result. The best of many is partly the luckiest; what is
    trained again has not been chosen for its luck. No scheduler may end these trials.
    """

    def __init__(self, experiment: Experiment, searcher: Searcher) -> None:
        super().__init__(experiment)
        self._searcher = searcher
        each = experiment.each
        self._values: Sequence[Value] = (None,) if each is None else self.space.domains[each].values or ()

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
        if any(each.state == "running" for each in searched):
            return None
        best = [point for value in self._values if (point := self._best(value, searched)) is not None]
        if place >= len(best) * self.experiment.confirm:
            return None
        seed, part = divmod(place, len(best))
        of = best[part]
        return Suggestion(dict(of.values), self.experiment.seeds + seed, {"by": "confirm", "of": of.number})

    def foreseen(self, number: int) -> Suggestion | None:
        """The search's own."""
        return self._searcher.foreseen(number) if number < self._searcher.total else None

    def _best(self, value: Value, trials: Sequence[Observation]) -> Observation | None:
        """The first trial of the best point with that value of `each`; None if no trial has a result."""
        each = self.experiment.each
        mine = [trial for trial in trials if each is None or trial.values[each] == value]
        points: dict[int, list[float]] = {}
        for trial in mine:
            if trial.best:
                points.setdefault(trial.why.get("of", trial.number), []).append(trial.best[0])
        if not points:
            return None
        choose = max if self.experiment.objective.mode == "max" else min
        number = choose(points, key=lambda point: fmean(points[point]))
        return next(trial for trial in mine if trial.number == number)


def _renumbered(why: Mapping[str, Any], renumber: Callable[[int], int]) -> dict[str, Any]:
    """With the numbers of the trials that it refers to as another search counts them."""
    renumbered = dict(why)
    if "of" in why:
        renumbered["of"] = renumber(why["of"])
    if why.get("told"):
        renumbered["told"] = [renumber(number) for number in why["told"]]
    return renumbered


def _part(experiment: Experiment, value: Value) -> Experiment:
    assert experiment.each is not None and experiment.trials is not None
    domains = {**experiment.space.domains, experiment.each: Constant(value)}
    space = SearchSpace(domains, experiment.space.conditions, experiment.space.constraints)
    first = tuple(point for point in experiment.first if point.get(experiment.each, value) == value)
    return dataclasses.replace(experiment, space=space, first=first, each=None, confirm=0)
