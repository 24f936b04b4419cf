"""Progressive asynchronous successive halving."""

from bisect import insort
from collections.abc import Sequence
from dataclasses import replace

from experiments.schedulers.asha import AshaCore
from experiments.schedulers.core import CONTINUE, Decision
from experiments.schedulers.rungs import Mode
from search_spaces.declare import PASHA


class PashaCore(AshaCore):
    """ASHA under a ceiling, a rung that is raised by one each time the ranking turns out not to be settled.

    The ceiling begins at the second rung. A trial that arrives there and that ASHA would let go on waits. The ranking
    is settled as long as every trial at the ceiling takes a place that at the rung below belonged to itself or to a
    trial within `noise` of its value there. Once it is not, the ceiling rises, and those that wait go on if they still
    are among the best ``1 / reduction``. Who waits when no trial is left to change the ranking is stopped.

    Parameters
    ----------
    settings : PASHA
    mode : str
        ``max`` or ``min``.
    epochs : int
        The most that a trial runs; the highest ceiling.
    """

    def __init__(self, settings: PASHA, mode: Mode, epochs: int) -> None:
        super().__init__(settings, mode, epochs)
        self._noise = settings.noise
        self._sign = 1.0 if mode == "max" else -1.0
        self._top = 1
        self._below: dict[str, float] = {}  # values at the rung below the ceiling
        self._at_top: dict[str, float] = {}
        self._ranking: list[tuple[float, str]] = []  # of the trials at the ceiling, by their values there,
        self._ranking_below: list[tuple[float, str]] = []  # and by those at the rung below
        self._waiting: dict[str, float] = {}
        self._decided: list[tuple[str, Decision]] = []

    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Compare the trial if it reaches a rung; at the ceiling it waits, unless it makes the ceiling rise."""
        reached = self._ladder.reach(trial_id, epoch, highest=self._top)
        if reached is None:
            return CONTINUE
        decision = self._compare(trial_id, self._ladder.rungs[reached], value)
        risen = self._note(trial_id, reached, value)
        if decision.action == "stop" or reached < self._top or risen:
            return decision
        self._waiting[trial_id] = value
        return replace(decision, action="pause", why=f"{decision.why}; waits, the ranking is settled so far")

    def ended(self, trial_id: str, epoch: int, value: float | None) -> None:
        """Keep the value for those to come, and for the ranking."""
        if value is not None and (reached := self._ladder.reach(trial_id, epoch, highest=self._top)) is not None:
            self._ladder.rungs[reached].add(value)
            self._note(trial_id, reached, value)
        self._waiting.pop(trial_id, None)
        self._ladder.forget(trial_id)

    def release(self, *, no_more: bool) -> Sequence[tuple[str, Decision]]:
        """Those that waited below a ceiling that has risen, and in the end all that wait, in the order of arrival."""
        if no_more:
            for trial_id, value in self._waiting.items():
                self._decide(trial_id, value, threshold=None)
            self._waiting.clear()
        decided, self._decided = self._decided, []
        return decided

    def _note(self, trial_id: str, reached: int, value: float) -> bool:
        """Enter a value into the ranking; whether the ceiling has risen."""
        if reached == self._top - 1:
            self._below[trial_id] = self._sign * value
        if reached < self._top:
            return False
        self._at_top[trial_id] = self._sign * value
        if trial_id in self._below:
            insort(self._ranking, (self._at_top[trial_id], trial_id))
            insort(self._ranking_below, (self._below[trial_id], trial_id))
        if self._settled():
            return False
        rung = self._ladder.rungs[reached]
        for waiting, its_value in self._waiting.items():
            self._decide(waiting, its_value, threshold=rung.quantile(self._share))
        self._waiting.clear()
        self._top += 1
        self._below, self._at_top = self._at_top, {}
        self._ranking.clear()
        self._ranking_below.clear()
        return True

    def _settled(self) -> bool:
        places = zip(self._ranking, self._ranking_below, strict=True)
        return all(abs(self._below[trial] - value_below) <= self._noise for (_, trial), (value_below, _) in places)

    def _decide(self, trial_id: str, value: float, threshold: float | None) -> None:
        """Let a trial that waits at the ceiling go on if it has reached the `threshold`; stop it without one."""
        rung = self._ladder.rungs[self._top]
        stop = threshold is None or self.better(threshold, value)
        decision = rung.decision(
            "stop" if stop else "continue", value, rank=rung.rank(value), compared=len(rung), threshold=threshold
        )
        if threshold is None:
            decision = replace(decision, why=f"{decision.why}; the ranking is settled, no trial needs to go further")
        if stop:
            self._ladder.forget(trial_id)
        self._decided.append((trial_id, decision))
