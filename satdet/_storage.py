"""A storage that refuses for a while: which errors pass by themselves or by somebody's hand, and waiting for that."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from satdet.errors import StorageLostError

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
READ_ONLY = frozenset({errno.EROFS})
OUT_OF_REACH = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV,
     errno.ENXIO, errno.ECONNABORTED, errno.ECONNRESET, errno.EREMOTEIO, errno.ENOLINK}
)  # fmt: skip
PATIENCE_SECONDS = 120.0
"""How long a refusing storage is waited for by default; a server's restart or a remount takes less."""


def may_pass(error: OSError, path: Path | str) -> bool:
    """Whether the same may succeed later: the storage of `path` is full, read-only, out of reach or gone."""
    if error.errno == errno.ENOENT:
        return isinstance(path, Path) and not path.parent.exists()
    return error.errno in FULL | READ_ONLY | OUT_OF_REACH


def advice(error: OSError) -> str:
    """What to do about it, for a message."""
    if error.errno in FULL:
        return "free some space and resume"
    return "make it writable and resume" if error.errno in READ_ONLY else "bring it back and resume"


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, *, parents: bool = True) -> None:
    """Make a folder where there is none, so that a power cut does not take it away again."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=parents, exist_ok=True)
    for each in missing:
        sync(each.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, after a power cut too, finds all of it or what was there before."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_bytes(content)
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Have a folder on disk with all that is in it."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def keep_trying(
    attempt: Callable[[], T],
    path: Path | str,
    *,
    seconds: float = PATIENCE_SECONDS,
    pause: Callable[[float, OSError], bool] | None = None,
) -> T:
    """Do `attempt` until it succeeds, for as long as the storage of `path` is expected back.

    Parameters
    ----------
    attempt : callable
        May be called any number of times; raises OSError.
    path : Path or str
        What is read or written, for the message; a text is the address of an object.
    seconds : float
        From the first error on, by the monotonic clock.
    pause : callable, optional
        Waits for at most so many seconds after an error; whether to give up at once.

    Raises
    ------
    StorageLostError
        If the storage did not come back, or `pause` gave up.
    OSError
        Whatever does not pass by waiting.
    """
    deadline: float | None = None
    pause = pause or _sleep
    while True:
        try:
            return attempt()
        except OSError as error:
            if not may_pass(error, path):
                raise
            deadline = deadline or time.monotonic() + seconds  # only now: the attempt itself may have taken long
            left = deadline - time.monotonic()
            if left <= 0 or pause(min(1.0, left), error):
                raise StorageLostError(f"{path}: {error.strerror}; {advice(error)}") from error


def _sleep(seconds: float, error: OSError) -> bool:
    time.sleep(seconds)
    return False
