"""What a scheduler is to the platform: plain Python that decides on epochs, without Ray and without a clock.

Decisions depend on the calls and their order alone. So the memory of a scheduler after a resume is rebuilt by telling
it again what the record says, and a simulation runs the very code that a search runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a trial at an epoch, and why.

    Attributes
    ----------
    action : str
        ``continue``, ``stop``, or ``pause``: the trial gives its resources back and waits for `SchedulerCore.release`.
    why : str
        One sentence for people; empty where nothing was decided.
    rung : int, optional
        The epoch at which trials are compared.
    rank : int, optional
        From 1, the best, among the `compared` trials, this one included.
    compared : int, optional
    threshold : float, optional
        The value that was needed to go on, in the objective's own sign.
    """

    action: Literal["continue", "stop", "pause"]
    why: str = ""
    rung: int | None = None
    rank: int | None = None
    compared: int | None = None
    threshold: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for the record, without what is not known."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


CONTINUE = Decision(action="continue")


class SchedulerCore(ABC):
    """Base of all schedulers.

    Parameters
    ----------
    mode : str
        ``max`` or ``min``: which values are better.
    """

    def __init__(self, mode: Literal["max", "min"]) -> None:
        self.mode = mode

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one > other if self.mode == "max" else one < other

    def add(self, trial_id: str) -> None:  # noqa: B027
        """A trial is suggested; called once a trial, in the order of suggestion."""

    @abstractmethod
    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """A trial reports `value` of the objective after `epoch`; called once an epoch, and not for a trial's last.

        An objective may be thinned, so that epochs are skipped: a rung is reached by the first epoch at or after it.
        """

    def ended(self, trial_id: str, epoch: int, value: float | None) -> None:  # noqa: B027
        """A trial ended by itself (it completed its epochs, a stopper ended it); `value` None: it failed.

        Not called for a trial that this scheduler has stopped; it may be paused (the search's budget is spent).
        """

    def release(self, *, no_more: bool) -> Sequence[tuple[str, Decision]]:
        """The paused trials on which is now decided, in a fixed order; each is returned once.

        Parameters
        ----------
        no_more : bool
            No further trial will be added, and no trial is running: what waits for others waits in vain.
        """
        return ()
