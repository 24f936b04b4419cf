"""The epochs at which trials are compared, and what was seen there."""

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Literal

from experiments.schedulers.core import Decision

Mode = Literal["max", "min"]
Action = Literal["continue", "stop"]


def geometric(first: int, reduction: int, epochs: int) -> list[int]:
    """``first * reduction**k``, as far as `epochs`."""
    rungs = []
    while first <= epochs:
        rungs.append(first)
        first *= reduction
    return rungs


class Rung:
    """The values that trials had at one epoch, in order.

    Parameters
    ----------
    epoch : int
    mode : str
        ``max`` or ``min``: which values are better.
    """

    def __init__(self, epoch: int, mode: Mode) -> None:
        self.epoch = epoch
        self._mode = mode
        self._sign = 1.0 if mode == "max" else -1.0
        self._ordered: list[float] = []  # by what is better, the worst first

    def __len__(self) -> int:
        return len(self._ordered)

    def add(self, value: float) -> None:
        """Add the value of one more trial."""
        insort(self._ordered, self._sign * value)

    def rank(self, value: float) -> int:
        """1 and the number of values that are strictly better."""
        return 1 + len(self._ordered) - bisect_right(self._ordered, self._sign * value)

    def best(self, place: int) -> float:
        """The value at a `place`, from 0, the best."""
        return self._unsigned(self._ordered[-1 - place])

    def quantile(self, share: float) -> float:
        """The value that a `share` of the others is worse than; linear between neighbours, to the bit as numpy's."""
        position = (len(self._ordered) - 1) * share
        below = math.floor(position)
        lower, upper = self._ordered[below], self._ordered[min(below + 1, len(self._ordered) - 1)]
        weight, width = position - below, upper - lower
        return self._unsigned(upper - width * (1 - weight) if weight >= 0.5 else lower + width * weight)

    def decision(self, action: Action, value: float, *, rank: int, compared: int, threshold: float | None) -> Decision:
        """What the comparison of `value` with a `threshold` led to, in words and numbers."""
        standing = f"rung {self.epoch}: rank {rank} of {compared} with {value:.4g}"
        if threshold is not None:
            standing += f"; at {'least' if self._mode == 'max' else 'most'} {threshold:.4g} was needed"
        return Decision(action=action, why=standing, rung=self.epoch, rank=rank, compared=compared, threshold=threshold)

    def _unsigned(self, key: float) -> float:
        return self._sign * key + 0.0  # turns -0 into 0


class Ladder:
    """The rungs of a search and how far each trial has climbed.

    Parameters
    ----------
    epochs : sequence of int
        Increasing.
    mode : str
        ``max`` or ``min``.
    """

    def __init__(self, epochs: Sequence[int], mode: Mode) -> None:
        self.rungs = [Rung(epoch, mode) for epoch in epochs]
        self._behind: dict[str, int] = {}

    def reach(self, trial_id: str, epoch: int, highest: int | None = None) -> int | None:
        """The index of the rung that a trial reaches with its report after `epoch`, None if it reaches none.

        Where epochs are skipped it may reach several at once; only the highest of them counts, so that its later value
        is not compared with the earlier ones of others.

        Parameters
        ----------
        trial_id : str
        epoch : int
        highest : int, optional
            Index of the last rung that can be reached.
        """
        behind = reached = self._behind.get(trial_id, 0)
        end = len(self.rungs) if highest is None else min(highest + 1, len(self.rungs))
        while reached < end and self.rungs[reached].epoch <= epoch:
            reached += 1
        if reached == behind:
            return None
        self._behind[trial_id] = reached
        return reached - 1

    def forget(self, trial_id: str) -> None:
        """Forget a trial that has ended; its values stay."""
        self._behind.pop(trial_id, None)
