"""A storage in an object store: what lies where, there and on this machine, and a search's record, lock and files.

    data/tiles/<sha256>/                 tile stores, by their content
    data/stand-in-weights/               of smoke runs
    models/<sha256>.pt                   what evaluations measure
    SEARCH/record/<first>-<last>.jsonl   lines of the record; never changed, and never made twice
    SEARCH/lock                          who runs the search, with a sign of life
    SEARCH/trials/TRIAL/                 as in a folder
    SEARCH/summary.json

Each machine has a folder beside it: the driver's has a copy of the record, and the trackers' files; a node's has the
files of the trials that it trains, on their way there.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.mirror import Mirror
from experiments.mounts import private_folder
from experiments.objects import ObjectStore
from satdet.errors import StorageError

SCRATCH = "SATDET_SCRATCH"
"""Environment variable: the folder of this machine's copies."""
_AT_ONCE = 16
"""Requests; a store answers many as fast as one."""
_MANY = 100
"""Parts of a record that are worth one more that holds them all."""


@dataclass(frozen=True)
class RemoteStorage:
    """A storage by address.

    Attributes
    ----------
    uri : str
    scratch : str, optional
        Folder for this machine's part; ``~`` and variables are each machine's own. None: one in ``/var/tmp``.
    """

    uri: str
    scratch: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def objects(self, *parts: str) -> ObjectStore:
        """What is below ``uri/part/part``."""
        return ObjectStore("/".join((self.uri, *parts)))

    def mirror(self, folder: Path, *parts: str) -> Mirror:
        """A folder of this machine, and what it should be there."""
        return Mirror(self.objects(*parts), folder)

    @property
    def root(self) -> Path:
        """The driver's folder on this machine."""
        return self._own("storage")

    @property
    def work(self) -> Path:
        """A node's folder, for the files of trials."""
        return self._own("work")

    def probe(self) -> None:
        """Prove that objects can be made there, and none twice: that is what keeps two drivers apart.

        Raises
        ------
        StorageError
            If not.
        """
        store, key, content = self.objects(), f".probe-{os.urandom(8).hex()}", os.urandom(8)
        try:
            store.create(key, content)
            try:
                store.create(key, b"")
            except FileExistsError:
                return
            finally:
                store.remove([key])
        except OSError as error:
            raise StorageError(f"{self.uri}: the storage cannot be written ({error.strerror})") from None
        raise StorageError(
            f"{self.uri}: that store replaces what it was asked only to create, so two drivers of one search could not"
            " be told apart; use one with conditional writes, or a folder"
        )

    def _own(self, kind: str) -> Path:
        name = f"{self.uri.rpartition('/')[2]}-{sha256(self.uri.encode()).hexdigest()[:12]}"
        if self.scratch is not None:
            return Path(os.path.expandvars(self.scratch)).expanduser().resolve() / kind / name
        return private_folder("satdet") / kind / name


class RemoteRecord:
    """The lines of a search's record in an object store: an object for each, and one for many from before.

    Parameters
    ----------
    store : ObjectStore
        Of the search.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def append(self, number: int, line: bytes) -> None:
        """Have the line of an event there.

        Raises
        ------
        StorageError
            If another driver has written an event of that number.
        OSError
            If the store refuses.
        """
        key = _key(number, number)
        try:
            self._store.create(key, line)
        except FileExistsError:
            if self._store.read(key) != line:  # else it was us, and the answer was lost
                raise StorageError(
                    f"{self._store}/{key}: another process has written event {number} of this search, so this one"
                    " leaves; look who runs the search, then resume"
                ) from None

    def content(self) -> bytes:
        """All lines, in order; empty if there is no such search.

        Raises
        ------
        StorageError
            If some are missing.
        OSError
            If the store refuses.
        """
        return self._join(self._parts())

    def __str__(self) -> str:
        """Where it is."""
        return f"{self._store}/record"

    def merge(self) -> None:
        """Make the next reading quick, where the record is in many parts. They stay: they keep other drivers out."""
        parts = self._parts()
        if len(parts) > _MANY:
            self._store.write(_key(1, parts[-1][1]), self._join(parts))

    def begun(self) -> bool:
        """Whether there is any line."""
        return self._store.has(_key(1, 1))

    def _parts(self) -> list[tuple[int, int]]:
        """First and last numbers of the objects that make the whole."""
        longest: dict[int, int] = {}
        for key in self._store.listing("record"):
            first, _, last = key.rpartition("/")[2].removesuffix(".jsonl").partition("-")
            if first.isdigit() and last.isdigit():
                longest[int(first)] = max(int(last), longest.get(int(first), 0))
        parts: list[tuple[int, int]] = []
        after = 1
        while after in longest:
            parts.append((after, longest[after]))
            after = longest[after] + 1
        if any(first >= after for first in longest):
            raise StorageError(f"{self._store}/{_key(after, after)}: missing; restore it from the store's versions")
        return parts

    def _join(self, parts: Iterable[tuple[int, int]]) -> bytes:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return b"".join(pool.map(lambda part: self._store.read(_key(*part)), parts))


def move_objects(store: ObjectStore, folder: str, target: str) -> None:
    """Move all objects of a folder: the store copies each, and when all are there the old ones go."""
    keys = sorted(store.listing(folder))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda key: store.copy(key, target + key.removeprefix(folder)), keys):
            pass
        for _ in pool.map(lambda key: store.remove([key]), keys):
            pass


def _key(first: int, last: int) -> str:
    return f"record/{first:010d}-{last:010d}.jsonl"
