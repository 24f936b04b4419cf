"""A folder of frames and catalogues as it lies on disk: what belongs together, and whether it has changed."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satdet.data.labels import FRAME_ENDINGS, frame_name
from satdet.errors import DataError

CATALOGUE_ENDINGS = ("_trl.dat", ".cat", "_trl.cat", "_trl.fits", ".ldac", "_trl.csv", ".csv")
"""What follows the frame's name in the name of its catalogue; where there are several, the first of these is read."""
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
    other_catalogues : tuple of str
        More files that are called like a catalogue of this frame; they are not read.
    """

    name: str
    frame: str
    catalogue: str | None
    other_catalogues: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The path in the folder without the ending: what of a frame's name does not depend on how it is packed."""
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
    frames = list(_pair(files))
    if not frames:
        raise DataError(
            f"{path}: no frame ({' or '.join(FRAME_ENDINGS)}) among {len(files)} files; name another folder"
        )
    paired = {file for frame in frames for file in (frame.catalogue, *frame.other_catalogues)}
    # Any table may be called .csv, the label file too.
    lone = [file for file in files if file.endswith(CATALOGUE_ENDINGS) and not file.endswith(".csv")]
    return Folder(path, tuple(frames), tuple(file for file in lone if file not in paired))


def describe_file(path: Path, name: str, kind: type[DataError] = DataError) -> dict[str, Any]:
    """What tells later whether file `path` is still the same; `name` is what to call it.

    Raises
    ------
    DataError
        Of class `kind`, if it cannot be read.
    """
    try:
        state, digest = path.stat(), hashlib.sha256()
        if not stat.S_ISREG(state.st_mode):
            raise kind(f"{path}: unreadable ({'a folder' if stat.S_ISDIR(state.st_mode) else 'not a file'})")
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise kind(f"{path}: unreadable ({error.strerror})") from error
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
    """Paths of files, those in linked folders too, each folder once: links may lead around in a circle."""
    seen = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        state = Path(folder).stat()
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if (state.st_dev, state.st_ino) in seen:
            inner.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        # A folder called like a frame or a catalogue is listed too, so that it is missed by someone who expects a file.
        for name in names + [name for name in inner if name.endswith(FRAME_ENDINGS + CATALOGUE_ENDINGS)]:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(path).as_posix()


def _pair(files: list[str]) -> Iterator[FrameFiles]:
    present = set(files)
    for file in files:
        if not file.lower().endswith(FRAME_ENDINGS) or file.endswith(CATALOGUE_ENDINGS):
            continue
        name = frame_name(file)
        stem = file[: -len(file.rpartition("/")[2])] + name
        catalogues = [stem + ending for ending in CATALOGUE_ENDINGS if stem + ending in present]
        yield FrameFiles(name, file, catalogues[0] if catalogues else None, tuple(catalogues[1:]))
