"""A folder of frames and catalogues as it lies on disk: what belongs together, and whether it has changed."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satdet.data.labels import FRAME_ENDINGS, frame_name
from satdet.errors import DataError

CATALOGUE_ENDING = "_trl.dat"
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class FrameFiles:
    """The files of one frame.

    Attributes
    ----------
    name : str
        File name without its ending.
    frame : str
        Path in the folder, with ``/``.
    catalogue : str or None
        Path in the folder; None if there is no file of that name.
    twin : str or None
        Another file of the same frame, which is read instead of this one.
    """

    name: str
    frame: str
    catalogue: str | None
    twin: str | None = None

    @property
    def key(self) -> str:
        """What tells frames apart: the path in the folder without the ending."""
        return self.frame[: -len(self.frame.rpartition("/")[2])] + self.name

    @property
    def paths(self) -> list[str]:
        """The frame's files."""
        return [self.frame] if self.catalogue is None else [self.frame, self.catalogue]


@dataclass(frozen=True)
class Folder:
    """All frames of a folder, by path, and the catalogues without a frame."""

    path: Path
    frames: tuple[FrameFiles, ...]
    lone_catalogues: tuple[str, ...]


def scan_folder(path: Path) -> Folder:
    """Find the frames in folder `path` and below it; hidden files and folders are passed over.

    Raises
    ------
    DataError
        If there is no such folder, or no frame in it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder" if not path.exists() else f"{path}: not a folder")
    files = sorted(_visible_files(path))
    catalogues = {file for file in files if file.endswith(CATALOGUE_ENDING)}
    frames = list(_pair([file for file in files if file.lower().endswith(FRAME_ENDINGS)], catalogues))
    if not frames:
        raise DataError(
            f"{path}: no frame ({' or '.join(FRAME_ENDINGS)}) among {len(files)} files; name another folder"
        )
    paired = {frame.catalogue for frame in frames}
    return Folder(path, tuple(frames), tuple(sorted(catalogues - paired)))


def describe_file(path: Path, name: str) -> dict[str, Any]:
    """What tells later whether file `path` is still the same; `name` is what to call it.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        state, digest = path.stat(), hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: unreadable ({error.strerror})") from error
    return {"path": name, "size": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": digest.hexdigest()}


def is_unchanged(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether `path` has the content that `describe_file` found when it gave `known`; read only if touched since."""
    try:
        state = path.stat()
        if state.st_size != known["size"]:
            return False
        return bool(state.st_mtime_ns == known["mtime_ns"] or describe_file(path, "")["sha256"] == known["sha256"])
    except (OSError, DataError):
        return False


def _visible_files(path: Path) -> Iterator[str]:
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(path).as_posix()


def _pair(frames: list[str], catalogues: set[str]) -> Iterator[FrameFiles]:
    first: dict[str, str] = {}
    for frame in frames:
        name = frame_name(frame)
        stem = frame[: -len(frame.rpartition("/")[2])] + name
        catalogue = stem + CATALOGUE_ENDING
        twin = first.setdefault(stem, frame)
        yield FrameFiles(name, frame, catalogue if catalogue in catalogues else None, twin if twin != frame else None)
