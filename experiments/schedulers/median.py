"""The median stopping rule."""

from dataclasses import dataclass

from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore
from experiments.schedulers.rungs import Mode, Rung
from search_spaces.declare import MedianStopping


@dataclass
class _Curve:
    """What a trial has reported."""

    epoch: int = 0
    reports: int = 0
    total: float = 0.0
    best: float = 0.0

    @property
    def average(self) -> float:
        """Mean of the reports so far."""
        return self.total / self.reports


class MedianStoppingCore(SchedulerCore):
    """Stops a trial whose best value so far is strictly worse than the median of the others' running averages.

    An average is over all reports up to the epoch in question; the others are all trials that have come as far,
    whatever became of them.

    Parameters
    ----------
    settings : MedianStopping
    mode : str
        ``max`` or ``min``.
    """

    def __init__(self, settings: MedianStopping, mode: Mode) -> None:
        super().__init__(mode)
        self._mode: Mode = mode
        self._grace_epochs = settings.grace_epochs
        self._min_trials = settings.min_trials
        self._curves: dict[str, _Curve] = {}
        self._averages: dict[int, Rung] = {}

    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Compare the trial with the others at this epoch."""
        curve = self._extend(trial_id, epoch, value)
        averages = self._at(epoch)
        decision = CONTINUE
        if epoch >= self._grace_epochs and len(averages) >= self._min_trials:
            median = averages.quantile(0.5)
            stop = self.better(median, curve.best)
            decision = averages.decision(
                "stop" if stop else "continue",
                curve.best,
                rank=averages.rank(curve.best),
                compared=len(averages) + 1,
                threshold=median,
            )
            if stop:
                self._curves.pop(trial_id)
        averages.add(curve.average)
        return decision

    def ended(self, trial_id: str, epoch: int, value: float | None) -> None:
        """Keep the value for those to come; the end of a trial may repeat its last epoch."""
        if value is not None and epoch > self._curves.get(trial_id, _Curve()).epoch:
            self._at(epoch).add(self._extend(trial_id, epoch, value).average)
        self._curves.pop(trial_id, None)

    def _extend(self, trial_id: str, epoch: int, value: float) -> _Curve:
        """Add a report to a trial's curve, and the average before it to the epochs that were skipped since."""
        curve = self._curves.setdefault(trial_id, _Curve(best=value))
        if curve.reports:
            for skipped in range(curve.epoch + 1, epoch):
                self._at(skipped).add(curve.average)
        curve.epoch = epoch
        curve.reports += 1
        curve.total += value
        curve.best = value if self.better(value, curve.best) else curve.best
        return curve

    def _at(self, epoch: int) -> Rung:
        return self._averages.setdefault(epoch, Rung(epoch, self._mode))
