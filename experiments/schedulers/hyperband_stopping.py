"""W&B's early termination."""

from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore
from experiments.schedulers.rungs import Ladder, Mode
from search_spaces.declare import HyperbandStopping


class HyperbandStoppingCore(SchedulerCore):
    """Stops a trial that is not among the best ``1 / reduction`` of all that reached its last rung.

    The rule of W&B's ``early_terminate``. The values that `n` trials had at a rung are put in order, the best first;
    the one at the place ``int(n / reduction)``, from 0, is the threshold, so that one more than the fraction is within.
    Whoever is strictly worse is stopped. A trial is compared with every report, not only at the rung: as others come,
    the threshold of the rung behind it may rise above it. What is compared is its value at that rung if `strict`, else
    its best value so far, which is lenient: best values are held against single ones.

    Trials that have failed or were stopped stay among the `n`.

    Parameters
    ----------
    settings : HyperbandStopping
    mode : str
        ``max`` or ``min``.
    """

    def __init__(self, settings: HyperbandStopping, mode: Mode) -> None:
        super().__init__(mode)
        self._strict = settings.strict
        self._share = 1.0 / settings.reduction
        self._ladder = Ladder(settings.rungs, mode)
        self._last: dict[str, tuple[int, float]] = {}
        self._best: dict[str, float] = {}

    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Compare the trial with all that have reached the last rung behind it."""
        self._see(trial_id, epoch, value)
        if trial_id not in self._last:
            return CONTINUE
        index, value_there = self._last[trial_id]
        rung = self._ladder.rungs[index]
        compared = value_there if self._strict else self._best[trial_id]
        threshold = rung.best(int(self._share * len(rung)))
        stop = self.better(threshold, compared)
        if stop:
            self._forget(trial_id)
        return rung.decision(
            "stop" if stop else "continue", compared, rank=rung.rank(compared), compared=len(rung), threshold=threshold
        )

    def ended(self, trial_id: str, epoch: int, value: float | None) -> None:
        """Keep the value for those to come."""
        if value is not None:
            self._see(trial_id, epoch, value)
        self._forget(trial_id)

    def _see(self, trial_id: str, epoch: int, value: float) -> None:
        before = self._best.get(trial_id)
        if before is None or self.better(value, before):
            self._best[trial_id] = value
        if (reached := self._ladder.reach(trial_id, epoch)) is not None:
            self._ladder.rungs[reached].add(value)
            self._last[trial_id] = reached, value

    def _forget(self, trial_id: str) -> None:
        self._ladder.forget(trial_id)
        self._last.pop(trial_id, None)
        self._best.pop(trial_id, None)
