"""Tile stores on a node's own disk: copied once from the shared storage, checked by hash, the longest unused removed.

DIR/lock               held while a store is copied there
DIR/<digest>/          a whole copy
DIR/<digest>.partial/  one that is being made; never read
DIR/<digest>.lock      shared by those who read the copy; its time is that of the last use
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.keeping import UNITS, size_text
from experiments.mounts import is_own_disk, is_remote, private_folder
from experiments.objects import ObjectStore
from satdet._storage import OUT_OF_REACH, sync
from satdet.config import ConfigError
from satdet.errors import NodeError, StorageError, TileStoreError

_TOTAL_BYTES = 50 * 10**9
_SPARE_BYTES = 10**9
"""Left free on the disk, which others need as well."""
_LONG_SECONDS = 10.0
"""A wait that people would wonder about."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)")
_COPY = re.compile(r"[0-9a-f]{64}(\.partial)?")
_checked: set[tuple[str, int, int]] = set()
"""Copies that this process has read and found whole: path, inode and time of their manifests."""


@dataclass(frozen=True)
class TileCache:
    """Where a node keeps copies of tile stores.

    Attributes
    ----------
    directory : str, optional
        On each node, which expands ``~`` and its variables. None: a folder in ``/var/tmp``, used only by nodes that
        do not have the storage on a disk of their own.
    total_bytes : int
        The most that the copies may have on each node.
    """

    directory: str | None = None
    total_bytes: int = _TOTAL_BYTES

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class _NoCopyError(Exception):
    """Why there is no copy on this node."""


def parse_tile_cache(text: str) -> TileCache | None:
    """What ``DIR``, ``DIR,20GB``, ``20GB`` or ``off`` means; None: no copies.

    Raises
    ------
    ConfigError
        If it means nothing of the kind.
    """
    if text.strip() == "off":
        return None
    directory, comma, size = text.strip().rpartition(",")
    match = _SIZE.fullmatch(size)
    if match is None:
        directory, total = text.strip(), _TOTAL_BYTES
    else:
        total = round(float(match[1]) * UNITS[match[2]])
    if not total or not (directory or match) or (comma and not directory):
        raise ConfigError(f"--tile-cache {text!r} is not like /scratch/tiles, /scratch/tiles,20GB, 20GB or off")
    return TileCache(directory or None, total)


@contextmanager
def near_store(
    path: Path | ObjectStore, digest: str, cache: TileCache | None, say: Callable[[str], None]
) -> Iterator[Path]:
    """Where to read the store at `path` from, for as long as the context lasts: a copy on this node, or `path` itself.

    Parameters
    ----------
    path : Path or ObjectStore
        On the shared storage; of objects there has to be a copy.
    digest : str
        Its `content_digest`.
    cache : TileCache or None
    say : callable
        Told why there is no copy where there should be one, and that making one has taken long.

    Raises
    ------
    TileStoreError
        If the store itself is damaged.
    NodeError
        If there can be no copy of objects on this node.
    """
    with ExitStack() as held:
        if isinstance(path, ObjectStore):
            yield _copy_of_objects(path, digest, cache or TileCache(), held, say)
            return
        near = path
        if cache is not None and (cache.directory is not None or is_remote(path)):
            try:
                near = _copy_of(_Folder(path), digest, cache, held, say)
            except _NoCopyError as error:
                say(f"tiles are read from {path}: {error}")
            except OSError as error:
                say(f"tiles are read from {path}: {error.filename or 'the tile cache'}: {error.strerror}")
        yield near


@dataclass(frozen=True)
class _Folder:
    """A store to copy, in a folder."""

    path: Path

    def size(self) -> int:
        from satdet.data.integrity import FILES

        return sum((self.path / name).stat().st_size for name in FILES)

    def copy(self, name: str, target: Path) -> None:
        shutil.copyfile(self.path / name, target)

    def check(self, digest: str) -> None:
        from satdet.data.integrity import check_content

        check_content(self.path, digest)


@dataclass(frozen=True)
class _Objects:
    """A store to copy, in an object store."""

    store: ObjectStore

    def size(self) -> int:
        return sum(each.size for each in self.store.listing().values())

    def copy(self, name: str, target: Path) -> None:
        self.store.download(name, target)

    def check(self, digest: str) -> None:
        """Read it again, to tell damage there from damage on the way."""
        from satdet.data.integrity import FILES, check_content

        with tempfile.TemporaryDirectory() as folder:
            for name in FILES:
                self.copy(name, Path(folder, name))
            check_content(Path(folder), digest)


