"""One tracker kept up to date with the record, in a thread of its own, whatever becomes of its server."""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence

from experiments.record import RecordReader
from experiments.state import SearchState
from experiments.trackers import TRACKERS, Tracker, TrackerSettings, TrackerState
from experiments.trackers.outage import Anew, Unreachable, reason

_POLL_SECONDS = 0.3
_PAUSES = (1.0, 2.0, 5.0, 10.0, 15.0)
"""Seconds to wait after the first, second, … failure in a row; the last one ever after, while there is a driver."""
_GLANCE_SECONDS = 2.0
_PROBE_SECONDS = 8.0
_log = logging.getLogger("satdet.sync")


class Projection(threading.Thread):
    """Follows the record and keeps one tracker up to date with it.

    Parameters
    ----------
    name : str
        Which tracker.
    settings : TrackerSettings
    driver_gone : threading.Event
        Set when no more will be written to the record.
    last_pauses : sequence of float
        Seconds to wait after the first, second, … failure in a row when there is no driver; one more is the last.
    """

    def __init__(
        self,
        name: str,
        settings: TrackerSettings,
        driver_gone: threading.Event,
        last_pauses: Sequence[float] = (1.0, 2.0, 5.0),
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._kind = TRACKERS[name]
        self._settings = settings
        self._driver_gone = driver_gone
        self._last_pauses = last_pauses
        self._failures = 0
        self._progress = 0
        self.address = self._kind.address(settings)
        self.state = TrackerState.load(settings.search.trackers, name)
        if self.state.address not in (None, self.address):
            self.state = TrackerState(self.state.path)  # what another server has says nothing about this one
        self.state.address, self.state.contact, self.state.error = self.address, None, None
        self.done = False

    @property
    def complete(self) -> bool:
        """Whether all was sent to where it was meant to go."""
        return self.done and self.state.error is None

    def run(self) -> None:
        """Send until the record has ended and all is sent; begin again after any error of the tracker."""
        self._save()
        while not self.done:
            tracker: Tracker | None = None
            try:
                tracker = self._kind(self._settings, self.state)
                tracker.connect()
                self.state.contact = self.state.contact or (None if tracker.trouble else time.time())
                self._follow(tracker)
            except Anew:
                _let_go(tracker)
            except Exception as error:
                _let_go(tracker)
                if not self._wait_after(error):
                    return

    def _follow(self, tracker: Tracker) -> None:
        search = SearchState()
        reader = RecordReader(self._settings.search.record)
        read = 0
        while True:
            last = self._driver_gone.is_set()
            for event in reader.new_events():
                search.apply(event)
                tracker.apply(event, search)
                read = event["n"]
            settled = tracker.settle(final=last)
            if not tracker.pending:
                self._failures = 0
                self.state.sequence, self.state.error = read, tracker.trouble
            self._save()
            if last and settled:
                tracker.finish(search)
                self._save()
                self.done = True
                return
            time.sleep(_POLL_SECONDS)

    def _wait_after(self, error: Exception) -> bool:
        """Wait until it is worth another try; whether there is to be one."""
        tally = self.state.tally
        tally.failures += 1
        sent = tally.points + tally.files + len(tally.runs)
        self._failures = 1 if sent > self._progress else self._failures + 1
        self._progress = sent
        _log.warning("%s", self.name, exc_info=error if self._failures == 1 else None)
        # A connection that broke once is not an outage.
        lost = self._probe(_GLANCE_SECONDS)
        if lost is not None or self._failures > 1:
            self._tell(lost or error)
        while True:
            last = self._driver_gone.is_set()
            pauses = self._last_pauses if last else _PAUSES
            if last and self._failures > len(pauses):
                self._tell(lost or error)
                return False
            pause = pauses[min(self._failures, len(pauses)) - 1]
            if last:
                time.sleep(pause)
            else:
                self._driver_gone.wait(pause)
            lost = self._probe(_PROBE_SECONDS)
            if lost is None:
                return True
            self._failures += 1
            self._tell(lost)

    def _probe(self, seconds: float) -> Unreachable | None:
        try:
            self._kind.probe(self._settings, seconds)
        except Unreachable as lost:
            return lost
        return None

    def _tell(self, error: Exception) -> None:
        """Leave word of why the tracker does not get on."""
        does = "cannot be reached" if isinstance(error, Unreachable) else "does not take what is sent"
        before, self.state.error = self.state.error, f"{self.address} {does} ({reason(error)})"
        if self.state.error != before:
            _log.warning("%s: %s", self.name, self.state.error)
        self._save()

    def _save(self) -> None:
        """Keep the state; a storage that cannot be written now is no reason to stop sending."""
        with contextlib.suppress(OSError):
            self.state.save()


def _let_go(tracker: Tracker | None) -> None:
    if tracker is not None:
        with contextlib.suppress(Exception):
            tracker.close()
