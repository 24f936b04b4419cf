"""A folder of this machine and the same folder in an object store."""

import contextlib
import json
import os
import threading
from collections.abc import Collection
from pathlib import Path

from experiments.objects import ObjectStore, Stored

_KNOWN = ".mirror.json"
_Known = dict[str, tuple[str, int, int]]
"""By a file's name: the tag of its object, and its own size [bytes] and time of change [ns]."""


class Mirror:
    """Sends a folder's files to an object store and fetches them from there; files only, and none that are hidden.

    What is the same here and there is known by the object's tag and the file's size and time, and does not travel.

    Parameters
    ----------
    store : ObjectStore
        Of this folder alone.
    folder : Path
        Made when something is fetched.
    """

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self._lock = threading.Lock()

    def fetch(self, names: Collection[str] | None = None) -> None:
        """Make the folder what the store has: fetch what is other or missing here, remove what is not there.

        Parameters
        ----------
        names : collection of str, optional
            Only these files matter; others stay as they are.

        Raises
        ------
        OSError
            If the store or this machine's disk refuses.
        """
        with self._lock:
            there = {key: each for key, each in self.store.listing().items() if names is None or key in names}
            self.folder.mkdir(parents=True, exist_ok=True)
            known = self._load()
            for name, stored in there.items():
                if not self._same(name, stored, known):
                    known[name] = self._download(name)
            for path in self._files():
                if path.name not in there and (names is None or path.name in names):
                    path.unlink(missing_ok=True)
            self._save(known)

    def send(self) -> None:
        """Make the store have what the folder has: send what is other or missing there, then remove what is gone here.

        Only what was sent from here, or fetched to here, can be gone here; other objects stay.

        Raises
        ------
        OSError
            If the store refuses; files that were sent are not sent again.
        """
        with self._lock:
            there, known = self.store.listing(), self._load()
            here = {path.name: path for path in self._files()}
            inodes: dict[int, str] = {}
            for name in sorted(here, reverse=True, key=lambda name: (name.startswith("epoch-"), name)):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile, by whoever trains
                    status = here[name].stat()
                    same = name in there and self._same(name, there[name], known)
                    if not same:
                        twin = inodes.get(status.st_ino)  # best.pt is another name of an epoch's file
                        tag = self.store.copy(twin, name) if twin else self.store.upload(here[name], name)
                        known[name] = (tag, status.st_size, status.st_mtime_ns)
                        self._save(known)
                    inodes.setdefault(status.st_ino, name)
            gone = known.keys() - here.keys()
            self.store.remove(gone & there.keys())
            if gone:
                self._save({name: each for name, each in known.items() if name in here})

    def _same(self, name: str, stored: Stored, known: _Known) -> bool:
        try:
            status = (self.folder / name).stat()
        except FileNotFoundError:
            return False
        return known.get(name) == (stored.tag, status.st_size, status.st_mtime_ns)

    def _download(self, name: str) -> tuple[str, int, int]:
        partial = self.folder / f".{name}.{os.getpid()}-{threading.get_ident()}.tmp"
        try:
            tag = self.store.download(name, partial)
            status = partial.stat()
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)
        return tag, status.st_size, status.st_mtime_ns

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if not path.name.startswith(".") and path.is_file()]

    def _load(self) -> _Known:
        try:
            return {name: (tag, size, time) for name, (tag, size, time) in json.loads(self._note.read_text()).items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return {}

    def _save(self, known: _Known) -> None:
        if not self.folder.is_dir():
            return
        partial = self.folder / f"{_KNOWN}.{os.getpid()}-{threading.get_ident()}.tmp"
        partial.write_text(json.dumps(known))
        partial.replace(self._note)

    @property
    def _note(self) -> Path:
        return self.folder / _KNOWN
