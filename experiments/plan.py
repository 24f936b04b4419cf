"""What a search would run, before anything starts."""

import math
import sys
from dataclasses import dataclass

from experiments.data import survey_path
from experiments.options import RunOptions
from experiments.paths import StoragePaths
from experiments.progress import clock
from experiments.ray_cluster import Capacity, TrialResources, divide, machine
from experiments.searchers import Suggestion, build_searcher
from satdet.config import TrialConfig, with_values
from search_spaces.declare import Experiment

_TILE_CPU_SECONDS = {"resnet18": 0.18, "resnet34": 0.20, "resnet50": 0.23, "resnet101": 0.29}
"""CPU seconds a trained tile of 128 px takes with the smoke values, its share of evaluation and checkpoints included.

Measured on one core of an AMD EPYC with AVX512-BF16 while a second trial ran on the other core.
"""


@dataclass(frozen=True)
class Plan:
    """The trials of a search with their configurations, and what each is given."""

    experiment: Experiment
    suggestions: tuple[Suggestion, ...]
    resources: TrialResources

    @property
    def configs(self) -> list[TrialConfig]:
        """The configuration of each trial."""
        return [with_values(self.experiment.base, each.values) for each in self.suggestions]

    @property
    def epochs(self) -> int:
        """The most epochs of a trial."""
        return max(config.training.epochs for config in self.configs)


def make_plan(experiment: Experiment, options: RunOptions, capacity: Capacity) -> Plan:
    """The plan of `experiment` on a cluster of that capacity.

    Raises
    ------
    UsageError
        If a trial could never be placed.
    """
    searcher = build_searcher(experiment.searcher, experiment)
    limit = min(searcher.total, options.trials or searcher.total)
    suggestions = tuple(found for number in range(limit) if (found := searcher.suggest(number)) is not None)
    resources = divide(
        capacity,
        experiment.resources,
        len(suggestions),
        concurrency=options.concurrency,
        cpus=options.cpus_per_trial,
        gpus=options.gpus_per_trial,
    )
    return Plan(experiment, suggestions, resources)


def print_plan(experiment: Experiment, options: RunOptions, storage: StoragePaths) -> None:
    """Write the plan to standard output."""
    plan = make_plan(experiment, options, machine())
    lines = [f"{experiment.name}: {experiment.question}"]
    lines += [f"  {number:4d}  {_values(each)}" for number, each in enumerate(plan.suggestions)]
    given = plan.resources
    lines.append(
        f"trials      {len(plan.suggestions)}, {given.concurrency} at a time, at most {plan.epochs} epochs each"
    )
    lines.append(f"resources   {given.cpus} CPUs and {given.gpus:g} GPUs a trial on this machine; 1 worker a trial")
    lines.append(f"searcher    {type(experiment.searcher).__name__}, scheduler {type(experiment.scheduler).__name__}")
    source = options.data or survey_path(storage, experiment.survey)
    lines.append(f"data        {source}")
    lines.append(f"cost        {_cost(plan, options)}")
    sys.stdout.write("\n".join(lines) + "\n")


def _values(suggestion: Suggestion) -> str:
    values = " ".join(f"{path}={value}" for path, value in suggestion.values.items())
    return f"{values or 'the base configuration'}  seed {suggestion.seed}"


def _cost(plan: Plan, options: RunOptions) -> str:
    """A rough figure for CPUs and simulated frames; elsewhere the number that a first trial will put a time to."""
    tiles = [_tiles_per_epoch(config, plan.experiment) for config in plan.configs]
    if plan.resources.gpus:
        return "trained tiles are known, their time on these GPUs is not before a trial has run"
    if options.data is not None and any(config.training.tiles_per_epoch is None for config in plan.configs):
        return "depends on the frames; known once they are prepared"
    seconds = [_trial_seconds(config, count) for config, count in zip(plan.configs, tiles, strict=True)]
    at_a_time = plan.resources.concurrency * plan.resources.cpus
    return (
        f"about {clock(sum(seconds) / at_a_time)} of training on {at_a_time} CPUs, if every trial runs all its epochs"
        f" ({sum(seconds) / 3600:.1f} CPU hours)"
    )


def _tiles_per_epoch(config: TrialConfig, experiment: Experiment) -> int:
    if config.training.tiles_per_epoch is not None:
        return config.training.tiles_per_epoch
    side = math.ceil(experiment.survey.size / config.tiles.size)
    return max(1, round(experiment.survey.frames * config.tiles.train_share)) * side * side


def _trial_seconds(config: TrialConfig, tiles: int) -> float:
    pixels = (config.tiles.size * config.detector.enlargement / 128) ** 2
    heads = 1.0 if config.detector.version == "v1" else 2.0
    return config.training.epochs * tiles * pixels * heads * _TILE_CPU_SECONDS[config.detector.backbone]
