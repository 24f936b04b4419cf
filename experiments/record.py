"""The record of a search: an append-only journal from which its state, summary and trackers are made.

One line an event: ``<crc32 of the rest, 8 hex digits> <JSON object>``. A line is on disk (fsync) before anything that
follows from it is done. A torn last line, from a machine that died while writing, is dropped; damage anywhere else is
an error, never a silent restart.

Events carry ``n``, their number from 1, which orders them; ``t`` [s], the monotonic clock since the journal was opened,
from which durations are made; and ``time`` [s since 1970], which is shown to people and decides on nothing.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from experiments.remote import RemoteRecord
from satdet._storage import PATIENCE_SECONDS, keep_trying, make_folder, may_pass, sync
from satdet.errors import StorageError, StorageLostError

VERSION = 1
Event = dict[str, Any]


class Record:
    """The journal, opened for appending by the one driver of the search.

    Parameters
    ----------
    path : Path
        The journal's file, created if absent. A torn last line is cut off.
    patience : float
        How long [s] a storage that is full, read-only or out of reach is waited for.
    pause : callable, optional
        Waits for at most so many seconds after such an error; whether to give up at once.
    remote : RemoteRecord, optional
        Where the storage is an object store: the record proper, of which the file is this machine's copy.

    Attributes
    ----------
    events : list of dict
        All of them, those of earlier sessions first.
    dropped : int
        Bytes of the torn last line that was cut off.
    lost : StorageLostError or None
        Why nothing can be written any more.

    Raises
    ------
    StorageError
        If a line other than the last is damaged, or the journal was written by a newer version.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience: float = PATIENCE_SECONDS,
        pause: Callable[[float, OSError], bool] | None = None,
        remote: RemoteRecord | None = None,
    ) -> None:
        self.path = path
        self._remote = remote
        self.events: list[Event] = []
        self._patience = patience
        self._pause = pause
        self.lost: StorageLostError | None = None
        self._began = time.monotonic()
        make_folder(path.parent)
        content = path.read_bytes() if path.exists() else b""
        self._end = 0
        for event, end in _parse(content, path, 1):
            self.events.append(event)
            self._end = end
        self.dropped = len(content) - self._end
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, self._end)
        self._sequence = self.events[-1]["n"] if self.events else 0
        sync(path.parent)

    def append(self, kind: str, **values: Any) -> Event:
        """Write one event and wait until it is on disk; returns it.

        Raises
        ------
        StorageLostError
            If the storage refused for longer than there was patience, and at once ever after.
        StorageError
            If another process has written to the journal.
        """
        if self.lost is not None:
            raise self.lost
        times = {"time": round(time.time(), 3), "t": round(time.monotonic() - self._began, 3)}
        event = {"n": self._sequence + 1, **times, "kind": kind, **values}
        line = _line(event)
        opened = True

        def attempt() -> None:
            nonlocal opened
            if opened:
                opened = False
                try:
                    return self._write(line)
                except OSError as error:
                    if not may_pass(error, self.path):
                        raise
            self._write_again(line)  # at once: the handle may be that of a storage that has gone and come back

        try:
            self._append_there(event["n"], line)
            keep_trying(attempt, self.path, seconds=self._patience, pause=self._pause)
        except StorageLostError as error:
            self.lost = error
            raise
        self._end += len(line)
        self._sequence += 1
        self.events.append(event)
        return event

    def close(self) -> None:
        """Close the file; the record can be opened again."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append_there(self, number: int, line: bytes) -> None:
        """First of all, so that nobody who follows this machine's copy knows more than the record."""
        remote = self._remote
        if remote is None:
            return
        try:
            keep_trying(lambda: remote.append(number, line), str(remote), seconds=self._patience, pause=self._pause)
        except PermissionError as error:
            raise StorageLostError(f"{remote}: {error.strerror}; see to its credentials and resume") from error

    def _write(self, line: bytes) -> None:
        if os.fstat(self._file).st_size != self._end:
            raise self._not_ours()
        self._put(line)

    def _put(self, lines: bytes) -> None:
        remaining = memoryview(lines)
        while remaining:
            remaining = remaining[os.write(self._file, remaining) :]
        os.fsync(self._file)

    def _write_again(self, line: bytes) -> None:
        """As `_write`, after a failure that may have left a part of the line, or a handle of no use any more."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        os.close(self._file)
        self._file = file
        last = _line(self.events[-1]) if self.events else b""
        if os.pread(file, len(last), self._end - len(last)) != last:
            self._restore()
        tail = os.pread(file, 1 << 20, self._end)
        # A file system that broke off may have kept the length of what we wrote and zeros in its place.
        if tail != line and _holds_events(tail):
            raise self._not_ours()
        os.ftruncate(file, self._end)
        self._write(line)

    def _restore(self) -> None:
        """Write again what a storage has lost that had it on disk by its own word, if nobody else has written since."""
        with self.path.open("rb") as file:
            content = file.read()
        events, length = whole_prefix(content, self.path)
        if events != self.events[: len(events)] or _holds_events(content[length:]):
            raise self._not_ours()
        os.ftruncate(self._file, length)
        lost = b"".join(map(_line, self.events[len(events) :]))
        self._put(lost)
        self._end = length + len(lost)

    def _not_ours(self) -> StorageError:
        size = os.fstat(self._file).st_size
        return StorageError(
            f"{self.path}: is {size} bytes long where this process has written {self._end}; another process has"
            " changed it, so this one leaves; look who runs the search, then resume"
        )


class RecordReader:
    """Follows a journal that another process may be writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._next = 1

    def new_events(self) -> list[Event]:
        """The events written since the last call; a line that is not yet whole waits for the next."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        events = []
        start = self._offset
        for event, end in _parse(content, self.path, self._next):
            events.append(event)
            self._offset = start + end
            self._next = event["n"] + 1
        return events


def read_record(path: Path) -> list[Event]:
    """All events of the journal at `path`.

    Raises
    ------
    StorageError
        If there is none, or it is damaged.
    """
    if not path.is_file():
        raise StorageError(f"{path.parent}: no search of that name here")
    return RecordReader(path).new_events()


def whole_prefix(content: bytes, path: Path) -> tuple[list[Event], int]:
    """The events before the first damage in the `content` of the journal at `path`, and how many bytes they take."""
    events: list[Event] = []
    length = 0
    try:
        for event, end in _parse(content, path, 1):
            events.append(event)
            length = end
    except StorageError:
        pass
    return events, length


def _line(event: Event) -> bytes:
    body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(content: bytes, path: Path, number: int) -> Iterator[tuple[Event, int]]:
    """Each whole event, the first one's number being `number`, with the offset of its end."""
    offset = 0
    while (newline := content.find(b"\n", offset)) >= 0:
        line = content[offset:newline]
        event = _event(line)
        if event is None:
            if content.find(b"\n", newline + 1) < 0:
                return
            raise StorageError(
                f"{path}: damaged at byte {offset}; restore it from a backup, or go on from the events before that with"
                f" python -m experiments.repair {path.parent.name}"
            )
        if event["n"] != number:
            raise StorageError(f"{path}: event {number} is missing at byte {offset}; restore it from a backup")
        if event.get("version", VERSION) > VERSION:
            raise StorageError(f"{path}: written by a newer version (record {event['version']}); upgrade satdet")
        yield event, newline + 1
        number += 1
        offset = newline + 1


def _holds_events(content: bytes) -> bool:
    """Whether there is a whole event in it, of whatever number."""
    return any(_event(line) is not None for line in content.split(b"\n"))


def _event(line: bytes) -> Event | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    event: Event = json.loads(body)
    return event
