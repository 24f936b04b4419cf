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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from experiments.objects import ObjectStore
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


class Sign(Protocol):
    """Where a driver says who it is."""

    def read(self) -> Driver | None:
        """Who holds the lock by what is there."""

    def write(self, driver: Driver | None) -> None:
        """Say who holds it."""


class FileSign:
    """In the file of the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        """The path."""
        return str(self._path)

    def read(self) -> Driver | None:
        """Who holds it; the file is opened anew, so that network file systems look at the server."""
        return _driver(self._path.read_bytes())

    def write(self, driver: Driver | None) -> None:
        """In place, for the lock is the file's own, and always as long: a reader sees one or the other."""
        with self._path.open("r+b", buffering=0) as file:
            file.write(_text(driver).ljust(_BYTES))


class ObjectSign:
    """In an object, where the storage is an object store."""

    def __init__(self, store: ObjectStore, key: str = "lock") -> None:
        self._store = store
        self._key = key

    def __str__(self) -> str:
        """The address."""
        return f"{self._store}/{self._key}"

    def read(self) -> Driver | None:
        """Who holds it."""
        try:
            return _driver(self._store.read(self._key))
        except FileNotFoundError:
            return None

    def write(self, driver: Driver | None) -> None:
        """Replace the object."""
        self._store.write(self._key, _text(driver))


class Ownership:
    """A search's lock, held; `lost` once another driver has taken it over."""

    def __init__(self, sign: Sign, driver: Driver) -> None:
        self._sign = sign
        self._driver = driver
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self.lost: Driver | None = None
        sign.write(driver)
        self._thread.start()

    def release(self) -> None:
        """Say that nobody holds it any more."""
        self._released.set()
        self._thread.join()
        if self.lost is None and _holds(self._sign, self._driver):
            with suppress(OSError):  # a storage that is away; the next driver finds no sign of life
                self._sign.write(None)

    def _beat(self) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            self._driver = replace(self._driver, beat=self._driver.beat + 1)
            try:
                other = self._sign.read()
                if other is not None and other.token != self._driver.token:
                    self.lost = other
                    return
                self._sign.write(self._driver)
            except OSError:  # a storage that refuses for a while; the record decides whether that is the end
                continue


@contextmanager
def sole_driver(path: Path, objects: ObjectStore | None = None) -> Iterator[Ownership]:
    """Hold the search's lock, for as long as the context lasts.

    Parameters
    ----------
    path : Path
        Of the lock's file.
    objects : ObjectStore, optional
        Of the search, where the storage is an object store: drivers of other machines sign there.

    Raises
    ------
    StorageError
        If another process holds it, naming its host and process, or the store cannot be used.
    """
    sign: Sign = FileSign(path) if objects is None else ObjectSign(objects)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(sign, sign.read()) from None
        except OSError:  # a file system without locks
            pass
        try:
            before = sign.read()
            if before is not None:
                _check_gone(sign, before)
            ownership = Ownership(sign, Driver.this())
        except OSError as error:
            raise StorageError(f"{sign}: cannot be used ({error.strerror})") from None
        try:
            yield ownership
        finally:
            ownership.release()


def who_runs(path: Path, objects: ObjectStore | None = None) -> Driver | None:
    """Who runs a search by its lock; of a process of this machine it is made sure that it is there.

    Raises
    ------
    OSError
        If the lock cannot be read.
    """
    sign: Sign = FileSign(path) if objects is None else ObjectSign(objects)
    try:
        driver = sign.read()
    except FileNotFoundError:
        return None
    if driver is not None and driver.kernel == _kernel() and _start_of(driver.process) != driver.started:
        return None
    return driver


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait for the lock at `path` and hold it: searches of one storage share its data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_gone(sign: Sign, driver: Driver) -> None:
    """Make sure that a driver that never said goodbye is gone.

    Raises
    ------
    StorageError
        If it is alive.
    """
    if driver.kernel == _kernel():
        if _start_of(driver.process) == driver.started:
            raise _refusal(sign, driver)
        return
    if not _beats(sign, driver, _WATCH_SECONDS):
        sys.stderr.write(
            f"the search was being run by {driver}, which gives no sign of life;"
            f" it is taken over unless one comes within {_LEASE_SECONDS:.0f} s\n"
        )
        if not _beats(sign, driver, _LEASE_SECONDS - _WATCH_SECONDS):
            return
    raise _refusal(sign, driver)


def _beats(sign: Sign, driver: Driver, seconds: float) -> bool:
    """Whether the driver in the file says something new within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(_BEAT_SECONDS / 5)
        if sign.read() not in (driver, None):
            return True
    return False


def _refusal(sign: Sign, driver: Driver | None) -> StorageError:
    return StorageError(f"{sign}: the search is being run by {driver or 'another process'}; stop that one first")


def _holds(sign: Sign, driver: Driver) -> bool:
    """Whether what is there still names this driver; False, too, where it cannot be read."""
    try:
        written = sign.read()
    except OSError:
        return False
    return written is not None and written.token == driver.token


def _driver(text: bytes) -> Driver | None:
    try:
        values = json.loads(text or b"null")
        return Driver(**values) if values else None
    except (ValueError, TypeError):  # torn, or of another version
        return None


def _text(driver: Driver | None) -> bytes:
    return json.dumps(asdict(driver)).encode() if driver is not None else b""


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
