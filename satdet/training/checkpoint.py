"""The checkpoints of one trial: written behind training's back, checked before they are gone on from."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from satdet.config import TrialConfig, flatten
from satdet.data.store import TileStore
from satdet.errors import CheckpointError, SatdetError, StorageError
from satdet.training import files
from satdet.training.callbacks import StopTraining
from satdet.training.export import export_model

FORMAT = 1
CHANGEABLE = frozenset({"training.epochs", "training.patience", "training.loader_workers", "evaluation.batch_size"})
"""Paths in which a resumed trial may differ from its checkpoint: how long it runs, and what leaves its course alone.

With the cosine schedule, another number of epochs changes the learning rate of every epoch still to come.
"""


def trial_identity(config: TrialConfig, store: TileStore, seed: int) -> dict[str, Any]:
    """What makes a trial this trial, as plain values: configuration by path, digest of the store, seed."""
    return {"config": flatten(config), "store": store.digest, "seed": seed}


class CheckpointFolder:
    """The directory of a trial, as a context in which epochs are written.

    One file is written at a time, by a thread of its own, from a copy, so that training goes on meanwhile. Leaving the
    context, in whatever way, waits for the last file and exports the best weights. The files of the two newest epochs
    are kept, and the best one. For the files see `satdet.training.files`.

    Parameters
    ----------
    directory : Path
        Made if it is missing.
    identity : dict
        From `trial_identity`.

    Attributes
    ----------
    damaged : list of Path
        Checkpoints that `load` had to pass over.

    Raises
    ------
    StorageError
        If the directory cannot be made.
    """

    def __init__(self, directory: Path, identity: dict[str, Any]) -> None:
        self.directory = directory
        self.damaged: list[Path] = []
        self._identity = identity
        self._newest: Path | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._write: Future[None] | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            files.clean(directory)
        except OSError as error:
            raise StorageError(f"{directory}: cannot hold checkpoints ({error})") from None

    def load(self) -> dict[str, Any] | None:
        """The content of the newest whole checkpoint, None if there is none.

        Raises
        ------
        CheckpointError
            If it belongs to another trial or to another version of the format.
        """
        path, content, self.damaged = files.newest_epoch(self.directory)
        if path is None:
            return None
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: format {content.get('format')!r}, this version reads {FORMAT}; use another directory"
            )
        _check_identity(path, content["identity"], self._identity)
        self._newest = path
        if content["progress"]["history"][-1]["improved"]:
            files.link_best(path)  # the process may have died between the two
        return content

    def stopped(self, epoch: int) -> StopTraining | None:
        """How a callback ended this trial after `epoch`; None if it did not."""
        path = self.directory / files.STOPPED
        if not path.exists():
            return None
        record = json.loads(path.read_text())
        _check_identity(path, record["identity"], self._identity)
        return StopTraining(record["reason"], record.get("why", "")) if record["epoch"] == epoch else None

    def mark_stopped(self, epoch: int, stop: StopTraining) -> None:
        """Record that a callback ended the trial after `epoch`."""
        record = {"epoch": epoch, "reason": stop.reason, "why": stop.why, "identity": self._identity}
        files.write_text(self.directory / files.STOPPED, json.dumps(record, indent=1))

    def write(self, epoch: int, content: dict[str, Any], *, best: bool) -> None:
        """Copy `content` and begin to write it as the checkpoint of `epoch`; waits for the one before.

        Raises
        ------
        StorageError
            If the one before could not be written.
        """
        self.wait()
        (self.directory / files.STOPPED).unlink(missing_ok=True)  # of an end that lost its checkpoint
        copy = _host_copy({"format": FORMAT, "identity": self._identity} | content)
        self._write = self._pool.submit(self._write_and_prune, epoch, copy, best)

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises
        ------
        StorageError
            If it could not be written.
        """
        if self._write is not None:
            write, self._write = self._write, None
            write.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
            if self._newest is not None:
                export_model(self.directory)
        except SatdetError as own:
            if kind is None:
                raise
            files.logger.error("%s", own)  # what ended the training matters more
        finally:
            self._pool.shutdown()

    def _write_and_prune(self, epoch: int, content: dict[str, Any], best: bool) -> None:
        path = files.write_epoch(self.directory, epoch, content)
        if best:
            files.link_best(path)
        for old in files.epoch_files(self.directory):
            if old not in (path, self._newest):
                old.unlink()
        self._newest = path


def _host_copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _host_copy(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_host_copy(each) for each in value]
    return value


def _check_identity(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    pairs = [("seed", saved["seed"], wanted["seed"]), ("tile store", saved["store"], wanted["store"])]
    keys = [key for key in saved["config"] | wanted["config"] if key not in CHANGEABLE]
    pairs[:0] = [(key, saved["config"].get(key), wanted["config"].get(key)) for key in keys]
    for key, old, new in pairs:
        if old != new:
            raise CheckpointError(f"{path}: made with {key} = {old!r}, this trial has {new!r}; use another directory")
