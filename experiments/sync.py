"""Send a search's record to MLflow, W&B and Optuna; the driver runs this beside itself, and anybody may run it later.

    python -m experiments.sync SEARCH [--storage DIR] [--tracking-uri URI] [--wandb online|offline|off]

A process of its own costs the search nothing, outlives a server's outage, and never raises into a trial. Whatever was
not sent when a search ended is sent by the same command, each point once.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import select
import signal
import sys
import threading
import time
from typing import IO

from experiments.paths import storage_paths
from experiments.record import RecordReader
from experiments.state import SearchState
from experiments.trackers import TRACKERS, Tracker, TrackerSettings, TrackerState
from satdet.errors import SatdetError

_POLL_SECONDS = 0.3
_RETRY_SECONDS = 5.0
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
    """

    def __init__(self, name: str, settings: TrackerSettings, driver_gone: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._settings = settings
        self._driver_gone = driver_gone
        self.state = TrackerState.load(settings.search.trackers, name)
        self.done = False

    def run(self) -> None:
        """Send until the record has ended and all is sent; begin again after any error of the tracker."""
        while not self.done:
            tracker: Tracker | None = None
            try:
                tracker = TRACKERS[self.name](self._settings, self.state)
                self._follow(tracker)
            except Exception as error:
                _log.exception("%s", self.name)
                if tracker is not None:
                    with contextlib.suppress(Exception):
                        tracker.close()
                self.state.error = f"{type(error).__name__}: {error}"[:300]
                self.state.save()
                if self._driver_gone.wait(_RETRY_SECONDS):
                    return

    def _follow(self, tracker: Tracker) -> None:
        search = SearchState()
        reader = RecordReader(self._settings.search.record)
        while True:
            last = self._driver_gone.is_set()
            for event in reader.new_events():
                search.apply(event)
                tracker.apply(event, search)
                self.state.sequence = event["n"]
            self.state.error = None
            settled = tracker.settle(final=last)
            self.state.save()
            if last and settled:
                tracker.finish(search)
                self.state.save()
                self.done = True
                return
            time.sleep(_POLL_SECONDS)


def synchronise(settings: TrackerSettings, follow: IO[str] | None) -> bool:
    """Run the projections until the record is sent; with `follow`, also what is written until that stream ends.

    Returns
    -------
    bool
        Whether all was sent.
    """
    settings.search.trackers.mkdir(parents=True, exist_ok=True)
    with (settings.search.trackers / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        driver_gone = threading.Event()
        names = [name for name in TRACKERS if name != "wandb" or settings.wandb != "off"]
        projections = [Projection(name, settings, driver_gone) for name in names]
        for projection in projections:
            projection.start()
        if follow is not None:
            while not (select.select([follow], [], [], 1.0)[0] and follow.readline() == ""):
                pass
        driver_gone.set()
        for projection in projections:
            projection.join()
        return all(projection.done for projection in projections)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sync", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("search", metavar="SEARCH")
    parser.add_argument("--storage", default="runs", help="folder of the searches (default: runs)")
    parser.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI"), help="MLflow server")
    parser.add_argument("--wandb", choices=("online", "offline", "off"), default="offline")
    parser.add_argument("--follow", action="store_true", help="go on until standard input ends")
    options = parser.parse_args(arguments)
    if options.follow:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    try:
        storage = storage_paths(options.storage)
        search = storage.search(options.search)
        settings = TrackerSettings(
            storage=storage,
            search=search,
            tracking_uri=options.tracking_uri or storage.mlflow_uri,
            wandb=options.wandb,
        )
        if not search.record.is_file():
            raise SatdetError(f"{search.root}: no search of that name here")
        complete = synchronise(settings, sys.stdin if options.follow else None)
    except SatdetError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    if not complete:
        sys.stderr.write(f"not everything was sent; see {search.trackers}\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
