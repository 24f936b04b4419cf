"""Experiments that train nothing: trials measure one checkpoint with other settings of the detector's last stage."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.copies import bring_record
from experiments.options import RunOptions
from experiments.paths import StoragePaths
from satdet.config import ConfigError, flatten, with_values
from satdet.errors import UsageError
from search_spaces.declare import Experiment, Grid, SearchSpace

Summary = Mapping[str, Any]
PATHS = ("detector.nms_threshold", "detector.score_threshold", "detector.max_detections")
"""What comes after the network, so that one forward pass serves every value."""


def model_for_smoke(experiment: Experiment) -> Experiment:
    """The training of the small detector that a smoke run measures, when it is given none."""
    return replace(
        experiment,
        name=f"{experiment.name}_model",
        question=f"A small detector for {experiment.name} to measure.",
        base=with_values(experiment.base, {"evaluation.split": "validation"}),
        space=SearchSpace(),
        searcher=Grid(),
        seeds=1,
        task="train",
        pictures_of=(),
    )


def best_checkpoint(storage: StoragePaths, name: str) -> Path:
    """The best model of a search in this storage.

    Raises
    ------
    UsageError
        If there is no such search, or it has no model yet.
    """
    from experiments.summary import summarise

    if name not in storage.searches():
        raise UsageError(f"--best-of {name}: no such search in {storage}; there are {', '.join(storage.searches())}")
    search = storage.search(name)
    bring_record(search)
    summary = summarise(search)
    best = next((trial for trial in summary["trials"] if trial["id"] == summary["best"]), None)
    if best is None or best["checkpoint"] is None:
        raise UsageError(f"--best-of {name}: none of its trials has a model yet")
    try:
        return search.trial_here(best["id"]) / "model.pt"
    except OSError as error:
        raise UsageError(f"--best-of {name}: {best['checkpoint']}: {error.strerror}") from None


def evaluating(experiment: Experiment, checkpoint: Path) -> Experiment:
    """`experiment` with the checkpoint's own configuration as its base: tiles, input and network are what they were.

    Raises
    ------
    ConfigError
        If the space varies more than the last stage.
    CheckpointError
        If the file is not a model.
    """
    from satdet.training.export import open_model

    others = [path for path in experiment.space.paths if path not in PATHS]
    if others:
        raise ConfigError(f"{experiment.name}: an evaluation varies {', '.join(PATHS)} only, not {', '.join(others)}")
    base = with_values(open_model(checkpoint).config, {"evaluation.split": experiment.base.evaluation.split})
    return replace(experiment, base=base)


def checkpoint_option(
    experiment: Experiment, options: RunOptions, storage: StoragePaths, run: Callable[[Experiment, RunOptions], Summary]
) -> RunOptions:
    """`options` with the checkpoint that is to be measured, made absolute.

    Parameters
    ----------
    experiment : Experiment
    options : RunOptions
    storage : StoragePaths
    run : callable
        Runs the training of the model that a smoke run measures.

    Raises
    ------
    UsageError
        If none is named and this is no smoke run.
    KeyboardInterrupt
        If that training was interrupted; it goes on when this is run again.
    """
    if options.checkpoint is not None:
        return replace(options, checkpoint=str(Path(options.checkpoint).expanduser().resolve()))
    if options.best_of is not None:
        return replace(options, checkpoint=str(best_checkpoint(storage, options.best_of)))
    if not options.smoke:
        raise UsageError(f"{experiment.name} measures a model: name it with --checkpoint FILE or --best-of SEARCH")
    training = model_for_smoke(experiment)
    begun = training.name in storage.searches() and not options.fresh
    if not begun:
        sys.stderr.write(f"{experiment.name} measures a model; training a small one first\n")
    own: dict[str, Any] = {
        "smoke": None,
        "values": None,
        "seeds": None,
        "trials": None,
        "searcher": None,
        "scheduler": None,
    }
    summary = run(training, replace(options, **own, resume=begun, experiment=training.name))
    if summary["status"] == "interrupted":
        raise KeyboardInterrupt
    return replace(options, checkpoint=str(best_checkpoint(storage, training.name)))


def cells_of(experiment: Experiment) -> list[dict[str, Any]]:
    """All cells of a finite space, for one pass; none of a space that is sampled."""
    if experiment.searcher.sampled:
        return []
    base = flatten(experiment.base)
    return [{path: cell.get(path, base[path]) for path in PATHS} for cell in experiment.space.cells(experiment.base)]
