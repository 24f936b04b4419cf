"""What training tells its caller, and how a caller may end it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from satdet.errors import NonFiniteLossError


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
    stop_detail : str, optional
        What a `StopTraining` said besides.
    remarks : tuple of str
        What happened since the last report, for people: a damaged checkpoint that was passed over, a smaller batch.
    """

    epoch: int
    metrics: dict[str, float]
    improved: bool
    stop_reason: str | None
    stop_detail: str | None = None
    remarks: tuple[str, ...] = ()


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
    """Raised by a callback to end the trial cleanly; the last report carries both.

    Parameters
    ----------
    reason : str
        One word, the same for all trials that end so.
    why : str
        One sentence for people, about this trial.
    """

    def __init__(self, reason: str, why: str = "") -> None:
        super().__init__(reason, why)
        self.reason = reason
        self.why = why


class Callback:
    """Base of what watches a trial; each method may be left as it is."""

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Look at a batch; may raise `StopTraining`, which gives up the epoch under way but nothing before it."""

    def on_epoch_end(self, report: EpochReport) -> None:
        """Look at an epoch, before it goes to the checkpoint."""

    def on_non_finite_loss(self, error: NonFiniteLossError) -> None:
        """Look at an error that is about to end training; may raise `StopTraining` in its place."""

    def state_dict(self) -> dict[str, Any]:
        """Whatever must survive a resume; plain values and tensors only."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned in an earlier process."""


class Divergence(Callback):
    """Ends a trial as ``diverged``, rather than as failed, when a loss is NaN or infinite."""

    def on_non_finite_loss(self, error: NonFiniteLossError) -> None:
        """Stop the trial; it keeps the epochs before."""
        raise StopTraining("diverged", why=str(error))


class StopAfter(Callback):
    """Ends a trial as ``stopped`` after so many epochs, whatever its configuration has it train.

    Parameters
    ----------
    epochs : int
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Give up the epoch that is one too many."""
        if progress.epoch > self._epochs:
            raise StopTraining("stopped", why=f"after epoch {self._epochs}, as before")


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
    of_median : float, optional
        Slowest rate allowed, as a share of what is usual on this hardware.
    medians : mapping, optional
        What is usual: by the name of the hardware, images a second on average up to the end of each epoch. After its
        last epoch the last value holds; for other hardware nothing is known, and nothing is required.
    hardware : str
        What the trial runs on, see `satdet.training.hardware_name`.
    """

    def __init__(
        self,
        images_per_second: float | None = None,
        iterations_per_second: float | None = None,
        warmup_batches: int = 10,
        of_median: float | None = None,
        medians: Mapping[str, Sequence[float]] | None = None,
        hardware: str = "",
    ) -> None:
        self._images_per_second = images_per_second or 0.0
        self._iterations_per_second = iterations_per_second or 0.0
        self._warmup_left = warmup_batches
        self._of_median = of_median or 0.0
        self._medians = (medians or {}).get(hardware, ())
        self._hardware = hardware
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
        self._require(self._images, "images/s", self._images_per_second)
        self._require(self._iterations, "iterations/s", self._iterations_per_second)
        if self._medians:
            median = self._medians[min(progress.epoch, len(self._medians)) - 1]
            usual = f", {self._of_median:g} of the {median:.3g} that are usual on {self._hardware}"
            self._require(self._images, "images/s", self._of_median * median, usual)

    def state_dict(self) -> dict[str, Any]:
        """Counts since the start of the trial."""
        return {"images": self._images, "iterations": self._iterations, "seconds": self._seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the counts of an earlier process."""
        self._images = int(state["images"])
        self._iterations = int(state["iterations"])
        self._seconds = float(state["seconds"])

    def _require(self, count: int, unit: str, rate: float, basis: str = "") -> None:
        if count < rate * self._seconds:
            batches = "1 batch" if self._iterations == 1 else f"{self._iterations} batches"
            average = f"{count / self._seconds:.3g} {unit} on average over {batches}"
            raise StopTraining("slow_speed_global", why=f"{average}; {rate:.3g} needed{basis}")
