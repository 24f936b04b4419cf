"""Experiments that train nothing: trials measure one checkpoint with other settings of the detector's last stage."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from ray import tune

from experiments.options import RunOptions
from experiments.paths import StoragePaths
from experiments.trainable import TrialOrder, failure
from satdet.config import ConfigError, flatten, unflatten, with_values
from satdet.errors import UsageError
from search_spaces.declare import Experiment, Grid, SearchSpace

PATHS = ("detector.nms_threshold", "detector.score_threshold", "detector.max_detections")
"""What comes after the network, so that one forward pass serves every value."""
_SHARED = "evaluation.json"


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
        raise UsageError(
            f"--best-of {name}: no such search in {storage.root}; there are {', '.join(storage.searches())}"
        )
    summary = summarise(storage.search(name))
    best = next((trial for trial in summary["trials"] if trial["id"] == summary["best"]), None)
    if best is None or best["checkpoint"] is None:
        raise UsageError(f"--best-of {name}: none of its trials has a model yet")
    return Path(best["checkpoint"])


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


def checkpoint_option(experiment: Experiment, options: RunOptions, storage: StoragePaths) -> RunOptions:
    """`options` with the checkpoint that is to be measured, made absolute.

    Raises
    ------
    UsageError
        If none is named and this is no smoke run.
    """
    if options.checkpoint is not None:
        return replace(options, checkpoint=str(Path(options.checkpoint).expanduser().resolve()))
    if options.best_of is not None:
        return replace(options, checkpoint=str(best_checkpoint(storage, options.best_of)))
    if not options.smoke:
        raise UsageError(f"{experiment.name} measures a model: name it with --checkpoint FILE or --best-of SEARCH")
    training = model_for_smoke(experiment)
    if training.name not in storage.searches():
        sys.stderr.write(f"{experiment.name} measures a model; training a small one first\n")
    return replace(options, checkpoint=str(_trained(training, options, storage)))


def _trained(training: Experiment, options: RunOptions, storage: StoragePaths) -> Path:
    from experiments.search import run_declared

    begun = training.name in storage.searches()
    plain = replace(options, smoke=None, values=None, seeds=None, trials=None, resume=begun, fresh=False, experiment="")
    run_declared(training, plain)
    return best_checkpoint(storage, training.name)


class EvaluationTrainable(tune.Trainable):  # type: ignore[misc]
    """Measures a checkpoint at one cell, and at all others with it: the first trial's pass serves them all."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that `config` orders."""
        import torch

        self._order = TrialOrder(**config["trial"])
        torch.set_num_threads(self._order.threads)

    def step(self) -> dict[str, Any]:
        """Report the cell's metrics."""
        try:
            started = perf_counter()
            metrics = self._metrics()
            metrics["seconds"] = perf_counter() - started
        except Exception as error:
            return failure(self._order, error, epoch=0, metrics=None)
        return {"epoch": 1, **metrics, "stop_reason": "completed", "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial."""
        self.setup(new_config)
        return True

    def _metrics(self) -> dict[str, float]:
        order = self._order
        directory = Path(order.directory)
        directory.mkdir(parents=True, exist_ok=True)
        shared = Path(order.shared) / _SHARED
        cells = [_cell(order.config, cell) for cell in order.cells]
        mine = _cell(order.config, {})
        if not shared.exists() or _key(mine) not in json.loads(shared.read_text()):
            self._evaluate(cells if mine in cells else [mine], shared)
        found: dict[str, float] = json.loads(shared.read_text())[_key(mine)]
        picture = shared.with_name(f"{_key(mine)}.png")
        if picture.exists() and order.pictured:
            (directory / "detections.png").write_bytes(picture.read_bytes())
        return found

    def _evaluate(self, cells: list[dict[str, Any]], shared: Path) -> None:
        """One pass for all cells, and a picture of the same tiles for each."""
        from satdet.data.loading import evaluation_loader
        from satdet.data.store import TileStore
        from satdet.evaluate.data import evaluation_tiles
        from satdet.evaluate.grid import Cell, evaluate_grid
        from satdet.evaluate.report import draw_cell
        from satdet.training.export import default_device, open_model

        config = unflatten(self._order.config)
        model = open_model(Path(str(self._order.checkpoint)), default_device())
        tiles = evaluation_tiles(model, TileStore.open(self._order.store), config.evaluation.split)
        started = perf_counter()
        results = evaluate_grid(
            model.candidates,
            evaluation_loader(tiles, config.evaluation, pin_memory=model.device.type == "cuda"),
            [Cell(**{path.rpartition(".")[2]: cell[path] for path in PATHS}) for cell in cells],
        )
        seconds = perf_counter() - started
        shared.parent.mkdir(parents=True, exist_ok=True)
        metrics = {}
        for cell, result in zip(cells, results, strict=True):
            draw_cell(shared.with_name(f"{_key(cell)}.png"), tiles.split, result)
            speed = {"seconds_evaluation": seconds, "images_per_second": len(tiles) / seconds}
            metrics[_key(cell)] = result.metrics.compute() | speed
        partial = shared.with_suffix(".partial")
        partial.write_text(json.dumps(metrics))
        partial.replace(shared)


def _cell(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {path: values.get(path, config[path]) for path in PATHS}


def _key(cell: dict[str, Any]) -> str:
    return "-".join(f"{path.rpartition('.')[2]}={cell[path]:g}" for path in PATHS)


def cells_of(experiment: Experiment) -> list[dict[str, Any]]:
    """All cells of a finite space, for one pass; none of a space that is sampled."""
    if experiment.searcher.sampled:
        return []
    base = flatten(experiment.base)
    return [{path: cell.get(path, base[path]) for path in PATHS} for cell in experiment.space.cells(experiment.base)]
