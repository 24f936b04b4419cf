"""The files of one trial: how they are named, written so that they are whole or absent, and proven when read.

    epoch-0007-<16 hex>.pt   everything training needs to go on after epoch 7; the name carries the SHA-256 of the bytes
    best.pt                  a hard link to (where there are none: a copy of) the file of the best epoch
    stopped.json             that a callback ended the trial, and why
    model.pt                 the best weights and what prediction needs besides
    detections.png           truth and detections of a few evaluation tiles
    .*.tmp                   left by a process that died while writing; removed at the next start

Nothing here is a pickle that can run code: tensors and plain values only.
"""

import hashlib
import logging
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from satdet.errors import CheckpointError, StorageError

logger = logging.getLogger(__name__)

BEST, MODEL, STOPPED, PICTURE = "best.pt", "model.pt", "stopped.json", "detections.png"
_EPOCH_FILE = re.compile(r"epoch-(\d{4,})-([0-9a-f]{16})\.pt")
_DAMAGE = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)


def write_epoch(directory: Path, epoch: int, content: Mapping[str, Any]) -> Path:
    """Write the file of an epoch; once this returns, it survives a loss of power.

    Raises
    ------
    StorageError
        If the disk is full or cannot be written.
    """
    return _write(directory, f"epoch-{epoch:04d}", content, lambda digest: f"epoch-{epoch:04d}-{digest[:16]}.pt")


def write_model(directory: Path, content: Mapping[str, Any]) -> Path:
    """Write ``model.pt``.

    Raises
    ------
    StorageError
        If the disk is full or cannot be written.
    """
    return _write(directory, "model", content, lambda _: MODEL)


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _move(partial, path)


def link_best(epoch_file: Path) -> None:
    """Make ``best.pt`` the file of an epoch."""
    best, partial = epoch_file.with_name(BEST), epoch_file.with_name(f".{BEST}.tmp")
    if best.exists() and best.samefile(epoch_file):  # renaming one link over another would do nothing
        return
    partial.unlink(missing_ok=True)
    try:
        os.link(epoch_file, partial)
    except OSError:  # a file system without hard links
        shutil.copyfile(epoch_file, partial)
    _move(partial, best)


def epoch_files(directory: Path) -> list[Path]:
    """The files of epochs, newest epoch first; of one epoch, the last written first."""
    named = [path for path in directory.glob("epoch-*.pt") if _EPOCH_FILE.fullmatch(path.name)]
    return sorted(named, key=lambda path: (epoch_of(path), path.stat().st_mtime_ns), reverse=True)


def epoch_of(path: Path) -> int:
    """The epoch in the name of its file."""
    match = _EPOCH_FILE.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def newest_epoch(directory: Path) -> tuple[Path | None, dict[str, Any], list[Path]]:
    """Find the newest file of an epoch whose bytes fit its name, and read it.

    Returns
    -------
    Path or None
        The file; None if there is no whole one.
    dict
        Its content, empty without a file.
    list of Path
        Newer files that are damaged; each is also logged as a warning.
    """
    damaged: list[Path] = []
    for path in epoch_files(directory):
        if _digest(path).startswith(path.stem.rpartition("-")[2]):
            return path, _load(path), damaged
        damaged.append(path)
        logger.warning("%s: damaged (its bytes do not fit its name), the checkpoint before it is used", path)
    return None, {}, damaged


def retire_checkpoints(directory: Path) -> None:
    """Keep only the newest epoch, and the best, of a trial that has ended and whose end is known to its caller."""
    for old in epoch_files(directory)[1:]:
        old.unlink()


def read(path: Path) -> dict[str, Any]:
    """Read a file of this module as tensors on the CPU and plain values; no code in it is ever run.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the checksums in its own format
            if (part := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"wrong checksum of {part}")
        return _load(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({reason}); remove it") from None


def clean(directory: Path) -> None:
    """Remove what a process that died while writing has left."""
    for path in directory.glob(".*.tmp"):
        path.unlink()


class _HashingFile:
    """A file that takes the digest of what is written to it; torch writes strictly forward."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(directory: Path, stem: str, content: Mapping[str, Any], name: Callable[[str], str]) -> Path:
    partial = directory / f".{stem}.tmp"
    try:
        with partial.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(dict(content), hashing)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        path = directory / name(hashing.sha256.hexdigest())
        _move(partial, path)
    except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
        partial.unlink(missing_ok=True)
        raise StorageError(f"{directory / stem}: cannot be written ({error}); free some space and resume") from error
    return path


def _move(partial: Path, path: Path) -> None:
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _load(path: Path) -> dict[str, Any]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a checkpoint of satdet, it holds a {type(content).__name__}")
    return content


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