def _copy_of_objects(
    store: ObjectStore, digest: str, cache: TileCache, held: ExitStack, say: Callable[[str], None]
) -> Path:
    try:
        return _copy_of(_Objects(store), digest, cache, held, say)
    except _NoCopyError as error:
        reason = str(error)
    except FileNotFoundError as error:
        raise TileStoreError(f"{error.filename}: not there; resume the search, which sends it") from None
    except OSError as error:
        if error.errno in OUT_OF_REACH:
            raise
        reason = f"{error.filename or 'the tile cache'}: {error.strerror}"
    raise NodeError(f"tiles of {store} have no copy on this node: {reason}")


def _copy_of(
    source: "_Folder | _Objects", digest: str, cache: TileCache, held: ExitStack, say: Callable[[str], None]
) -> Path:
    """The copy on this node, made if need be; nobody removes it while `held` holds its lock."""
    folder = _folder(cache)
    use = held.enter_context((folder / f"{digest}.lock").open("a"))
    fcntl.flock(use, fcntl.LOCK_SH)
    os.utime(use.fileno())
    copy = folder / digest
    if _is_whole(copy, digest):
        return copy
    with (folder / "lock").open("a") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not _is_whole(copy, digest):
            shutil.rmtree(copy, ignore_errors=True)
            started, size = time.monotonic(), source.size()
            _make_room(folder, size, cache.total_bytes)
            _make_copy(source, digest, copy)
            if (seconds := time.monotonic() - started) > _LONG_SECONDS:
                say(f"{size_text(size)} of tiles were copied to {folder} in {seconds:.0f} s")
    return copy


def _folder(cache: TileCache) -> Path:
    """The folder of the copies; by default one that nobody else can write, on a disk of this node.

    Raises
    ------
    _NoCopyError
        If that cannot be had.
    """
    if cache.directory is not None:
        folder = Path(os.path.expandvars(cache.directory)).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    try:
        folder = private_folder("satdet-tiles")
    except StorageError as error:
        raise _NoCopyError(f"{error} with --tile-cache") from None
    if not is_own_disk(folder):
        raise _NoCopyError(f"{folder} is not on a disk of this node; name one with --tile-cache")
    return folder


def _is_whole(copy: Path, digest: str) -> bool:
    """Whether there is a copy and it is what it should be; this reads all of it, once in a process."""
    from satdet.data.integrity import check_content

    try:
        found = (copy / "manifest.json").stat()
        known = (str(copy), found.st_ino, found.st_mtime_ns)
        if known not in _checked:
            check_content(copy, digest)
            _checked.add(known)
    except (FileNotFoundError, TileStoreError):
        return False
    return True


def _make_copy(source: _Folder | _Objects, digest: str, copy: Path) -> None:
    """Copy a store; what has the name `copy` is whole, after a power cut too."""
    from satdet.data.integrity import FILES, check_content

    partial = copy.with_name(f"{copy.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for name in FILES:
            source.copy(name, partial / name)
            sync(partial / name)
        try:
            check_content(partial, digest)
        except TileStoreError:
            source.check(digest)
            raise _NoCopyError(f"what is copied to {partial.parent} does not stay the same; see to that disk") from None
        sync(partial)
        partial.rename(copy)
        sync(copy.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_room(folder: Path, needed: int, total: int) -> None:
    """Remove copies that nobody reads, the least recently used first, until so many bytes more may be there.

    Raises
    ------
    _NoCopyError
        If that is not enough.
    """
    if needed > total:
        raise _NoCopyError(f"they have {size_text(needed)}, more than the {size_text(total)} of --tile-cache")
    copies = [each for each in folder.iterdir() if _COPY.fullmatch(each.name)]
    sizes = {each: sum(file.stat().st_size for file in each.iterdir()) for each in copies}
    for copy in [*sorted(sizes, key=_last_use), None]:
        used, free = sum(sizes.values()), shutil.disk_usage(folder).free
        if used + needed <= total and needed + _SPARE_BYTES <= free:
            return
        if copy is not None and _remove(copy):
            del sizes[copy]
    if used + needed > total:
        raise _NoCopyError(f"copies that are in use have {size_text(used)} of the {size_text(total)} of --tile-cache")
    raise _NoCopyError(f"they have {size_text(needed)}, and {size_text(free)} are free in {folder}")


def _remove(copy: Path) -> bool:
    """Remove a copy, unless somebody reads it; whether it is gone."""
    with _use_lock(copy).open("a") as use:
        try:
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(copy)
        return True


def _last_use(copy: Path) -> float:
    """When it was last asked for [s since 1970]; what was never finished goes first."""
    lock = _use_lock(copy)
    return lock.stat().st_mtime if copy.suffix != ".partial" and lock.exists() else 0.0


def _use_lock(copy: Path) -> Path:
    return copy.with_name(f"{copy.name.partition('.')[0]}.lock")
