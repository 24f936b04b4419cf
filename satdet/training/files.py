"""The files of one trial: how they are named, written so that they are whole or absent, and proven when read.

    epoch-0007-<16 hex>.pt   everything training needs to go on after epoch 7; the name carries the SHA-256 of the bytes
    best.pt                  a hard link to (where there are none: a copy of) the file of the best epoch
    stopped.json             that a callback ended the trial, and why, with a SHA-256 of that
    model.pt                 the best weights and what prediction needs besides
    detections.png           truth and detections of a few evaluation tiles
    .*.tmp                   left by a process that died while writing; removed at the next start

Nothing here is a pickle that can run code: tensors and plain values only. An error of the storage is never taken for
damage, in which an older file would be used.
"""

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from functools import partial as bind
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from satdet._archives import check_members, check_sums
from satdet._storage import sync
from satdet.errors import CheckpointError, StorageError
from satdet.training.patience import ONCE, StoragePatience

logger = logging.getLogger(__name__)

BEST, MODEL, STOPPED, PICTURE = "best.pt", "model.pt", "stopped.json", "detections.png"
_EPOCH_FILE = re.compile(r"epoch-(\d{4,})-([0-9a-f]{16})\.pt")
_DIGEST = "sha256"


def write_epoch(directory: Path, epoch: int, content: Mapping[str, Any], patience: StoragePatience = ONCE) -> Path:
    """Write the file of an epoch; once this returns, it survives a loss of power.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    stem = f"epoch-{epoch:04d}"
    return patience.write(
        directory / stem, lambda: _write_tensors(directory, stem, content, lambda digest: f"{stem}-{digest[:16]}.pt")
    )


def write_model(directory: Path, content: Mapping[str, Any], patience: StoragePatience = ONCE) -> Path:
    """Write ``model.pt``.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    return patience.write(directory / MODEL, lambda: _write_tensors(directory, "model", content, lambda _: MODEL))


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all; an error of the storage comes through as it is."""
    _write_whole(path, lambda file: file.write(text.encode()))


def write_bytes(path: Path, content: bytes, patience: StoragePatience = ONCE) -> None:
    """Write a small file whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    patience.write(path, lambda: _write_whole(path, lambda file: file.write(content)))


def write_record(path: Path, record: Mapping[str, Any], patience: StoragePatience = ONCE) -> None:
    """Write plain values as JSON, with their digest.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    text = json.dumps({**record, _DIGEST: _record_digest(record)}, indent=1)
    write_bytes(path, text.encode(), patience)


def link_best(epoch_file: Path, patience: StoragePatience = ONCE) -> None:
    """Make ``best.pt`` the file of an epoch.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    best = epoch_file.with_name(BEST)
    patience.write(best, lambda: _link(epoch_file, best))


def epoch_files(directory: Path) -> list[Path]:
    """The files of epochs, newest epoch first; of one epoch, the last written first.

    Raises
    ------
    OSError
        If the directory is missing or cannot be read.
    """
    named = [path for path in directory.iterdir() if _EPOCH_FILE.fullmatch(path.name)]
    return sorted(named, key=lambda path: (epoch_of(path), path.stat().st_mtime_ns), reverse=True)


def epoch_of(path: Path) -> int:
    """The epoch in the name of its file."""
    match = _EPOCH_FILE.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def newest_epoch(directory: Path, patience: StoragePatience = ONCE) -> tuple[Path | None, dict[str, Any], list[Path]]:
    """Find the newest file of an epoch whose bytes fit its name, and read it.

    Where newer ones are damaged, ``best.pt`` stands in if it is whole and newer than what is left.

    Returns
    -------
    Path or None
        The file; None if there is no whole one.
    dict
        Its content, empty without a file.
    list of Path
        Newer files that are damaged; each is also logged as a warning.

    Raises
    ------
    StorageError
        If the storage cannot be read.
    CheckpointError
        If the file is whole, but not a checkpoint.
    """
    damaged: list[Path] = []
    whole = None
    for path in patience.read(directory / "epoch-*.pt", lambda: epoch_files(directory)):
        if patience.read(path, bind(_digest, path)).startswith(path.stem.rpartition("-")[2]):
            whole = path
            break
        damaged.append(path)
        logger.warning("%s: damaged (its bytes do not fit its name), the checkpoint before it is used", path)
    best = _best(directory, patience) if damaged or whole is None else None
    if best is not None and (whole is None or len(best["progress"]["history"]) > epoch_of(whole)):
        return directory / BEST, best, damaged
    if whole is None:
        return None, {}, damaged
    return whole, patience.read(whole, bind(_load, whole, _no_check)), damaged


