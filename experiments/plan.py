"""What a search would run, before anything starts."""

import itertools
import math
import sys
import typing
from collections.abc import Container, Mapping
from dataclasses import dataclass

from experiments.data import survey_path
from experiments.options import RunOptions
from experiments.paths import StoragePaths
from experiments.progress import clock
from experiments.resources import Capacity, TrialResources, divide, machine
from experiments.searchers import Suggestion, build_searcher
from experiments.wording import setting_text, space_lines, values_text
from satdet.config import ConfigError, TrialConfig, with_values
from satdet.errors import UsageError
from search_spaces import Declaration
from search_spaces.declare import Choice, Domain, Experiment, SearchSpace, Skipped, When

_TILE_CPU_SECONDS = {"resnet18": 0.18, "resnet34": 0.20, "resnet50": 0.23, "resnet101": 0.29}
"""CPU seconds a trained tile of 128 px takes with the smoke values, its share of evaluation and checkpoints included.

Measured on one core of an AMD EPYC with AVX512-BF16 while a second trial ran on the other core.
"""
_WORTH_KNOWING = (
    "tiles.", "detector.backbone", "detector.version", "detector.weights", "detector.input_adaptation",
    "training.batch_size", "training.tiles_per_epoch", "training.empty_tiles", "training.epochs", "augmentation.crop",
)  # fmt: skip
"""What decides on the data that must be prepared, on weights that must be there, and on the cost."""
_MOST_CONFIGS = 4096
_MOST_VALUES = 100
_SHOWN_SKIPPED = 5
_SHOWN_TRIALS = 40


@dataclass(frozen=True)
class Plan:
    """The trials of a search as far as they can be known before any result, and what each is given."""

    experiment: Experiment
    foreseen: tuple[Suggestion, ...]
    """Trials that no result can change, in order."""
    trials: int
    capacity: Capacity
    resources: TrialResources
    configs: tuple[TrialConfig, ...]
    """A configuration for every combination of what the data, the weights and the cost depend on."""
    skipped: tuple[Skipped, ...]
    """Cells of a grid that cannot run."""

    @property
    def epochs(self) -> int:
        """The most epochs of a trial."""
        if self.experiment.task == "evaluate":
            return 1
        return max(config.training.epochs for config in self.configs)

    def skipped_lines(self) -> list[str]:
        """What is left out of the grid, and why."""
        lines = [f"left out: {values_text(each.values)}: {each.reason}" for each in self.skipped[:_SHOWN_SKIPPED]]
        if len(self.skipped) > _SHOWN_SKIPPED:
            lines.append(f"left out: {len(self.skipped) - _SHOWN_SKIPPED} more cells")
        return lines


def make_plan(experiment: Experiment, options: RunOptions, capacity: Capacity) -> Plan:
    """The plan of `experiment` on a cluster of that capacity.

    Raises
    ------
    UsageError
        If a trial could never be placed.
    """
    searcher = build_searcher(experiment)
    if experiment.searcher.sampled:
        trials = options.trials or searcher.total
        if experiment.confirm and trials > searcher.total:
            raise UsageError(
                f"--trials {trials}: {experiment.name} ends with trials that confirm what it has found,"
                f" {searcher.total} in all; a larger search is another declaration (trials=), begun with --fresh"
            )
        skipped: tuple[Skipped, ...] = ()
    else:
        trials = min(searcher.total, options.trials or searcher.total)
        skipped = tuple(experiment.space.skipped(experiment.base))
    foreseen = tuple(itertools.takewhile(lambda each: each is not None, map(searcher.foreseen, range(trials))))
    resources = divide(
        capacity,
        experiment.resources,
        trials if experiment.task == "train" else 1,
        concurrency=options.concurrency,
        cpus=options.cpus_per_trial,
        gpus=options.gpus_per_trial,
        workers=options.workers_per_trial if experiment.task == "train" else 1,
    )
    return Plan(
        experiment,
        typing.cast(tuple[Suggestion, ...], foreseen),
        trials,
        capacity,
        resources,
        possible_configs(experiment),
        skipped,
    )


def possible_configs(experiment: Experiment) -> tuple[TrialConfig, ...]:
    """Configurations with every combination of what data, weights and cost depend on; of numbers without end, the ends.

    Raises
    ------
    ConfigError
        If infinitely many tile stores would be needed.
    """
    space, base = experiment.space, experiment.base
    paths = _worth_knowing(space)
    whens = [When(each.condition, _with_few_values(each.domains, paths)) for each in space.conditions]
    few = SearchSpace(_with_few_values(space.domains, paths), tuple(each for each in whens if each.domains))
    cells = (cell for cell in few.cells(base) if space.refusal(base, cell) is None)
    points = [*itertools.islice(cells, _MOST_CONFIGS), *experiment.first]
    return tuple(with_values(base, space.expand(point)) for point in points) or (base,)


