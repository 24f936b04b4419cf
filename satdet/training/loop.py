"""The training of one trial, from top to bottom."""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader

from satdet._storage import PATIENCE_SECONDS
from satdet.config import TrialConfig, flatten
from satdet.data.loading import EpochBatches, Share, TileDataset, evaluation_loader, training_loader
from satdet.data.store import TileStore
from satdet.detector import build_detector
from satdet.errors import ConfigError, NonFiniteLossError, StorageError
from satdet.training import files
from satdet.training.callbacks import BatchProgress, Callback, EpochReport, StopTraining
from satdet.training.checkpoint import CheckpointFolder, Twin
from satdet.training.evaluation import draw_examples, evaluate
from satdet.training.export import load_model
from satdet.training.identity import trial_identity
from satdet.training.learner import Learner, LossMeter, seed_everything
from satdet.training.led import LedCheckpoints
from satdet.training.memory import PartwiseDetection, SmallerPasses, free_memory, halved
from satdet.training.patience import StoragePatience
from satdet.training.progress import Progress
from satdet.training.remarks import Remarks
from satdet.training.workers import ALONE, Workers, stopping_together


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
    continue_after: int | None = None,
    keep: int = 2,
    storage_patience: float = PATIENCE_SECONDS,
    workers: Workers = ALONE,
    micro_batch_size: int | None = None,
    twin: Twin | None = None,
) -> Iterator[EpochReport]:
    """Train one trial, or go on with it.

    Everything random in an epoch follows from `seed` and the epoch, so that a trial resumed from `directory` takes the
    course it would have taken anyway: on the CPU, bit by bit. torch's global generators are reseeded each epoch.

    A report is yielded while its checkpoint is still being written; the last one, with its ``stop_reason``, after all
    is on disk: checkpoint, ``model.pt``, picture. A trial that has ended trains nothing and yields its last report.

    While a checkpoint cannot be written because the storage is full, read-only or out of reach, the epoch under way is
    trained to its end, and no further. Closing the generator gives that up; the last whole checkpoint stays.

    Several `workers` each run this with the same arguments, and divide every batch and the evaluation between them; all
    of them yield, with the same metrics but for their times. Where batch norm is synchronised and the network itself
    draws nothing at random, their number makes no difference but to rounding, and a trial may go on with another.

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
        May end the trial; of several workers only the leader asks them. Their states are kept in the checkpoints, by
        their place in the sequence and their class.
    device : str, optional
        By default ``cuda`` if there is one, else ``cpu``.
    weights_dir : Path, optional
        Where pretrained weights are looked for first.
    after_epoch : int
        The last epoch whose report the caller already has. Later ones are yielded even if they were trained in an
        earlier process; up to it, an epoch that has to be trained again (its checkpoint was lost) is not.
    continue_after : int, optional
        That an ended trial goes on, though a callback, patience or its last epoch ended it after this one:
        ``config.training.epochs`` may have grown, and patience counts anew. Give the same again at each later resume.
    keep : int
        Checkpoints of the newest epochs that are kept, besides the best.
    storage_patience : float
        How long [s] each file that cannot be written or read because of its storage is tried again.
    workers : Workers
        That train this trial together.
    micro_batch_size : int, optional
        Most tiles a pass, of a worker; by default the configuration's, or that of the checkpoint.
    twin : Twin, optional
        A folder elsewhere, like one in an object store: fetched from before anything is read, sent to after whatever
        is written. Only the leader of several workers uses it.

    Yields
    ------
    EpochReport
        One an epoch. After a `StopTraining`, the last completed epoch's once more, with the reason. What happened
        besides is among the ``remarks`` of the first report after it.

    Raises
    ------
    ConfigError, TileStoreError
        If store and configuration do not fit, or there are too few tiles.
    CheckpointError
        If the checkpoints in `directory` belong to another trial, or there is none to continue from.
    StorageLostError
        If the storage is full, read-only or out of reach, and stayed so.
    StorageError
        If a checkpoint cannot be written or read for another reason.
    NonFiniteLossError
        If a loss is NaN or infinite and no callback stops the trial for it; ``model.pt`` is exported from the epochs
        before.
    LostWorkerError
        If another of the `workers` does not answer.
    SmallerPasses
        If the memory of one of several workers does not suffice, and another attempt with fewer tiles a pass may do.
    """
    callbacks = callbacks if workers.leads else ()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tiles, evaluation_tiles = _tiles(config, store, seed)
    batches, evaluation_batches = _loaders(
        config, tiles, evaluation_tiles, workers.share, pin_memory=where.type == "cuda"
    )
    patience, remarks = StoragePatience(storage_patience), Remarks()
    checkpoints = LedCheckpoints(
        workers,
        lambda: CheckpointFolder(
            directory,
            trial_identity(config, store, seed),
            keep=keep,
            patience=patience,
            remarks=remarks,
            after_epoch=after_epoch,
            continue_after=continue_after,
            twin=twin,
        ),
    )
    saved = checkpoints.load()
    progress = _progress(config, saved, continue_after)
    past, last = progress.reports(stopped=checkpoints.stopped(progress.epoch))
    fresh = copy.deepcopy(_callback_states(callbacks))
    partwise = PartwiseDetection(config, remarks)
    learner: Learner | None = None
    with checkpoints:  # leaving it, in whatever way, waits for the last checkpoint and exports the best weights
        yield from (remarks.give(report) for report in past if report.epoch > after_epoch)
        told = max(after_epoch, progress.epoch)
        while last is None:
            if learner is None:
                learner = _learner(config, where, saved, seed, weights_dir, len(batches), micro_batch_size, workers)
                _load_callbacks(callbacks, saved["callbacks"] if saved is not None else fresh)
            epoch = progress.epoch + 1
            seed_everything(seed, epoch, workers.rank)
            tiles.set_epoch(epoch)
            learner.begin_epoch(epoch)
            try:
                metrics = _train_epoch_or_stop(learner, batches, epoch, callbacks, workers)
            except StopTraining as stop:
                last = progress.stopped(stop)
                checkpoints.mark_stopped(last.epoch, stop)
                break
            except torch.OutOfMemoryError as error:
                size = learner.micro_batch_size or _batch_sampler(batches).largest
                micro_batch_size = halved(size, config, error)
                if not workers.alone:
                    raise SmallerPasses(size, micro_batch_size) from None
                remarks.add(f"CUDA out of memory: micro-batch {size} -> {micro_batch_size} from epoch {epoch} on")
                checkpoints.wait()
                saved = checkpoints.load()
                progress = _progress(config, saved, continue_after)
                learner = None  # another is made when this one has left the device
                continue
            due = progress.evaluation_due(epoch)
            evaluation = _evaluate(learner, partwise, evaluation_batches, config, workers) if due else None
            report = progress.record(metrics, evaluation)
            for callback in callbacks:
                callback.on_epoch_end(report)
            checkpoints.write(epoch, partial(_states, learner, progress, callbacks), best=report.improved)
            if report.stop_reason is not None:
                last = report
            elif epoch > told:
                told = epoch
                yield remarks.give(report)

    if workers.leads:
        _draw_best(directory, where, evaluation_tiles, patience, remarks)
        checkpoints.send()
    yield remarks.give(last)


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
    config: TrialConfig, tiles: TileDataset, evaluation_tiles: TileDataset, share: Share, *, pin_memory: bool
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    workers = config.training.loader_workers
    return (
        training_loader(tiles, config.training, share=share, pin_memory=pin_memory),
        evaluation_loader(evaluation_tiles, config.evaluation, share=share, workers=workers, pin_memory=pin_memory),
    )