def read(path: Path, patience: StoragePatience = ONCE) -> dict[str, Any]:
    """Read a file of this module as tensors on the CPU and plain values; no code in it is ever run.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is damaged.
    StorageError
        If the storage cannot be read.
    """
    return patience.read(path, bind(_load, path, check_sums))


def read_record(path: Path, patience: StoragePatience = ONCE) -> dict[str, Any] | None:
    """What `write_record` wrote; None if there is no such file.

    Raises
    ------
    CheckpointError
        If it is damaged.
    StorageError
        If the storage cannot be read.
    """
    content = patience.read(path, bind(_bytes_of, path))
    if content is None:
        return None
    try:
        record: dict[str, Any] = json.loads(content)
        if record.pop(_DIGEST) == _record_digest(record):
            return record
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # damage of its form
    raise CheckpointError(f"{path}: damaged (its content does not fit its digest); remove it")


def clean(directory: Path) -> None:
    """Remove what a process that died while writing has left, as far as the storage allows."""
    for path in directory.glob(".*.tmp"):
        remove(path)


def remove(path: Path) -> bool:
    """Remove a file that is of no more use; whether it is gone. If not, it is only in the way, and the log says so."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s: cannot be removed (%s)", path, error.strerror)
        return False
    return True


class _HashingFile:
    """A file that takes the digest of what is written to it; torch writes strictly forward.

    It keeps the error of a failed write, which torch turns into one of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


class _WatchedFile(io.FileIO):
    """A file that keeps the error of a failed read, to tell it from damage."""

    error: OSError | None = None

    def readinto(self, buffer: Any, /) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.error = error
            raise


def _write_tensors(directory: Path, stem: str, content: Mapping[str, Any], name: Callable[[str], str]) -> Path:
    needed, disk = _tensor_bytes(content), shutil.disk_usage(directory)
    if disk.total and disk.free < needed:  # what little there is stays for others, the record of the search above all
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}, {needed / 1e6:.0f} MB are needed")
    partial = _partial(directory / stem)
    try:
        with partial.open("wb") as file:
            hashing = _HashingFile(file)
            try:
                torch.save(dict(content), hashing)  # type: ignore[arg-type]
            except RuntimeError as error:
                raise hashing.error or StorageError(f"{directory / stem}: cannot be written ({error})") from error
            file.flush()
            os.fsync(file.fileno())
        path = directory / name(hashing.sha256.hexdigest())
        _move(partial, path)
    except (OSError, StorageError):
        _discard(partial)
        raise
    return path


def _write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _move(partial, path)
    except OSError:
        _discard(partial)
        raise


def _link(epoch_file: Path, best: Path) -> None:
    if best.exists() and best.samefile(epoch_file):  # renaming one link over another would do nothing
        return
    partial = _partial(best)
    try:
        os.link(epoch_file, partial)
    except OSError:  # a file system without hard links
        with epoch_file.open("rb") as source:
            _write_whole(best, lambda file: shutil.copyfileobj(source, file))
    else:
        _move(partial, best)


def _partial(path: Path) -> Path:
    """A name of this attempt alone: a process that was given up for lost may still be writing the same file."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _move(partial: Path, path: Path) -> None:
    partial.replace(path)
    sync(path.parent)


def _discard(partial: Path) -> None:
    with contextlib.suppress(OSError):  # of a storage that is gone, as the error before has it
        partial.unlink(missing_ok=True)


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_tensor_bytes, value.values()))
    return sum(map(_tensor_bytes, value)) if isinstance(value, (list, tuple)) else 0


def _best(directory: Path, patience: StoragePatience) -> dict[str, Any] | None:
    try:
        content = read(directory / BEST, patience)
    except CheckpointError:
        return None
    return content if "progress" in content else None


def _load(path: Path, check: Callable[[BinaryIO], None]) -> dict[str, Any]:
    """The content of a file that `check` finds whole; errors of the storage come through as they are."""
    try:
        raw = _WatchedFile(path)
    except IsADirectoryError:
        raise CheckpointError(f"{path}: a folder, not a checkpoint") from None
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    with io.BufferedReader(raw) as file:
        try:
            check_members(file)
            check(file)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # of many kinds, of zipfile and of torch
            if raw.error is not None:
                raise raw.error from None
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{path}: damaged or not a checkpoint ({reason}); remove it") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a checkpoint of satdet, it holds a {type(content).__name__}")
    return content


def _no_check(file: BinaryIO) -> None:
    """Of a file whose digest was compared."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if not path.parent.exists():
            raise
        return None


def _record_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
