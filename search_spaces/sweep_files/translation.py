"""A whole sweep file as an `Experiment`, with warnings by name of what means something else here, or nothing."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satdet.config import ConfigError, TrialConfig, metric_names, with_values
from search_spaces.declare import (
    REPORT_PROTOCOL,
    TPE,
    Constant,
    Experiment,
    Grid,
    HyperbandStopping,
    Maximise,
    Objective,
    Random,
    RunAll,
    Scheduler,
    Searcher,
    SearchSpace,
    Smoke,
    Target,
    smoke_of,
)
from search_spaces.sweep_files.checks import check_keys, mapping, number, one_of, shown, text, whole
from search_spaces.sweep_files.distributions import MOST_CELLS, cells_of
from search_spaces.sweep_files.early_termination import stopping_of
from search_spaces.sweep_files.names import find_metric, usual_mode
from search_spaces.sweep_files.parameters import Parameters
from search_spaces.sweep_files.reading import read_document

Warn = Callable[[str], None]
Section = Mapping[str, Any]

SEARCHERS: Mapping[str, Searcher] = {"grid": Grid(), "random": Random(seed=0), "bayes": TPE(seed=0)}
"""What each method is."""

_TEXTS = ("apiVersion", "kind", "name", "description", "program", "job", "image_uri", "entity", "project")
NOT_USED: Mapping[str, str] = {
    "apiVersion": "the format has one version here",
    "program": "trials are trained by satdet.training",
    "command": "the command is python -m experiments.run, and its flags are in --help",
    "job": "trials run under Ray; --address names a cluster",
    "image_uri": "trials run in the environment of the Ray cluster; --address names one",
    "entity": "WANDB_ENTITY, or the account of the key, decides",
    "project": "WANDB_PROJECT decides",
    "controller": "experiments.run directs the search",
}
"""Keys that are checked and warned of, with what takes their place."""
REFUSED: Mapping[str, str] = {
    "metrics": "several objectives cannot be read from a sweep file; declare an Experiment with also=(...) and NSGA2",
    "scheduler": "another library's optimizer cannot be read from a sweep file; use method: bayes, or --searcher",
}
"""Keys that cannot be run, with what to do instead."""
KEYS = (*_TEXTS, "command", "controller", "method", "parameters", "metric", "early_terminate", "run_cap", *REFUSED)
"""Every key that a sweep file may have."""
METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
"""Every key that ``metric`` may have."""

_MODES = {"minimize": "min", "maximize": "max"}
_IMPUTED = ("latest", "best", "worst")
_TRIALS = 30
_SMOKE_TRIALS = 4
_SMOKE_RUNGS = (2,)
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Sweep:
    """A sweep file as an experiment.

    Attributes
    ----------
    experiment : Experiment
    warnings : tuple of str
        What of the file is not used, or not as its author may expect; one line each, to be shown before anything runs.
    """

    experiment: Experiment
    warnings: tuple[str, ...]


def load_sweep(path: Path) -> Sweep:
    """Read a W&B sweep file.

    Parameters
    ----------
    path : Path
        The YAML file.

    Raises
    ------
    ConfigError
        With the file's path in front, for anything that cannot be run as the file has it.
    """
    warnings: list[str] = []
    try:
        experiment = _experiment(read_document(path), path, warnings.append)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Sweep(experiment, tuple(warnings))


def _experiment(document: Section, path: Path, warn: Warn) -> Experiment:
    check_keys(document, KEYS)
    method = _method(document)
    _check_other_keys(document, warn)
    grid = method == "grid"
    found = Parameters(grid, warn)
    if "parameters" not in document:
        raise ConfigError("parameters is missing; there is nothing to search")
    found.add_section(mapping(document["parameters"], "parameters"), "parameters")
    if not found.searched and not grid:
        raise ConfigError(f"parameters: nothing varies, so that method: {method} would repeat one trial; write grid")
    base, space = _base_and_space(found)
    objective, target = _objective(document, method, base, warn)
    scheduler = _scheduler(document, _most_epochs(base, space), warn)
    trials = _trials(document, found, warn)
    return Experiment(
        name=_identifier(document.get("name") or path.stem),
        question=_one_line(document.get("description", "")) or f"Which parameters of {path.name} are best?",
        base=base,
        space=space,
        objective=objective,
        searcher=SEARCHERS[method],
        trials=trials,
        scheduler=scheduler,
        stoppers=() if target is None else (target,),
        seeds=found.seeds,
        smoke=_smoke(base, space, scheduler, trials),
    )


def _base_and_space(found: Parameters) -> tuple[TrialConfig, SearchSpace]:
    """Constants are of the base, unless they are legal only together with what varies."""
    try:
        return with_values(REPORT_PROTOCOL, found.fixed), SearchSpace(found.searched)
    except ConfigError:
        fixed = {path: Constant(value) for path, value in found.fixed.items()}
        return REPORT_PROTOCOL, SearchSpace({**found.searched, **fixed})


def _method(document: Section) -> str:
    if "method" not in document:
        raise ConfigError(f"method is missing; write one of {', '.join(SEARCHERS)}")
    if document["method"] == "custom":
        raise ConfigError(
            f"method: custom cannot be run; write {', '.join(SEARCHERS)}; --searcher then takes others, such "
            f"as GP, CMAES or BOHB"
        )
    return one_of(document["method"], SEARCHERS, "method")


def _check_other_keys(document: Section, warn: Warn) -> None:
    """What is refused, and what is not used; the texts are texts."""
    for key, instead in REFUSED.items():
        if key in document:
            raise ConfigError(f"{key}: {instead}")
    for key in _TEXTS:
        if key in document:
            text(document[key], key)
    if "kind" in document:
        one_of(document["kind"], ["sweep"], "kind")
    if "command" in document and not isinstance(document["command"], list):
        raise ConfigError(f"command = {shown(document['command'])} is not a list")
    if "controller" in document:
        one_of(mapping(document["controller"], "controller").get("type"), ["local", "cloud"], "controller.type")
    for key, instead in NOT_USED.items():
        if key in document:
            warn(f"{key} is not used: {instead}")


def _objective(document: Section, method: str, base: TrialConfig, warn: Warn) -> tuple[Objective, Target | None]:
    if "metric" not in document:
        if method == "bayes" or "early_terminate" in document:
            asking = "method: bayes" if method == "bayes" else "early_terminate"
            raise ConfigError(f"metric is missing, and {asking} needs one; write name: map_50 and goal: maximize")
        warn("metric is not given: map_50 is maximised")
        return Maximise("map_50"), None
    metric = mapping(document["metric"], "metric")
    check_keys(metric, METRIC_KEYS, "metric")
    if "name" not in metric:
        raise ConfigError("metric.name is missing; write name: map_50")
    found = find_metric(text(metric["name"], "metric.name"), metric_names(base), "metric.name")
    if found.warning:
        warn(found.warning)
    mode = _MODES[one_of(metric.get("goal", "minimize"), _MODES, "metric.goal")]
    _check_direction(found.name, mode, "goal" in metric, warn)
    _warn_of_imputing(metric, warn)
    objective = Objective(metric=found.name, mode="max" if mode == "max" else "min")
    if "target" not in metric:
        return objective, None
    return objective, Target(value=float(number(metric["target"], "metric.target")), ends_search=True)


def _check_direction(metric: str, mode: str, given: bool, warn: Warn) -> None:
    usual = usual_mode(metric)
    if usual in (None, mode):
        return
    better, goal = ("larger", "maximize") if usual == "max" else ("smaller", "minimize")
    default = "" if given else ", which is W&B's default,"
    warn(
        f"metric.goal {'minimize' if mode == 'min' else 'maximize'}{default} will look for the WORST {metric}, which "
        f"is better when {better}; write goal: {goal} if that is not meant"
    )


def _warn_of_imputing(metric: Section, warn: Warn) -> None:
    if "impute" in metric:
        one_of(metric["impute"], _IMPUTED, "metric.impute")
        warn("metric.impute is not used: the searcher is told that a trial failed, and imputes nothing")
    if "impute_while_running" in metric:
        given = metric["impute_while_running"]
        one_of("false" if given is False else given, (*_IMPUTED, "false"), "metric.impute_while_running")
        warn("metric.impute_while_running is not used: TPE counts running trials as bad ones")


def _scheduler(document: Section, epochs: int, warn: Warn) -> Scheduler:
    if "early_terminate" not in document:
        return RunAll()
    return stopping_of(mapping(document["early_terminate"], "early_terminate"), epochs, warn)


def _most_epochs(base: TrialConfig, space: SearchSpace) -> int:
    """The epochs of the longest trial."""
    domain = space.domains.get("training.epochs")
    if domain is None:
        return base.training.epochs
    return int(max(domain.quantile(share) for share in (0.0, *(count / 64 for count in range(64)), 1 - 1e-9)))


def _trials(document: Section, found: Parameters, warn: Warn) -> int | None:
    cap = whole(document["run_cap"], "run_cap", minimum=1) if "run_cap" in document else None
    if found.grid:
        trials = cells_of(found.searched.values()) * found.seeds
        if trials > MOST_CELLS:
            raise ConfigError(f"parameters: a grid of {trials} trials; use method: random, or fewer values")
        return None if cap is None or cap >= trials else _capped_cells(cap, found, warn)
    if cap is None:
        warn(f"run_cap is not given, and W&B would never end: {_TRIALS} trials are run; --trials changes that")
    return cap or _TRIALS


def _capped_cells(cap: int, found: Parameters, warn: Warn) -> int:
    """The cells of a grid that `cap` runs are enough for, each with all of its seeds."""
    if found.seeds == 1:
        return cap
    found.seeds = min(found.seeds, cap)
    cells = cap // found.seeds
    warn(f"run_cap = {cap} is read as {cells} cells with {found.seeds} seeds each")
    return cells


def _smoke(base: TrialConfig, space: SearchSpace, scheduler: Scheduler, trials: int | None) -> Smoke:
    """The usual smoke run, with what the file fixes or varies and small tiles cannot hold."""
    values: dict[str, Any] = {}
    if base.tiles.overlap:
        values["tiles.overlap"] = 0
    if base.augmentation.crop is not None:
        values["augmentation.crop"] = None
    if {"tiles.overlap", "augmentation.crop"} & set(space.paths):
        values["tiles.size"] = base.tiles.size
    rungs = dataclasses.replace(scheduler, rungs=_SMOKE_RUNGS) if isinstance(scheduler, HyperbandStopping) else None
    return dataclasses.replace(
        smoke_of(values),
        trials=None if trials is None else min(trials, _SMOKE_TRIALS),
        scheduler=rungs,
        stand_in_weights="detector.weights" in space.paths,
    )


def _one_line(description: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in description).split())


def _identifier(name: str) -> str:
    """A name for folders and trackers: letters, digits and underscores, not beginning with a digit."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name)[:_LONGEST_NAME].strip("_") or "sweep"
    return f"sweep_{plain}" if plain[0].isdigit() else plain
