"""The checkpoints of one trial: written behind training's back, checked before they are gone on from."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from torch import Tensor

from satdet._storage import make_folder
from satdet.errors import CheckpointError, SatdetError, StorageError, TrainingError
from satdet.training import files
from satdet.training.callbacks import StopTraining
from satdet.training.export import export_model
from satdet.training.identity import check_identity
from satdet.training.patience import StoragePatience
from satdet.training.remarks import Remarks

FORMAT = 1
_PARTS = {"identity", "learner", "progress", "callbacks"}


class Twin(Protocol):
    """A trial's folder elsewhere, of which a directory of this machine is the copy."""

    def fetch(self) -> None:
        """Make the directory what the twin is; raises OSError."""

    def send(self) -> None:
        """Make the twin what the directory is; raises OSError."""


class CheckpointFolder:
    """The directory of a trial, as a context in which epochs are written.

    One file is written at a time, by a thread of its own, from a copy, so that training goes on meanwhile. Leaving the
    context, in whatever way, waits for the last file and exports the best weights. The files of the newest epochs are
    kept, and the best one. For the files see `satdet.training.files`.

    Parameters
    ----------
    directory : Path
        Made if it is missing.
    identity : dict
        From `trial_identity`.
    keep : int
        How many of the newest, at least 1; an older one is removed only when the one that takes its place is whole.
    patience : StoragePatience
        With what cannot be written or read; given up when the context is left for another reason than the trial itself.
    remarks : Remarks
        Told what was found damaged.
    after_epoch : int
        Epochs that the trial is known to have had.
    continue_after : int, optional
        If an ended trial goes on after that epoch.
    twin : Twin, optional
        Where the files proper are, if `directory` is only this machine's copy.

    Raises
    ------
    StorageError
        If the directory cannot be made.
    """

    def __init__(
        self,
        directory: Path,
        identity: dict[str, Any],
        *,
        keep: int,
        patience: StoragePatience,
        remarks: Remarks,
        after_epoch: int = 0,
        continue_after: int | None = None,
        twin: Twin | None = None,
    ) -> None:
        self.directory = directory
        self._twin = twin
        self._identity = identity
        self._keep = max(1, keep)
        self._patience = patience
        self._remarks = remarks
        self._after_epoch = after_epoch
        self._continue_after = continue_after
        self._newest: Path | None = None
        self._damaged: list[Path] = []
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._write: Future[None] | None = None
        try:
            patience.write(directory, self._make)
        except StorageError as error:
            raise type(error)(f"{directory}: cannot hold checkpoints ({error})") from None

    def load(self) -> dict[str, Any] | None:
        """The content of the newest whole checkpoint, None if the trial begins from its seed.

        Raises
        ------
        CheckpointError
            If it belongs to another trial or to another version of the format, or if an ended trial is to go on and
            there is none.
        StorageError
            If the storage cannot be read.
        """
        path, content, self._damaged = files.newest_epoch(self.directory, self._patience)
        self._remark_on_lost(path, content)
        if path is None:
            return None
        if content.get("format") != FORMAT or not content.keys() >= _PARTS:
            raise CheckpointError(
                f"{path}: format {content.get('format')!r}, this version reads {FORMAT}; use another directory"
            )
        check_identity(path, content["identity"], self._identity)
        self._newest = path
        if content["progress"]["history"][-1]["improved"]:
            files.link_best(path, self._patience)  # the process may have died between the two
        return content

    def stopped(self, epoch: int) -> StopTraining | None:
        """How a callback ended this trial after `epoch`; None if it did not, or if the trial goes on nevertheless."""
        path = self.directory / files.STOPPED
        try:
            record = files.read_record(path, self._patience)
        except CheckpointError as error:
            files.logger.warning("%s", error)
            self._remarks.add(f"{path.name} is damaged; the trial goes on after epoch {epoch}")
            return None
        if record is None or record["epoch"] != epoch:
            return None
        check_identity(path, record["identity"], self._identity)
        if self._continue_after == epoch != record["continue_after"]:
            return None
        return StopTraining(record["reason"], record["why"])

    def mark_stopped(self, epoch: int, stop: StopTraining) -> None:
        """Record that a callback ended the trial after `epoch`.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        record = {
            "epoch": epoch,
            "reason": stop.reason,
            "why": stop.why,
            "continue_after": self._continue_after,
            "identity": self._identity,
        }
        files.write_record(self.directory / files.STOPPED, record, self._patience)
        self.send()

    def send(self) -> None:
        """Have the twin, if there is one, hold what the directory holds.

        Raises
        ------
        StorageError
            If it does not take it.
        """
        if self._twin is not None:
            self._patience.write(self.directory, self._twin.send)

    def write(self, epoch: int, content: dict[str, Any], *, best: bool) -> None:
        """Copy `content` and begin to write it as the checkpoint of `epoch`; waits for the one before.

        Raises
        ------
        StorageError
            If the one before could not be written.
        """
        self.wait()
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
        if kind is not None and not issubclass(kind, TrainingError):
            self._patience.give_up()
        try:
            try:
                self.wait()
            finally:
                if self._newest is not None:
                    export_model(
                        self.directory, identity=self._identity, patience=self._patience, remarks=self._remarks
                    )
                    self.send()
        except SatdetError as own:
            if kind is None:
                raise
            files.logger.error("%s", own)  # what ended the training matters more
        finally:
            self._pool.shutdown()

    def _make(self) -> None:
        # Of a trial that has had epochs, more than the last folder is never missing, unless the storage is.
        make_folder(self.directory, parents=not self._after_epoch or self._twin is not None)
        if self._twin is not None:
            self._twin.fetch()
        files.clean(self.directory)

    def _remark_on_lost(self, path: Path | None, content: dict[str, Any]) -> None:
        names = ", ".join(each.name for each in self._damaged)
        lost = f"{names} {'is' if len(self._damaged) == 1 else 'are'} damaged" if names else ""
        if path is None and self._continue_after:
            there = lost or "there is none"
            raise CheckpointError(
                f"{self.directory}: no whole checkpoint to continue from after epoch {self._continue_after} ({there}); "
                "run the trial again from its start"
            )
        if path is None and not lost and self._after_epoch:
            lost = f"no checkpoint is left of {_epochs(self._after_epoch)}"
        if lost:
            epoch = len(content["progress"]["history"]) if path is not None else 0
            self._remarks.add(f"{lost}; {f'went on from epoch {epoch}' if epoch else 'began again from the start'}")

    def _forget_stop(self) -> None:
        """Of an end that lost its checkpoint, or was overruled."""
        stopped = self.directory / files.STOPPED
        if stopped.exists():
            stopped.unlink()

    def _write_and_prune(self, epoch: int, content: dict[str, Any], best: bool) -> None:
        self._patience.write(self.directory / files.STOPPED, self._forget_stop)
        path = files.write_epoch(self.directory, epoch, content, self._patience)
        if best:
            files.link_best(path, self._patience)
        self._newest = path
        for damaged in self._damaged:
            files.remove(damaged)
        self._damaged = []
        for old in self._patience.read(self.directory, lambda: files.epoch_files(self.directory))[self._keep :]:
            files.remove(old)
        self.send()


def _epochs(count: int) -> str:
    return "the first epoch" if count == 1 else f"the first {count} epochs"


def _host_copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _host_copy(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_host_copy(each) for each in value]
    return value
