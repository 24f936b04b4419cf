"""Copies on this machine of what an object store has: a search's record, and what is in the way of it."""

import fcntl
import secrets
from pathlib import Path

from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths
from experiments.record import whole_prefix
from experiments.remote import RemoteRecord
from experiments.trial_run import MODELS
from satdet._storage import make_folder, write_whole
from satdet.errors import StorageError


def bring_record(search: SearchPaths, *, ours: bool = False) -> None:
    """Make this machine's copy of the record what the object store has; nothing where the storage is a folder.

    Parameters
    ----------
    search : SearchPaths
    ours : bool
        Whether the caller holds the search's lock. Otherwise nothing is done while a driver of this machine runs it:
        its copy is newer than what is read.

    Raises
    ------
    StorageError
        If the store cannot be read, or lacks a part of the record.
    """
    if search.remote is None:
        return
    search.lock.parent.mkdir(parents=True, exist_ok=True)
    with search.lock.open("a") as lock:
        if not ours:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        record = RemoteRecord(search.remote.objects(search.name))
        try:
            content = record.content()
            if ours:
                record.merge()
        except OSError as error:
            raise StorageError(f"{record}: cannot be read ({error.strerror})") from None
        mine = search.record.read_bytes() if search.record.is_file() else b""
        if mine == content and (content or not search.root.exists()):
            return
        if search.root.exists() and _identity(mine, search) != _identity(content, search):
            _move_away(search, _identity(mine, search))
        if content:
            make_folder(search.root)
            write_whole(search.record, content)


def send_files(storage: StoragePaths, options: RunOptions) -> None:
    """Have in the object store what trials need besides tiles: the model to measure, weights that stand in.

    Raises
    ------
    StorageError
        If it does not take them.
    """
    remote = storage.remote
    if remote is None:
        return
    try:
        if options.checkpoint is not None:
            from experiments.session import file_identity

            name = f"{file_identity(Path(options.checkpoint))['sha256']}.pt"
            if name not in remote.objects(MODELS).listing():
                remote.objects(MODELS).upload(Path(options.checkpoint), name)
        if options.weights_dir == str(storage.stand_ins):
            remote.mirror(storage.stand_ins, str(storage.stand_ins.relative_to(storage.root))).send()
    except OSError as error:
        raise StorageError(f"{storage}: cannot be written ({error.strerror})") from None


def _identity(content: bytes, search: SearchPaths) -> str:
    """Which search a record is of; empty if it has no beginning."""
    end = content.find(b"\n") + 1
    events, _ = whole_prefix(content[:end], search.record)
    return str(events[0].get("search_id", "")) if events else ""


def _move_away(search: SearchPaths, identity: str) -> None:
    """Nothing is deleted: the copy of a search that is no longer under this name goes where archived searches are."""
    archive: Path = search.root.parent / "archive"
    archive.mkdir(exist_ok=True)
    search.root.rename(archive / f"{search.name}-{identity or 'unknown'}-{secrets.token_hex(4)}")
