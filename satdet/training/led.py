"""The checkpoints of a trial as each of its workers sees them: the leader's, of which the others are told."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from satdet.training.callbacks import StopTraining
from satdet.training.checkpoint import CheckpointFolder
from satdet.training.workers import Workers


class LedCheckpoints:
    """A `CheckpointFolder` that only the leader has; see there for the methods.

    Parameters
    ----------
    workers : Workers
    folder : callable
        Makes the leader's.
    """

    def __init__(self, workers: Workers, folder: Callable[[], CheckpointFolder]) -> None:
        self._workers = workers
        self._folder = folder() if workers.leads else None

    def load(self) -> dict[str, Any] | None:
        """The newest whole checkpoint, in every worker."""
        return self._workers.led(lambda: self._own.load())

    def stopped(self, epoch: int) -> StopTraining | None:
        """How a callback ended this trial after `epoch`, in every worker."""

        def told() -> tuple[str, str] | None:
            stop = self._own.stopped(epoch)
            return None if stop is None else (stop.reason, stop.why)

        found = self._workers.led(told)
        return None if found is None else StopTraining(*found)

    def mark_stopped(self, epoch: int, stop: StopTraining) -> None:
        """Record that a callback ended the trial."""
        if self._folder is not None:
            self._folder.mark_stopped(epoch, stop)

    def write(self, epoch: int, content: Callable[[], dict[str, Any]], *, best: bool) -> None:
        """Write `content`, which all workers have alike, as the checkpoint of `epoch`."""
        if self._folder is not None:
            self._folder.write(epoch, content(), best=best)

    def wait(self) -> None:
        """Wait until everything is on disk."""
        if self._folder is not None:
            self._folder.wait()

    def send(self) -> None:
        """Have the leader's twin hold what its directory holds."""
        if self._folder is not None:
            self._folder.send()

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._folder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.__exit__(kind, error, trace)

    @property
    def _own(self) -> CheckpointFolder:
        assert self._folder is not None, "only the leader reads"
        return self._folder
