"""One driver a search, and one preparation of data at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from satdet.errors import StorageError


@contextmanager
def sole_driver(path: Path) -> Iterator[None]:
    """Hold the search's lock; the kernel lets go of it when the process ends, however it ends.

    Raises
    ------
    StorageError
        If another process holds it, naming its host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise StorageError(f"{path}: the search is being run by {owner}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait for the lock at `path` and hold it: searches of one storage share its data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