def _batch_sampler(batches: DataLoader[Any]) -> EpochBatches:
    sampler = batches.batch_sampler
    assert isinstance(sampler, EpochBatches)
    return sampler


def _progress(config: TrialConfig, saved: dict[str, Any] | None, continue_after: int | None) -> Progress:
    """What a checkpoint has reached, or nothing yet."""
    return Progress(config, saved["progress"] if saved is not None else None, continue_after=continue_after)


def _learner(
    config: TrialConfig,
    device: torch.device,
    saved: dict[str, Any] | None,
    seed: int,
    weights_dir: Path | None,
    steps_per_epoch: int,
    micro_batch_size: int | None,
    workers: Workers,
) -> Learner:
    """The learner of a checkpoint, or that which the seed begins with."""
    free_memory()
    seed_everything(seed, epoch=0)
    detector = build_detector(config.detector, weights_dir=weights_dir, initialise=saved is None)
    learner = Learner(
        detector,
        config,
        device,
        steps_per_epoch=steps_per_epoch,
        micro_batch_size=micro_batch_size,
        workers=workers,
    )
    if saved is not None:
        learner.load_state_dict(saved["learner"])
    return learner


def _train_epoch_or_stop(
    learner: Learner, batches: DataLoader[Any], epoch: int, callbacks: Sequence[Callback], workers: Workers
) -> dict[str, float]:
    """As `_train_epoch`; a callback may turn a loss that is not finite into the trial's end."""
    try:
        return _train_epoch(learner, batches, epoch, callbacks, workers)
    except NonFiniteLossError as error:  # all workers have the same loss
        with stopping_together(workers):
            for callback in callbacks:
                callback.on_non_finite_loss(error)
        raise


