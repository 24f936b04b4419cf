"""An experiment: the question, what is searched, how, on what, and how it shrinks to a smoke run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from satdet.config import (
    ConfigError,
    TrialConfig,
    bounded,
    check_fields,
    flatten,
    metric_names,
    unknown_name,
    with_values,
)
from search_spaces.declare.settings import Objective, Resources, RunAll, Scheduler, Searcher, Setting, Stopper
from search_spaces.declare.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SimulatedSurvey(Setting):
    """The frames used when no ``--data`` is given."""

    frames: int = bounded(120, minimum=3)
    size: int = bounded(1024, minimum=128)
    """Side of a frame [px]."""
    seed: int = bounded(1, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """What shrinks for ``--smoke``, and nothing else: the survey, the seeds, and some values of the base."""

    survey: SimulatedSurvey
    values: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = bounded(1, minimum=1)

    def __post_init__(self) -> None:
        check_fields(self.survey)
        with_values(TrialConfig(), self.values)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A declared experiment.

    Raises
    ------
    ConfigError
        When a part does not fit: an unknown path, a cell that the configuration refuses, no question.
    """

    name: str
    question: str
    base: TrialConfig
    space: SearchSpace
    objective: Objective
    searcher: Searcher
    smoke: Smoke
    scheduler: Scheduler = field(default_factory=RunAll)
    stoppers: tuple[Stopper, ...] = ()
    resources: Resources = field(default_factory=Resources)
    seeds: int = 3
    survey: SimulatedSurvey = field(default_factory=SimulatedSurvey)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"experiment name {self.name!r} is not an identifier")
        if not self.question:
            raise ConfigError(f"{self.name}: an experiment needs a question")
        if isinstance(self.seeds, bool) or not isinstance(self.seeds, int) or self.seeds < 1:
            raise ConfigError(f"{self.name}: seeds = {self.seeds!r} is not a positive whole number")
        if self.objective.metric not in metric_names(self.base):
            raise ConfigError(unknown_name("metric", self.objective.metric, metric_names(self.base)))
        for cell in self.space.cells():
            with_values(self.base, cell)

    def scaled_down(self) -> "Experiment":
        """The smoke version: same space, searcher, scheduler and stoppers on less data for less time."""
        base = with_values(self.base, self.smoke.values)
        return dataclasses.replace(self, base=base, survey=self.smoke.survey, seeds=self.smoke.seeds)

    def with_base_values(self, values: Mapping[str, Any]) -> "Experiment":
        """A copy with some values of the base replaced.

        Raises
        ------
        ConfigError
            For an unknown path or a bad value, or a path that the space varies.
        """
        for path in values:
            if path in self.space.domains:
                raise ConfigError(f"{path} is searched by {self.name}; --set can only change what it does not vary")
        return dataclasses.replace(self, base=with_values(self.base, values))

    def to_json(self) -> dict[str, Any]:
        """The whole declaration as plain data."""
        return {
            "name": self.name,
            "question": self.question,
            "base": flatten(self.base),
            "space": self.space.to_json(),
            "objective": self.objective.to_json(),
            "searcher": self.searcher.to_json(),
            "scheduler": self.scheduler.to_json(),
            "stoppers": [stopper.to_json() for stopper in self.stoppers],
            "resources": self.resources.to_json(),
            "seeds": self.seeds,
            "survey": self.survey.to_json(),
        }

    def digest(self) -> str:
        """A stable hash of what is searched and how; resources do not count, for they do not change a result."""
        identity = {key: value for key, value in self.to_json().items() if key not in ("question", "resources")}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
