"""Asynchronous successive halving, by stopping."""

from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore
from experiments.schedulers.rungs import Action, Ladder, Mode, Rung, geometric
from search_spaces.declare import ASHA, PASHA


class AshaCore(SchedulerCore):
    """Stops a trial at a rung unless it is among the best ``1 / reduction`` of those that came there before it.

    Decides as Ray's ``AsyncHyperBandScheduler`` with one bracket: the value must not be below the
    ``1 - 1 / reduction`` quantile of the earlier values, interpolated; the first to come goes on. It differs where one
    report passes several rungs: only the highest counts, while Ray would hold later values against the lower ones.

    Parameters
    ----------
    settings : ASHA or PASHA
    mode : str
        ``max`` or ``min``.
    epochs : int
        The most that a trial runs.
    """

    def __init__(self, settings: ASHA | PASHA, mode: Mode, epochs: int) -> None:
        super().__init__(mode)
        self._share = (1 - 1 / settings.reduction) * 100 / 100  # rounded as a percentile is
        self._ladder = Ladder(geometric(settings.grace_epochs, settings.reduction, epochs), mode)

    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Compare the trial if it reaches a rung."""
        reached = self._ladder.reach(trial_id, epoch)
        if reached is None:
            return CONTINUE
        return self._compare(trial_id, self._ladder.rungs[reached], value)

    def ended(self, trial_id: str, epoch: int, value: float | None) -> None:
        """Keep the value for those to come."""
        if value is not None and (reached := self._ladder.reach(trial_id, epoch)) is not None:
            self._ladder.rungs[reached].add(value)
        self._ladder.forget(trial_id)

    def _compare(self, trial_id: str, rung: Rung, value: float) -> Decision:
        threshold = rung.quantile(self._share) if len(rung) else None
        stop = threshold is not None and self.better(threshold, value)
        rank, compared = rung.rank(value), len(rung) + 1
        rung.add(value)
        if stop:
            self._ladder.forget(trial_id)
        action: Action = "stop" if stop else "continue"
        return rung.decision(action, value, rank=rank, compared=compared, threshold=threshold)
