"""An experiment: the question, what is searched, how, on what, and how it shrinks to a smoke run."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from satdet.config import (
    ConfigError,
    TrialConfig,
    bounded,
    check_fields,
    evaluation_metric_names,
    flatten,
    leaf,
    leaf_paths,
    metric_names,
    unflatten,
    unknown_name,
    with_values,
)
from search_spaces.declare.discrete import IntUniform
from search_spaces.declare.distributions import Continuous, Quantised
from search_spaces.declare.domain import Domain
from search_spaces.declare.plain import Setting
from search_spaces.declare.settings import (
    Objective,
    Resources,
    RunAll,
    Scheduler,
    Searcher,
    Stopper,
    scheduler_of_json,
    searcher_of_json,
    stopper_of_json,
)
from search_spaces.declare.space import SearchSpace

_MOST_CELLS = 100_000


@dataclass(frozen=True, kw_only=True)
class SimulatedSurvey(Setting):
    """The frames used when no ``--data`` is given."""

    frames: int = bounded(120, minimum=3)
    size: int = bounded(1024, minimum=128)
    """Side of a frame [px]."""
    seed: int = bounded(1, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """What shrinks for ``--smoke``, and nothing else: survey, seeds, trials, some values of the base, and rungs."""

    survey: SimulatedSurvey
    values: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = bounded(1, minimum=1)
    confirm: int = bounded(1, minimum=0)
    """New seeds for the best point, at most."""
    trials: int | None = bounded(None, minimum=1)
    scheduler: Scheduler | None = None
    """The scheduler for so few epochs; None: the declared one."""
    stand_in_weights: bool = False
    """Random weights of the published files' form, made on first use, where the space asks for published ones: a smoke
    run needs no network, and says nothing about pretraining."""

    def __post_init__(self) -> None:
        check_fields(self.survey)
        with_values(TrialConfig(), self.values)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A declared experiment.

    Parameters
    ----------
    objective : Objective
        Decides which trial is best, and what searcher and scheduler look at.
    also : tuple of Objective
        Further objectives; with any, the answer is the Pareto front.
    trials : int, optional
        Points that a sampling searcher tries, each with every seed; of a grid, the most cells.
    first : tuple of mapping
        Known good points, tried before the searcher's own, each with every seed; they may lie outside the space.
    each : str, optional
        A path with finitely many values, each of which gets as many trials of a search of its own.
    confirm : int
        New seeds with which the best point (of every value of `each`) is trained again once the search is over.
    task : str
        ``train``, or ``evaluate``: each trial measures one checkpoint with other values of ``detector``.
    pictures_of : tuple of mapping
        Cells of an evaluation of which pictures are drawn.

    Raises
    ------
    ConfigError
        When a part does not fit: an unknown path, a space that its searcher cannot hold, no cell that can run.
    """

    name: str
    question: str
    base: TrialConfig
    space: SearchSpace
    objective: Objective
    searcher: Searcher
    smoke: Smoke
    also: tuple[Objective, ...] = ()
    trials: int | None = None
    first: tuple[Mapping[str, Any], ...] = ()
    scheduler: Scheduler = field(default_factory=RunAll)
    stoppers: tuple[Stopper, ...] = ()
    resources: Resources = field(default_factory=Resources)
    seeds: int = 3
    each: str | None = None
    confirm: int = 0
    survey: SimulatedSurvey = field(default_factory=SimulatedSurvey)
    task: Literal["train", "evaluate"] = "train"
    pictures_of: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"experiment name {self.name!r} is not an identifier")
        if not self.question:
            raise ConfigError(f"{self.name}: an experiment needs a question")
        for name, value in (("seeds", self.seeds), ("trials", 1 if self.trials is None else self.trials)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{self.name}: {name} = {value!r} is not a positive whole number")
        for objective in self.objectives:
            known = reported_metrics(flatten(self.base), self.task)
            if objective.metric not in known:
                raise ConfigError(unknown_name("metric", objective.metric, known))
        self._check_searcher()
        object.__setattr__(self, "first", tuple(self._checked_point(point) for point in self.first))
        object.__setattr__(self, "pictures_of", tuple(dict(cell) for cell in self.pictures_of))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives, the first one first."""
        return (self.objective, *self.also)

    def scaled_down(self) -> "Experiment":
        """The smoke version: the same space, searcher and stoppers on less data for less time."""
        smoke = self.smoke
        return dataclasses.replace(
            self,
            base=with_values(self.base, smoke.values),
            survey=smoke.survey,
            seeds=smoke.seeds,
            trials=smoke.trials or self.trials,
            confirm=min(self.confirm, smoke.confirm),
            scheduler=smoke.scheduler or self.scheduler,
        )

    def with_base_values(self, values: Mapping[str, Any]) -> "Experiment":
        """A copy with some values of the base replaced.

        Raises
        ------
        ConfigError
            For an unknown path or a bad value, or a path that the space varies.
        """
        varied = {path for parameter in self.space.parameters for path in (parameter.path, *_parts(parameter.domain))}
        for path in values:
            if path in varied:
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
            "also": [objective.to_json() for objective in self.also],
            "searcher": self.searcher.to_json(),
            "trials": self.trials,
            "first": [_plain(point) for point in self.first],
            "scheduler": self.scheduler.to_json(),
            "stoppers": [stopper.to_json() for stopper in self.stoppers],
            "resources": self.resources.to_json(),
            "seeds": self.seeds,
            "each": self.each,
            "confirm": self.confirm,
            "survey": self.survey.to_json(),
            "task": self.task,
            "pictures_of": [_plain(cell) for cell in self.pictures_of],
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "Experiment":
        """The experiment that `to_json` described; scaling it down again changes nothing."""
        survey = SimulatedSurvey(**_without_kind(data["survey"]))
        return cls(
            name=data["name"],
            question=data["question"],
            base=unflatten(data["base"]),
            space=SearchSpace.of_json(data["space"]),
            objective=Objective(**_without_kind(data["objective"])),
            also=tuple(Objective(**_without_kind(each)) for each in data["also"]),
            searcher=searcher_of_json(data["searcher"]),
            trials=data["trials"],
            first=tuple(data["first"]),
            scheduler=scheduler_of_json(data["scheduler"]),
            stoppers=tuple(stopper_of_json(each) for each in data["stoppers"]),
            resources=Resources(**_without_kind(data["resources"])),
            seeds=data["seeds"],
            each=data["each"],
            confirm=data["confirm"],
            survey=survey,
            task=data["task"],
            pictures_of=tuple(data["pictures_of"]),
            smoke=Smoke(survey=survey, seeds=data["seeds"], confirm=data["confirm"]),
        )

    def digest(self) -> str:
        """A stable hash of what is searched and how; resources do not count, for they do not change a result."""
        identity = {key: value for key, value in self.to_json().items() if key not in ("question", "resources")}
        identity["space"] = self.space.digest()
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _checked_point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A known good point with its values in the types of their paths."""
        with_values(self.base, self.space.expand(point))
        known = leaf_paths()
        checked = {path: leaf(path).check(value, path) if path in known else value for path, value in point.items()}
        if self.each in checked and self.space.domains[self.each].share(checked[self.each]) is None:
            raise ConfigError(
                f"{self.name}: first has {self.each} = {checked[self.each]!r}, which no search of each value would try"
            )
        return checked

    def _check_searcher(self) -> None:
        searcher, name = self.searcher, type(self.searcher).__name__
        parameters = self.space.parameters
        if searcher.sampled and self.trials is None:
            raise ConfigError(f"{self.name}: {name} needs a number of trials")
        self._check_division()
        if self.space.conditions and not searcher.conditional:
            raise ConfigError(
                f"{self.name}: {name} cannot hold conditions; use Random, QuasiRandom, TPE, NSGA2 or BOHB"
            )
        searched = [each for each in parameters if each.path != self.each and not _constant(each.domain)]
        if not searcher.categorical and (unordered := [each.path for each in searched if not _ordered(each.domain)]):
            raise ConfigError(
                f"{self.name}: {name} searches numbers only, and {', '.join(unordered)} has none; use TPE"
            )
        if len(self.objectives) > searcher.most_objectives and searcher.sampled:
            raise ConfigError(f"{self.name}: {name} knows one objective; use NSGA2, Random or QuasiRandom for several")
        if self.also and self.scheduler.single_objective:
            raise ConfigError(
                f"{self.name}: {type(self.scheduler).__name__} knows one objective; use RunAll for several"
            )
        if searcher.sampled:
            middle = self.space.resolve(self.base, lambda parameter: parameter.domain.quantile(0.5))
            self.space.refusal(self.base, middle)  # a condition that cannot be evaluated is noticed here
        else:
            self._check_cells()

    def _check_division(self) -> None:
        if (self.each or self.confirm) and not self.searcher.sampled:
            raise ConfigError(
                f"{self.name}: each and confirm are of searches that sample;"
                f" {type(self.searcher).__name__} runs every cell anyway"
            )
        if self.each is not None:
            domain = self.space.domains.get(self.each)
            if domain is None or domain.values is None:
                raise ConfigError(
                    f"{self.name}: each = {self.each!r} is not a path of the space with finitely many values"
                )
        if isinstance(self.confirm, bool) or not isinstance(self.confirm, int) or self.confirm < 0:
            raise ConfigError(f"{self.name}: confirm = {self.confirm!r} is not a number of seeds")

    def _check_cells(self) -> None:
        too_many = self.space.least_cells() > _MOST_CELLS
        cells = 0 if too_many else sum(1 for _ in itertools.islice(self.space.cells(self.base), _MOST_CELLS + 1))
        if too_many or cells > _MOST_CELLS:
            raise ConfigError(f"{self.name}: the grid has more than {_MOST_CELLS} cells; sample it")
        if not cells:
            skipped = next(self.space.skipped(self.base))
            raise ConfigError(f"{self.name}: no cell of the space can run; {skipped.values}: {skipped.reason}")


def reported_metrics(config: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """The metrics that a trial of that configuration (by path) reports, in training or in evaluation."""
    whole = unflatten(config)
    if task == "train":
        return metric_names(whole)
    return (*evaluation_metric_names(whole), "images_per_second", "seconds", "seconds_evaluation")


def _constant(domain: Domain) -> bool:
    return domain.values is not None and len(domain.values) == 1


def _ordered(domain: Domain) -> bool:
    return isinstance(domain, IntUniform | Continuous | Quantised) or all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in domain.values or ()
    )


def _parts(domain: Any) -> tuple[str, ...]:
    return getattr(domain, "paths", ())


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {path: list(value) if isinstance(value, tuple) else value for path, value in values.items()}


def _without_kind(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "kind"}