def _train_epoch(
    learner: Learner, batches: DataLoader[Any], epoch: int, callbacks: Sequence[Callback], workers: Workers
) -> dict[str, float]:
    """Take one step a batch; the means of the losses, the last learning rate, what was trained, and the speed."""
    meter = LossMeter(epoch, learner.device)
    size = _batch_sampler(batches).size
    started = previous = perf_counter()
    for batch, (images, targets) in enumerate(batches, start=1):
        meter.add(learner.step(images, targets, batch_size=size))
        now = perf_counter()
        progress = BatchProgress(epoch, batch, len(batches), size, now - previous)
        previous = now
        with stopping_together(workers):
            for callback in callbacks:
                callback.on_batch_end(progress)
    losses = meter.means()
    seconds = perf_counter() - started
    return losses | {
        "learning_rate": learner.learning_rate,
        "parameters": float(learner.parameters.total),
        "parameters_trained": float(learner.parameters.trained),
        "images_per_second": len(batches) * size / seconds,
        "seconds_training": seconds,
    }


def _evaluate(
    learner: Learner, partwise: PartwiseDetection, batches: DataLoader[Any], config: TrialConfig, workers: Workers
) -> dict[str, float]:
    started = perf_counter()
    detect = partial(partwise.detect, learner.detect)
    metrics = evaluate(detect, batches, max_detections=config.detector.max_detections, workers=workers)
    return metrics | {"seconds_evaluation": perf_counter() - started}


def _draw_best(
    directory: Path, device: torch.device, tiles: TileDataset, patience: StoragePatience, remarks: Remarks
) -> None:
    """Draw what the model finds, unless that was done; a trial is whole without its picture."""
    model, picture = directory / files.MODEL, directory / files.PICTURE
    try:
        if not model.exists() or (picture.exists() and picture.stat().st_mtime_ns >= model.stat().st_mtime_ns):
            return
        detector, _ = load_model(model, device)
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / files.PICTURE
            draw_examples(drawn, detector, tiles)
            files.write_bytes(picture, drawn.read_bytes(), patience)
    except (OSError, StorageError) as error:
        files.logger.warning("no picture was drawn: %s", error)
        remarks.add(f"no picture was drawn: {error}")


def _states(learner: Learner, progress: Progress, callbacks: Sequence[Callback]) -> dict[str, Any]:
    return {
        "learner": learner.state_dict(),
        "progress": progress.state_dict(),
        "callbacks": _callback_states(callbacks),
    }


def _key(place: int, callback: Callback) -> str:
    return f"{place} {type(callback).__name__}"


def _callback_states(callbacks: Sequence[Callback]) -> dict[str, dict[str, Any]]:
    return {_key(place, each): each.state_dict() for place, each in enumerate(callbacks)}


def _load_callbacks(callbacks: Sequence[Callback], states: dict[str, dict[str, Any]]) -> None:
    for place, callback in enumerate(callbacks):
        if (key := _key(place, callback)) in states:
            callback.load_state_dict(states[key])
