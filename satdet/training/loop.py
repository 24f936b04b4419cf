"""The training of one trial, from top to bottom."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader

from satdet.config import TrialConfig, flatten
from satdet.data.loading import TileDataset, evaluation_loader, training_loader
from satdet.data.store import TileStore
from satdet.detector import build_detector
from satdet.errors import ConfigError, NonFiniteLossError
from satdet.training import files
from satdet.training.callbacks import BatchProgress, Callback, EpochReport, StopTraining
from satdet.training.checkpoint import CheckpointFolder, trial_identity
from satdet.training.evaluation import draw_examples, evaluate
from satdet.training.export import load_model
from satdet.training.learner import Learner, LossMeter, seed_everything
from satdet.training.progress import Progress


def train(
    config: TrialConfig,
    store: TileStore,
    directory: Path,
    *,
    seed: int,
    callbacks: Sequence[Callback] = (),
    device: str | None = None,
    weights_dir: Path | None = None,
    after_epoch: int = 0,
) -> Iterator[EpochReport]:
    """Train one trial, or go on with it.

    Everything random in an epoch follows from `seed` and the epoch, so that a trial resumed from `directory` takes the
    course it would have taken anyway: on the CPU, bit by bit. torch's global generators are reseeded each epoch.

    A report is yielded while its checkpoint is still being written; the last one, with its ``stop_reason``, after all
    is on disk: checkpoint, ``model.pt``, picture. A trial that has ended trains nothing and yields its last report.

    Parameters
    ----------
    config : TrialConfig
    store : TileStore
        Made by the rules of ``config.tiles``.
    directory : Path
        Of this trial alone. If it holds checkpoints, training goes on from the newest whole one.
    seed : int
        Of the weights, the order of tiles, their augmentation and the sampling of anchors and proposals.
    callbacks : sequence of Callback
        May end the trial; their states are kept in the checkpoints, by their place in the sequence and their class.
    device : str, optional
        By default ``cuda`` if there is one, else ``cpu``.
    weights_dir : Path, optional
        Where pretrained weights are looked for first.
    after_epoch : int
        The last epoch whose report the caller already has. Later ones are yielded even if they were trained in an
        earlier process; up to it, an epoch that has to be trained again (its checkpoint was lost) is not.

    Yields
    ------
    EpochReport
        One an epoch. After a `StopTraining`, the last completed epoch's once more, with the reason.

    Raises
    ------
    ConfigError, TileStoreError
        If store and configuration do not fit, or there are too few tiles.
    CheckpointError
        If the checkpoints in `directory` belong to another trial.
    StorageError
        If a checkpoint cannot be written.
    NonFiniteLossError
        If a loss is NaN or infinite and no callback stops the trial for it; ``model.pt`` is exported from the epochs
        before.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tiles, evaluation_tiles = _tiles(config, store, seed)
    batches, evaluation_batches = _loaders(config, tiles, evaluation_tiles, pin_memory=where.type == "cuda")
    checkpoints = CheckpointFolder(directory, trial_identity(config, store, seed))
    saved = checkpoints.load()
    progress = Progress(config, saved["progress"] if saved is not None else None)
    past, last = progress.reports(stopped=checkpoints.stopped(progress.epoch))
    with checkpoints:  # leaving it, in whatever way, waits for the last checkpoint and exports the best weights
        yield from (report for report in past if report.epoch > after_epoch)
        if last is None:
            seed_everything(seed, epoch=0)
            detector = build_detector(config.detector, weights_dir=weights_dir, initialise=saved is None)
            learner = Learner(detector, config, where, steps_per_epoch=len(batches))
            if saved is not None:
                learner.load_state_dict(saved["learner"])
                _load_callbacks(callbacks, saved["callbacks"])
        while last is None:
            epoch = progress.epoch + 1
            seed_everything(seed, epoch)
            tiles.set_epoch(epoch)
            learner.begin_epoch(epoch)
            try:
                metrics = _train_epoch_or_stop(learner, batches, epoch, callbacks)
            except StopTraining as stop:
                last = progress.stopped(stop)
                checkpoints.mark_stopped(last.epoch, stop)
                break
            due = progress.evaluation_due(epoch)
            report = progress.record(metrics, _evaluate(learner, evaluation_batches, config) if due else None)
            for callback in callbacks:
                callback.on_epoch_end(report)
            states = {"learner": learner.state_dict(), "progress": progress.state_dict()}
            checkpoints.write(epoch, states | {"callbacks": _callback_states(callbacks)}, best=report.improved)
            if report.stop_reason is not None:
                last = report
            elif epoch > after_epoch:
                yield report

    if (directory / files.MODEL).exists():
        _draw_best(directory, where, evaluation_tiles)
    yield last