def _worth_knowing(space: SearchSpace) -> set[str]:
    """The paths of a space that matter before it runs, and those that decide whether they count."""
    known = {
        parameter.path
        for parameter in space.parameters
        if any(path.startswith(_WORTH_KNOWING) for path in getattr(parameter.domain, "paths", (parameter.path,)))
    }
    while True:
        read = {path for when in space.conditions if known & set(when.domains) for path in when.reads}
        setters = {each.path for each in space.parameters if read & set(getattr(each.domain, "paths", ()))}
        more = ((read & set(space.paths)) | setters) - known
        if not more:
            return known
        known |= more


def _with_few_values(domains: Mapping[str, Domain], paths: Container[str]) -> dict[str, Domain]:
    """Those of the `paths`, each with its values, or with its ends where there are too many."""
    few: dict[str, Domain] = {}
    for path, domain in domains.items():
        if path not in paths:
            continue
        many = domain.values is None or len(domain.values) > _MOST_VALUES
        if many and path.startswith("tiles."):
            raise ConfigError(
                f"{path} decides on the tiles that are prepared; it needs finitely many values, {_MOST_VALUES} at most"
            )
        few[path] = Choice(*dict.fromkeys((domain.quantile(0.0), domain.quantile(1 - 1e-9)))) if many else domain
    return few


def print_plan(declaration: Declaration, experiment: Experiment, options: RunOptions, storage: StoragePaths) -> None:
    """Write the plan to standard output."""
    plan = make_plan(experiment, options, options.nodes or machine())
    lines = [f"{experiment.name}: {experiment.question}"]
    lines += [f"warning: {warning}" for warning in declaration.warnings]
    lines += [f"  {line}" for line in space_lines(experiment.space)]
    lines += [f"  {line}" for line in plan.skipped_lines()]
    lines += [f"  {number:4d}  {_trial_text(each)}" for number, each in enumerate(plan.foreseen[:_SHOWN_TRIALS])]
    if len(plan.foreseen) > _SHOWN_TRIALS:
        lines.append(f"        and {len(plan.foreseen) - _SHOWN_TRIALS} more of these")
    searcher = type(experiment.searcher).__name__
    if len(plan.foreseen) < plan.trials:
        lines.append(
            f"        and {plan.trials - len(plan.foreseen)} more, which {searcher} chooses as results come in"
        )
    given = plan.resources
    what = (
        f"at most {plan.epochs} epochs each" if experiment.task == "train" else "one evaluation each, one pass for all"
    )
    lines.append(f"trials      {plan.trials}, {given.concurrency} at a time, {what}")
    where = "the nodes said" if options.nodes else "this machine"
    lines.append(f"resources   {given} on {where}")
    lines.append(f"objective   {', '.join(f'{each.metric} ({each.mode})' for each in experiment.objectives)}")
    lines.append(f"searcher    {setting_text(experiment.searcher)}")
    lines.append(f"scheduler   {setting_text(experiment.scheduler)}")
    lines.append(f"stoppers    {', '.join(map(setting_text, experiment.stoppers)) or 'none'}")
    source = options.data or survey_path(storage, experiment.survey)
    lines.append(f"data        {source}")
    lines.append(f"cost        {_cost(plan, options)}")
    sys.stdout.write("\n".join(lines) + "\n")


def _trial_text(suggestion: Suggestion) -> str:
    by = suggestion.why.get("by", "grid")
    values = values_text(suggestion.values) or "the base configuration"
    return f"{values}  seed {suggestion.seed}" + (f"  ({by})" if by not in ("grid", "repeat") else "")


def _cost(plan: Plan, options: RunOptions) -> str:
    """A rough figure for CPUs and simulated frames; elsewhere the number that a first trial will put a time to."""
    if plan.experiment.task == "evaluate":
        return "one pass through the network over the tiles of the split"
    configs = plan.configs
    tiles = [_tiles_per_epoch(config, plan.experiment) for config in configs]
    if plan.resources.gpus:
        return "trained tiles are known, their time on these GPUs is not before a trial has run"
    if options.data is not None and any(config.training.tiles_per_epoch is None for config in configs):
        return "depends on the frames; known once they are prepared"
    seconds = [_trial_seconds(config, count) for config, count in zip(configs, tiles, strict=True)]
    whole = plan.trials * sum(seconds) / len(seconds)
    at_a_time = plan.resources.concurrency * plan.resources.trial_cpus
    return (
        f"about {clock(whole / at_a_time)} of training on {at_a_time} CPUs, if every trial runs all its epochs"
        f" ({whole / 3600:.1f} CPU hours)"
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
