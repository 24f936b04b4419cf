"""The running search: its record, and the state that the record adds up to, kept in step."""

from collections.abc import Callable
from typing import Any

from experiments.record import Event, Record
from experiments.state import SearchState, TrialState

Listener = Callable[[Event, SearchState], None]


class LiveSearch:
    """Writes events to the record first, then to the state, then to whoever listens.

    Parameters
    ----------
    record : Record
        Opened for appending; what it holds already is folded into `state`.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.state = SearchState.of(record.events)
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every later event, after it is on disk."""
        self._listeners.append(listener)

    def note(self, kind: str, **values: Any) -> None:
        """Write an event down, then act on it."""
        event = self.record.append(kind, **values)
        self.state.apply(event)
        for listener in self._listeners:
            listener(event, self.state)

    def trial(self, trial_id: str) -> TrialState:
        """The state of one trial."""
        return self.state.trials[trial_id]
