"""What training tells its caller, and how a caller may end it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochReport:
    """One completed epoch.

    Attributes
    ----------
    epoch : int
        From 1; 0 only in the last report of a trial that was stopped before its first epoch was complete.
    metrics : dict of float
        Every name of `satdet.config.metric_names`, all finite.
    improved : bool
        Whether this epoch has the highest map_50 so far.
    stop_reason : str, optional
        In the last report of a trial: ``completed``, ``early_stopping`` or the reason of a `StopTraining`.
    """

    epoch: int
    metrics: dict[str, float]
    improved: bool
    stop_reason: str | None


@dataclass(frozen=True)
class BatchProgress:
    """One optimizer step: the `batch`-th (from 1) of `batches` in the epoch, its tiles, and how long it took.

    ``seconds`` runs from the end of the batch before, so it holds the loading too, but no evaluation.
    """

    epoch: int
    batch: int
    batches: int
    images: int
    seconds: float


class StopTraining(Exception):
    """Raised by a callback after a batch to end the trial cleanly; the last report carries the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Callback:
    """Base of what watches a trial; each method may be left as it is."""

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Look at a batch; may raise `StopTraining`, which gives up the epoch under way but nothing before it."""

    def on_epoch_end(self, report: EpochReport) -> None:
        """Look at an epoch, before it goes to the checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Whatever must survive a resume; plain values and tensors only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned in an earlier process."""


class SpeedGuard(Callback):
    """Ends a trial as ``slow_speed_global`` when it trains too slowly to be worth its device.

    The rate is the average since the start of the trial, looked at after every batch. The first batches of each
    process, slow by nature, are left out, and so is evaluation.

    Parameters
    ----------
    images_per_second : float, optional
        Slowest rate allowed, fair to every batch size.
    iterations_per_second : float, optional
        Slowest rate allowed, the report's rule (0.8); larger batches are slower by nature.
    warmup_batches : int
        Batches left out after every start and resume.
    """

    def __init__(
        self,
        images_per_second: float | None = None,
        iterations_per_second: float | None = None,
        warmup_batches: int = 10,
    ) -> None:
        self._images_per_second = images_per_second or 0.0
        self._iterations_per_second = iterations_per_second or 0.0
        self._warmup_left = warmup_batches
        self._images = 0
        self._iterations = 0
        self._seconds = 0.0

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Count the batch, and stop the trial if it has been too slow so far."""
        if self._warmup_left > 0:
            self._warmup_left -= 1
            return
        self._images += progress.images
        self._iterations += 1
        self._seconds += progress.seconds
        too_few_images = self._images < self._images_per_second * self._seconds
        if too_few_images or self._iterations < self._iterations_per_second * self._seconds:
            raise StopTraining("slow_speed_global")

    def state_dict(self) -> dict[str, Any]:
        """Counts since the start of the trial."""
        return {"images": self._images, "iterations": self._iterations, "seconds": self._seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the counts of an earlier process."""
        self._images = int(state["images"])
        self._iterations = int(state["iterations"])
        self._seconds = float(state["seconds"])
