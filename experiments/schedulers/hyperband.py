"""Hyperband with all its waiting."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore
from experiments.schedulers.rungs import Action, Mode, Rung
from search_spaces.declare import Hyperband


@dataclass
class _Bracket:
    """Trials that are halved together."""

    number: int
    size: int
    rungs: Sequence[int]
    level: int = 0
    """Index of the rung that its trials are on their way to, or wait at."""
    added: int = 0
    closed: bool = False
    alive: dict[str, None] = field(default_factory=dict)
    """In the order of adding."""
    waiting: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Epoch and value of the trials that have arrived at the rung."""

    @property
    def complete(self) -> bool:
        """Whether all trials that it will ever have and that are left wait at the rung."""
        filled = self.closed or self.added == self.size
        return filled and 0 < len(self.waiting) == len(self.alive)


class HyperbandCore(SchedulerCore):
    """Synchronous successive halving in brackets, from many short trials to few long ones and again.

    With ``R`` epochs at most, a reduction ``eta`` and ``s_max = floor(log_eta(R / min_epochs))``, bracket ``s`` holds
    ``ceil((s_max + 1) / (s + 1) * eta**s)`` trials, and its rungs are ``R / eta**s … R / eta, R``, in whole epochs.
    Trials fill the brackets ``s_max … 0`` in turn, then ``s_max`` again. At a rung a trial waits for the others of its
    bracket; of `n` that come, the best ``floor(n / eta)``, but at least one, go on. A trial that ends by itself is not
    among the `n`. Of equal values, that of the trial added first is the better.

    A bracket that is not full waits for further trials until `release` is told that there are no more.

    Parameters
    ----------
    settings : Hyperband
    mode : str
        ``max`` or ``min``.
    epochs : int
        The most that a trial runs.
    """

    def __init__(self, settings: Hyperband, mode: Mode, epochs: int) -> None:
        super().__init__(mode)
        self._mode: Mode = mode
        self._sign = 1.0 if mode == "max" else -1.0
        self._reduction = settings.reduction
        self._epochs = epochs
        self._most_halvings = 0
        while settings.min_epochs * self._reduction ** (self._most_halvings + 1) <= epochs:
            self._most_halvings += 1
        self._filling: _Bracket | None = None
        self._bracket_of: dict[str, _Bracket] = {}
        self._decided: list[tuple[str, Decision]] = []

    def add(self, trial_id: str) -> None:
        """Put the trial into the bracket that is being filled."""
        bracket = self._filling
        if bracket is None or bracket.closed or bracket.added == bracket.size:
            halvings = self._most_halvings
            if bracket is not None:
                halvings = bracket.number - 1 if bracket.number else halvings
            bracket = self._filling = self._bracket(halvings)
        bracket.added += 1
        bracket.alive[trial_id] = None
        self._bracket_of[trial_id] = bracket

    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Pause the trial if it reaches a rung, though not the last, at which it just ends."""
        bracket = self._bracket_of[trial_id]
        rung = bracket.rungs[bracket.level]
        if epoch < rung or rung == self._epochs:
            return CONTINUE
        bracket.waiting[trial_id] = epoch, value
        self._halve(bracket)
        why = f"rung {rung} of bracket {bracket.number}: waits for the others"
        return Decision(action="pause", why=why, rung=rung)

    def ended(self, trial_id: str, epoch: int, value: float | None) -> None:
        """Take the trial out of its bracket; the others may have waited for it alone."""
        bracket = self._bracket_of.pop(trial_id)
        bracket.alive.pop(trial_id)
        bracket.waiting.pop(trial_id, None)
        self._halve(bracket)

    def release(self, *, no_more: bool) -> Sequence[tuple[str, Decision]]:
        """The trials of the rungs that are complete, the best of each rung first."""
        if no_more and self._filling is not None:
            self._filling.closed = True
            self._halve(self._filling)
        decided, self._decided = self._decided, []
        return decided

    def _bracket(self, halvings: int) -> _Bracket:
        eta = self._reduction
        size = -(-(self._most_halvings + 1) * eta**halvings // (halvings + 1))
        rungs = [round(self._epochs / eta**left) for left in range(halvings, -1, -1)]
        return _Bracket(halvings, size, rungs)

    def _halve(self, bracket: _Bracket) -> None:
        """Decide on the rung if it is complete, and on those after it that the trials have passed already."""
        while bracket.complete:
            values = Rung(bracket.rungs[bracket.level], self._mode)
            for _, value in bracket.waiting.values():
                values.add(value)
            kept = max(1, len(values) // self._reduction)
            threshold = values.best(kept - 1)
            arrived, bracket.waiting = bracket.waiting, {}
            order = sorted(bracket.alive, key=lambda trial: self._sign * arrived[trial][1], reverse=True)  # stable
            bracket.level += 1
            next_rung = bracket.rungs[bracket.level]
            for rank, trial in enumerate(order, start=1):
                epoch, value = arrived[trial]
                go_on = rank <= kept
                if go_on and epoch >= next_rung < self._epochs:  # its epochs were skipped: it has arrived
                    bracket.waiting[trial] = epoch, value
                    continue
                if not go_on:
                    bracket.alive.pop(trial)
                    self._bracket_of.pop(trial)
                action: Action = "continue" if go_on else "stop"
                decision = values.decision(action, value, rank=rank, compared=len(order), threshold=threshold)
                self._decided.append((trial, decision))
