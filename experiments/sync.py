"""Send a search's record to MLflow, W&B and Optuna; the driver runs this beside itself, and anybody may run it later.

    python -m experiments.sync SEARCH [--storage DIR] [--tracking-uri URI] [--wandb online|offline|off]

A process of its own costs the search nothing, outlives a server's outage, and never raises into a trial. Whatever was
not sent when a search ended is sent by the same command, each point once; without flags to where the search was sent.
"""

import argparse
import fcntl
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from experiments.commands import no_search
from experiments.copies import bring_record
from experiments.credentials import TRACKING_URI, hidden_in_messages, off_the_process_list
from experiments.options import check_tracking_uri
from experiments.paths import SearchPaths, StoragePaths, storage_paths
from experiments.record import read_record
from experiments.state import SearchState
from experiments.trackers import TRACKERS, TrackerSettings, TrackerState, tracker_states
from experiments.trackers.base import WandbMode
from experiments.trackers.projection import Projection
from satdet.errors import SatdetError, StorageError

_NICENESS = 5
"""Of a process beside a driver: what trains comes first, with three quarters of a core that both want."""
_NAMED = 5


def synchronise(settings: TrackerSettings, follow: IO[str] | None) -> list[Projection]:
    """Run the projections until the record is sent; with `follow`, also what is written until that stream ends.

    Raises
    ------
    StorageError
        If another process sends this search, and `follow` is not given: with it, that is waited for.

    Returns
    -------
    list of Projection
        What was sent to each tracker, and whether that was all.
    """
    settings.search.trackers.mkdir(parents=True, exist_ok=True)
    with _sole_sender(settings.search, wait=follow is not None):
        driver_gone = threading.Event()
        names = [name for name in TRACKERS if name != "wandb" or settings.wandb != "off"]
        projections = [Projection(name, settings, driver_gone) for name in names]
        for projection in projections:
            projection.start()
        if follow is not None:
            while not (select.select([follow], [], [], 1.0)[0] and follow.readline() == ""):
                pass
            _give_way(0)
        driver_gone.set()
        for projection in projections:
            projection.join()
        return projections


@contextmanager
def _sole_sender(search: SearchPaths, *, wait: bool) -> Iterator[None]:
    """Hold the lock on sending; the kernel lets go of it when the process ends, however it ends."""
    with (search.trackers / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "another process"
            if not wait:
                raise StorageError(
                    f"{search.name}: {owner} is sending it already, a running search or another sync; what is left"
                    " when that has ended can be sent then"
                ) from None
            sys.stderr.write(f"waiting until {owner} has sent what it knows\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sync", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("search", metavar="SEARCH")
    parser.add_argument("--storage", default="runs", help="folder or address of the searches (default: runs)")
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get(TRACKING_URI),
        help="MLflow server (default: where the search was sent before)",
    )
    parser.add_argument("--wandb", choices=("online", "offline", "off"), help="default: as before, else offline")
    parser.add_argument("--follow", action="store_true", help="go on until standard input ends")
    options = parser.parse_args(arguments)
    if options.follow:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _give_way(_NICENESS)
    if arguments is None:
        off_the_process_list(options.tracking_uri)
    with hidden_in_messages(options.tracking_uri, output=True):
        return _sync(options)


def _sync(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        check_tracking_uri(options.tracking_uri)
        storage = storage_paths(options.storage)
        search = _search(storage, options.search, follow=options.follow)
        settings = TrackerSettings(
            storage=storage,
            search=search,
            tracking_uri=options.tracking_uri or _earlier_uri(search) or storage.mlflow_uri,
            wandb=options.wandb or _earlier_mode(search),
        )
        projections = synchronise(settings, sys.stdin if options.follow else None)
        sys.stdout.write("".join(f"{line}\n" for line in _report(search, projections)))
    except SatdetError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    finally:
        _let_go_of_lost_logs()
    return 0 if all(projection.complete for projection in projections) else 1


def _let_go_of_lost_logs() -> None:
    """A log on a storage that has broken off and come back takes nothing any more; that is no failure to send."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115


def _give_way(niceness: int) -> None:
    """Leave the cores to what trains, or no more. Linux weighs sessions against each other; this is one of its own.

    Not ``os.nice``, which could not be taken back when the driver waits for nothing else.
    """
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def _search(storage: StoragePaths, name: str, *, follow: bool) -> SearchPaths:
    search = storage.search(name)
    if not follow:  # else the driver of this machine writes the copy that is followed
        bring_record(search)
    if not search.record.is_file():
        raise no_search(search)
    return search


def _earlier_uri(search: SearchPaths) -> str | None:
    """Where the search was sent before."""
    return TrackerState.load(search.trackers, "mlflow").address


def _earlier_mode(search: SearchPaths) -> WandbMode:
    """How the search was sent to W&B before."""
    states = tracker_states(search)
    if "wandb" in states:
        return states["wandb"].mode or "offline"
    return "off" if states else "offline"


def _report(search: SearchPaths, projections: Sequence[Projection]) -> Iterator[str]:
    """What was sent and, if something is left, what and why."""
    trials = SearchState.of(read_record(search.record)).trials.values()
    for projection in projections:
        state, tally = projection.state, projection.state.tally
        counts = _count(len(tally.runs), "run"), _count(tally.points, "point"), _count(tally.files, "file")
        line = f"{projection.name}: {', '.join(counts)} sent to {projection.address}"
        left = [trial.trial_id for trial in trials if trial.ended_at and state.complete.get(trial.trial_id) is None]
        if not projection.complete:
            named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
            line += f"; left: {named or 'the end of the search'} ({state.error})"
        yield line


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    sys.exit(main())
