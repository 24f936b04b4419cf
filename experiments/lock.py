"""One driver a search, and one preparation of data at a time.

The kernel's lock (flock) is what keeps a second driver out, and lets go when the first one dies, however it dies. Not
every shared file system carries it from machine to machine. So the driver also says in the file who it is and, twice a
second, that it is alive; and the record refuses to be written by two (see `experiments.record`).
"""

import fcntl
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from satdet.errors import StorageError

_BEAT_SECONDS = 0.5
_WATCH_SECONDS = 1.5
"""Long enough to see a beat of a driver that is alive."""
_LEASE_SECONDS = 20.0
"""Without a beat for so long, a driver on another machine counts as gone."""
_BYTES = 512


@dataclass(frozen=True)
class Driver:
    """Who runs a search.

    Attributes
    ----------
    host : str
    process : int
    started : str
        When the process began, as the kernel counts; tells it from a later one of the same number.
    kernel : str
        This boot of this machine, and the process numbers' namespace: where `process` means the same process.
    token : str
        Of this run alone.
    beat : int
        Grows while the driver is alive.
    """

    host: str
    process: int
    started: str
    kernel: str
    token: str
    beat: int = 0

    @classmethod
    def this(cls) -> Self:
        """The process that asks."""
        process = os.getpid()
        return cls(socket.gethostname(), process, _start_of(process), _kernel(), secrets.token_hex(8))

    def __str__(self) -> str:
        """For a message."""
        return f"process {self.process} on {self.host}"


class Ownership:
    """A search's lock, held; `lost` once another driver has taken it over."""

    def __init__(self, path: Path, driver: Driver) -> None:
        self._path = path
        self._driver = driver
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self.lost: Driver | None = None
        _write(path, driver)
        self._thread.start()

    def release(self) -> None:
        """Say that nobody holds it any more."""
        self._released.set()
        self._thread.join()
        if self.lost is None and _holds(self._path, self._driver):
            _write(self._path, None)

    def _beat(self) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            self._driver = replace(self._driver, beat=self._driver.beat + 1)
            try:
                other = _read(self._path)
                if other is not None and other.token != self._driver.token:
                    self.lost = other
                    return
                _write(self._path, self._driver)
            except OSError:  # a storage that refuses for a while; the record decides whether that is the end
                continue


@contextmanager
def sole_driver(path: Path) -> Iterator[Ownership]:
    """Hold the search's lock, for as long as the context lasts.

    Raises
    ------
    StorageError
        If another process holds it, naming its host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(path, _read(path)) from None
        except OSError:  # a file system without locks
            pass
        before = _read(path)
        if before is not None:
            _check_gone(path, before)
        ownership = Ownership(path, Driver.this())
        try:
            yield ownership
        finally:
            ownership.release()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait for the lock at `path` and hold it: searches of one storage share its data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_gone(path: Path, driver: Driver) -> None:
    """Make sure that a driver that never said goodbye is gone.

    Raises
    ------
    StorageError
        If it is alive.
    """
    if driver.kernel == _kernel():
        if _start_of(driver.process) == driver.started:
            raise _refusal(path, driver)
        return
    if not _beats(path, driver, _WATCH_SECONDS):
        sys.stderr.write(
            f"the search was being run by {driver}, which gives no sign of life;"
            f" it is taken over unless one comes within {_LEASE_SECONDS:.0f} s\n"
        )
        if not _beats(path, driver, _LEASE_SECONDS - _WATCH_SECONDS):
            return
    raise _refusal(path, driver)


def _beats(path: Path, driver: Driver, seconds: float) -> bool:
    """Whether the driver in the file says something new within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(_BEAT_SECONDS / 5)
        if _read(path) not in (driver, None):
            return True
    return False


def _refusal(path: Path, driver: Driver | None) -> StorageError:
    return StorageError(f"{path}: the search is being run by {driver or 'another process'}; stop that one first")


def _holds(path: Path, driver: Driver) -> bool:
    """Whether the file still names this driver; False, too, where it cannot be read."""
    try:
        written = _read(path)
    except OSError:
        return False
    return written is not None and written.token == driver.token


def _read(path: Path) -> Driver | None:
    """Who holds the lock by the file; opened anew, so that network file systems look at the server."""
    try:
        values = json.loads(path.read_text() or "null")
        return Driver(**values) if values else None
    except (ValueError, TypeError):  # torn, or of another version
        return None


def _write(path: Path, driver: Driver | None) -> None:
    """In place, for the lock is the file's own, and always as long: a reader sees one or the other."""
    text = json.dumps(asdict(driver)) if driver is not None else ""
    with path.open("r+b", buffering=0) as file:
        file.write(text.ljust(_BYTES).encode())


def _start_of(process: int) -> str:
    """When a process began; empty if there is none of that number, or the system does not say."""
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _kernel() -> str:
    """What makes two processes' numbers comparable."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
