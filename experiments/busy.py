"""Saying so when a cluster is busy with something else, and no trial has found room on it."""

import time
from collections.abc import Callable

from experiments.record import Event
from experiments.resources import TrialResources
from experiments.state import SearchState

_FIRST_SECONDS = 20.0
"""A process of Ray takes some seconds to start, more on a loaded machine."""
_EVERY_SECONDS = 60.0


class BusyWatch:
    """Looks whether trials run, and says what they wait for when none does.

    Parameters
    ----------
    needed : TrialResources
    free : callable
        What is free on the cluster now, in words.
    say : callable
    """

    def __init__(self, needed: TrialResources, free: Callable[[], str], say: Callable[[str], None]) -> None:
        self._needed = needed
        self._free = free
        self._say = say
        self._running: set[str] = set()
        self._next = time.monotonic() + _FIRST_SECONDS

    def event(self, event: Event, state: SearchState) -> None:
        """Take note of trials that begin and end."""
        if "trial" in event:
            trial_id = str(event["trial"])
            begun = event["kind"] in ("started", "result") and state.trials[trial_id].status == "running"
            (self._running.add if begun else self._running.discard)(trial_id)
        self._next = time.monotonic() + _FIRST_SECONDS

    def look(self, state: SearchState) -> None:
        """Say what is waited for, if nothing has run for a while."""
        now = time.monotonic()
        if self._running or now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        if any(trial.status in ("pending", "running") for trial in state.trials.values()):
            self._say(f"waiting for room on the cluster: it takes {self._needed}, and {self._free()} are free now")
