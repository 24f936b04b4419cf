"""Learning curves of real trainings, and which of them stands in for a suggested trial."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from satdet.errors import ConfigError, UsageError
from search_spaces.declare import Experiment


@dataclass(frozen=True)
class Recording:
    """One training.

    Attributes
    ----------
    point : int
        Trainings of one point have the same values and different seeds.
    values : mapping
        The searched values by path.
    curve : tuple of float
        The objective after each epoch.
    seconds : tuple of float
        Each epoch's.
    """

    point: int
    values: Mapping[str, Any]
    curve: tuple[float, ...]
    seconds: tuple[float, ...]


class Recordings:
    """All recorded trainings of an experiment.

    A suggested trial is replaced by the recorded point nearest to it in the unit cube of the space, where each declared
    distribution is uniform and a choice's options lie at the middles of their parts.

    Parameters
    ----------
    experiment : Experiment
        What was recorded. Its space has no conditions, and its base the number of epochs.
    recordings : iterable of Recording
        A curve shorter than the experiment's epochs is one of a training that failed in the next.

    Raises
    ------
    ConfigError
        If the space has conditions, a recorded value lies outside it, or nothing was recorded.
    """

    def __init__(self, experiment: Experiment, recordings: Iterable[Recording]) -> None:
        if experiment.space.conditions:
            raise ConfigError(f"{experiment.name}: a space with conditions has no unit cube to find recordings in")
        self.experiment = experiment
        self._of_point: dict[int, list[Recording]] = {}
        for recording in recordings:
            self._of_point.setdefault(recording.point, []).append(recording)
        if not self._of_point:
            raise ConfigError(f"{experiment.name}: no training was recorded")
        self._places = {point: self._place(each[0].values) for point, each in self._of_point.items()}
        self._nearest = lru_cache(maxsize=4096)(self._find)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The recordings that ``benchmarks.learning_curves`` wrote to `path`.

        Raises
        ------
        UsageError
            If there is no such file, or it is damaged.
        """
        try:
            header, *lines = map(json.loads, path.read_text().splitlines())
            experiment = Experiment.of_json(header["experiment"])
            metric = experiment.objective.metric
            trainings = [
                Recording(line["point"], line["values"], tuple(line[metric]), tuple(line["seconds"])) for line in lines
            ]
        except FileNotFoundError:
            raise UsageError(f"{path}: no recorded curves; python -m benchmarks.learning_curves makes them") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not a file of recorded curves ({error!r})") from None
        return cls(experiment, trainings)

    @property
    def points(self) -> list[list[Recording]]:
        """The trainings of each point, in the order of recording."""
        return list(self._of_point.values())

    def nearest(self, values: Mapping[str, Any]) -> list[Recording]:
        """The trainings of the recorded point nearest to `values`; of equally near points, the first recorded."""
        return self._of_point[self._nearest(self._place(values))]

    def __reduce__(self) -> Any:
        return type(self), (self.experiment, [each for point in self.points for each in point])

    def _find(self, place: tuple[float, ...]) -> int:
        return min(self._places, key=lambda point: math.dist(self._places[point], place))

    def _place(self, values: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(self._share(path, values) for path in self.experiment.space.paths)

    def _share(self, path: str, values: Mapping[str, Any]) -> float:
        share = self.experiment.space.domains[path].share(values.get(path))
        if share is None:
            raise ConfigError(f"{path} = {values.get(path)!r} lies outside the space of the recorded curves")
        return float(share)
