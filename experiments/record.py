"""The record of a search: an append-only journal from which its state, summary and trackers are made.

One line an event: ``<crc32 of the rest, 8 hex digits> <JSON object>``. A line is on disk (fsync) before anything that
follows from it is done. A torn last line, from a machine that died while writing, is dropped; damage anywhere else is
an error, never a silent restart.
"""

import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from satdet.errors import StorageError

VERSION = 1
Event = dict[str, Any]


class Record:
    """The journal, opened for appending by the one driver of the search.

    Parameters
    ----------
    path : Path
        The journal's file, created if absent. A torn last line is cut off.

    Raises
    ------
    StorageError
        If a line other than the last is damaged, or the journal was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        valid = 0
        for event, end in _parse(path.read_bytes() if path.exists() else b"", path):
            self.events.append(event)
            valid = end
        self._file = path.open("ab")
        self._file.truncate(valid)
        self._sequence = self.events[-1]["n"] if self.events else 0
        _sync_folder(path.parent)

    def append(self, kind: str, **values: Any) -> Event:
        """Write one event and wait until it is on disk; returns it with its sequence number and time [s since 1970]."""
        with self._lock:
            event = {"n": self._sequence + 1, "time": round(time.time(), 3), "kind": kind, **values}
            self._file.write(_line(event))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._sequence += 1
            self.events.append(event)
            return event

    def close(self) -> None:
        """Close the file; the record can be opened again."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RecordReader:
    """Follows a journal that another process may be writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def new_events(self) -> list[Event]:
        """The events written since the last call; a line that is not yet whole waits for the next."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        events = []
        start = self._offset
        for event, end in _parse(content, self.path):
            events.append(event)
            self._offset = start + end
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


def _line(event: Event) -> bytes:
    body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(content: bytes, path: Path) -> Iterator[tuple[Event, int]]:
    """Each whole event with the offset of its end."""
    offset = 0
    while (newline := content.find(b"\n", offset)) >= 0:
        line = content[offset:newline]
        event = _event(line)
        if event is None:
            if content.find(b"\n", newline + 1) < 0:
                return
            raise StorageError(f"{path}: damaged at byte {offset}; restore it from a backup, or begin with --fresh")
        if event.get("version", VERSION) > VERSION:
            raise StorageError(f"{path}: written by a newer version (record {event['version']}); upgrade satdet")
        yield event, newline + 1
        offset = newline + 1


def _event(line: bytes) -> Event | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    event: Event = json.loads(body)
    return event


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