def _tiles(config: TrialConfig, store: TileStore, seed: int) -> tuple[TileDataset, TileDataset]:
    """The tiles to train on and those to evaluate on, which are never augmented."""
    wanted = flatten(config.tiles)
    for key, made in store.manifest["config"].items():
        if key in wanted and wanted[key] != made:
            raise ConfigError(f"tiles.{key} = {wanted[key]!r}, but {store.path} was made with {made!r}; prepare again")
    train_split = store.split("train", empty_tiles=config.training.empty_tiles)
    return (
        TileDataset(train_split, config.input, config.augmentation, seed=seed),
        TileDataset(store.split(config.evaluation.split), config.input),
    )


def _loaders(
    config: TrialConfig, tiles: TileDataset, evaluation_tiles: TileDataset, *, pin_memory: bool
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    workers = config.training.loader_workers
    return (
        training_loader(tiles, config.training, pin_memory=pin_memory),
        evaluation_loader(evaluation_tiles, config.evaluation, workers=workers, pin_memory=pin_memory),
    )


def _train_epoch_or_stop(
    learner: Learner, batches: DataLoader[Any], epoch: int, callbacks: Sequence[Callback]
) -> dict[str, float]:
    """As `_train_epoch`; a callback may turn a loss that is not finite into the trial's end."""
    try:
        return _train_epoch(learner, batches, epoch, callbacks)
    except NonFiniteLossError as error:
        for callback in callbacks:
            callback.on_non_finite_loss(error)
        raise


def _train_epoch(
    learner: Learner, batches: DataLoader[Any], epoch: int, callbacks: Sequence[Callback]
) -> dict[str, float]:
    """Take one step a batch; the means of the losses, the last learning rate, what was trained, and the speed."""
    meter = LossMeter(epoch, learner.device)
    images_trained = 0
    started = previous = perf_counter()
    for batch, (images, targets) in enumerate(batches, start=1):
        meter.add(learner.step(images, targets))
        images_trained += len(images)
        now = perf_counter()
        progress = BatchProgress(epoch, batch, len(batches), len(images), now - previous)
        previous = now
        for callback in callbacks:
            callback.on_batch_end(progress)
    losses = meter.means()
    seconds = perf_counter() - started
    return losses | {
        "learning_rate": learner.learning_rate,
        "parameters": float(learner.parameters.total),
        "parameters_trained": float(learner.parameters.trained),
        "images_per_second": images_trained / seconds,
        "seconds_training": seconds,
    }


def _evaluate(learner: Learner, batches: DataLoader[Any], config: TrialConfig) -> dict[str, float]:
    started = perf_counter()
    metrics = evaluate(learner.detect, batches, max_detections=config.detector.max_detections)
    return metrics | {"seconds_evaluation": perf_counter() - started}


def _draw_best(directory: Path, device: torch.device, tiles: TileDataset) -> None:
    detector, _ = load_model(directory / files.MODEL, device)
    draw_examples(directory / files.PICTURE, detector, tiles)


def _key(place: int, callback: Callback) -> str:
    return f"{place} {type(callback).__name__}"


def _callback_states(callbacks: Sequence[Callback]) -> dict[str, dict[str, Any]]:
    return {_key(place, each): each.state_dict() for place, each in enumerate(callbacks)}


def _load_callbacks(callbacks: Sequence[Callback], states: dict[str, dict[str, Any]]) -> None:
    for place, callback in enumerate(callbacks):
        if (key := _key(place, callback)) in states:
            callback.load_state_dict(states[key])
