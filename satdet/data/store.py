"""The tile store: what training reads. One folder, written once, memory-mapped ever after.

    manifest.json   what the store was made from and by which rules; counts; one entry a frame
    tiles.f16       float16 (tiles, size, size): (counts - background) / rms of the tile's frame, row-major
    table.npy       one row a tile: frame, split, origin in the frame, slices of the two box arrays
    boxes.npy       float32 (objects, 4): x1, y1, x2, y2 in edge coordinates of the tile [px]
    magnitudes.npy  float32 (objects,): MAG_CALIB of each box [mag], NaN where unknown
    ignored.npy     float32 (regions, 4): neither object nor background (rows with FLAGS != 0)

Edge coordinates put the lower-left corner of the first pixel at (0, 0) and its centre at (0.5, 0.5). Noise units, not
normalised input, are stored, so that one store serves every normalisation.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from satdet._storage import sync
from satdet.data.tiling import tile_cards
from satdet.errors import TileStoreError

FORMAT = 2
SPLITS = ("train", "validation", "test")
SplitName = Literal["train", "validation", "test"]

_TABLE = np.dtype(
    [
        ("frame", "<i4"),
        ("split", "<u1"),
        ("x", "<i4"),
        ("y", "<i4"),
        ("boxes", "<i8", 2),
        ("ignored", "<i8", 2),
    ]
)  # fmt: skip
_Boxes = npt.NDArray[np.float32]
_Magnitudes = npt.NDArray[np.float32]


class TileStore:
    """A finished tile store, opened for reading.

    Attributes
    ----------
    path : Path
    manifest : dict
        ``config`` (flat `TilesConfig`), ``frames`` (one dict a frame), ``counts``, ``versions``, ``digest``.
    content_digest : str
        SHA-256 of the manifest, which holds that of the rest; see `satdet.data.integrity`.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], content_digest: str) -> None:
        self.path = path
        self.content_digest = content_digest
        self.manifest = manifest
        self._table = np.load(path / "table.npy")
        self._boxes = np.load(path / "boxes.npy", mmap_mode="r") if manifest["arrays"]["boxes"] else _no_boxes()
        self._magnitudes = np.load(path / "magnitudes.npy")
        self._ignored = np.load(path / "ignored.npy", mmap_mode="r") if manifest["arrays"]["ignored"] else _no_boxes()
        self._tiles = _map_tiles(path, len(self._table), self.tile_size)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the store in folder `path`.

        Raises
        ------
        TileStoreError
            If there is no store, or it is incomplete or of another format.
        """
        path = Path(path)
        try:
            text = (path / "manifest.json").read_bytes()
            manifest = json.loads(text)
        except FileNotFoundError:
            raise TileStoreError(f"{path}: no tile store here; make one with python -m satdet.prepare") from None
        except ValueError as error:
            raise TileStoreError(f"{path}: damaged manifest ({error}); remove the folder and prepare again") from None
        if manifest.get("format") != FORMAT:
            raise TileStoreError(
                f"{path}: format {manifest.get('format')!r}, this version reads {FORMAT}; prepare again"
            )
        try:
            return cls(path, manifest, hashlib.sha256(text).hexdigest())
        except (OSError, ValueError) as error:
            raise TileStoreError(f"{path}: incomplete store ({error}); remove the folder and prepare again") from None

    @property
    def tile_size(self) -> int:
        """Side of a tile [px]."""
        return int(self.manifest["config"]["size"])

    @property
    def digest(self) -> str:
        """Hash of all that training reads: tiles, boxes, splits."""
        return str(self.manifest["digest"])

    def split(self, name: SplitName, *, empty_tiles: bool = True) -> "TileSplit":
        """The tiles of one split; `empty_tiles` keeps those without an object."""
        keep = self._table["split"] == SPLITS.index(name)
        if not empty_tiles:
            keep &= self._table["boxes"][:, 1] > self._table["boxes"][:, 0]
        return TileSplit(self, np.flatnonzero(keep))


@dataclass(frozen=True)
class TileSplit:
    """Some tiles of a store, by position 0 … len - 1."""

    store: TileStore
    indices: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, position: int) -> npt.NDArray[np.float16]:
        """Pixels in noise units, (size, size), a read-only view of the file."""
        tile: npt.NDArray[np.float16] = self.store._tiles[self.indices[position]]
        return tile

    def boxes(self, position: int) -> _Boxes:
        """Objects, (n, 4) x1, y1, x2, y2 [px, edge coordinates of the tile], a copy."""
        start, stop = self.store._table["boxes"][self.indices[position]]
        return np.array(self.store._boxes[start:stop], dtype=np.float32)

    def magnitudes(self, position: int) -> _Magnitudes:
        """Calibrated magnitude of each of the `boxes`, (n,) [mag], NaN where unknown, a copy."""
        start, stop = self.store._table["boxes"][self.indices[position]]
        return np.array(self.store._magnitudes[start:stop], dtype=np.float32)

    def ignored(self, position: int) -> _Boxes:
        """Regions that are neither object nor background, (m, 4), a copy."""
        start, stop = self.store._table["ignored"][self.indices[position]]
        return np.array(self.store._ignored[start:stop], dtype=np.float32)

    def frame(self, position: int) -> dict[str, Any]:
        """The manifest's entry of the tile's frame."""
        entry: dict[str, Any] = self.store.manifest["frames"][self.store._table["frame"][self.indices[position]]]
        return entry

    def origin(self, position: int) -> tuple[int, int]:
        """Column and row of the tile's first pixel in its frame, 0-based."""
        row = self.store._table[self.indices[position]]
        return int(row["x"]), int(row["y"])

    def cards(self, position: int) -> dict[str, Any]:
        """The header cards that place the tile on the sky, see `tile_cards`."""
        return tile_cards(self.frame(position)["wcs"], self.origin(position))


class TileStoreWriter:
    """Writes a store next to its final place and moves it there when closed without an error.

    Parameters
    ----------
    path : Path
        Folder of the finished store; replaced if it exists.
    size : int
        Side of a tile [px].
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        self._rows: list[tuple[Any, ...]] = []
        self._boxes: list[_Boxes] = []
        self._magnitudes: list[_Magnitudes] = []
        self._ignored: list[_Boxes] = []
        self._counts = {"boxes": 0, "ignored": 0}
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._tiles = (self._partial / "tiles.f16").open("wb")
        return self

    def add(
        self,
        image: npt.NDArray[Any],
        boxes: _Boxes,
        ignored: _Boxes,
        *,
        frame: int,
        split: SplitName,
        origin: tuple[int, int],
        magnitudes: _Magnitudes | None = None,
    ) -> None:
        """Append a tile: `image` (size, size) in noise units, `boxes` (n, 4) and `ignored` (m, 4) in edge coordinates.

        `frame` is the position of the tile's frame in the manifest's list; `origin` is the tile's (column, row) in it;
        `magnitudes` (n,) are those of the boxes, None if unknown.
        """
        assert image.shape == (self._size, self._size), image.shape
        data = np.ascontiguousarray(image, dtype="<f2").tobytes()
        self._tiles.write(data)
        self._hash.update(data)
        spans = []
        for name, kept, array in (("boxes", self._boxes, boxes), ("ignored", self._ignored, ignored)):
            array = np.asarray(array, dtype=np.float32).reshape(-1, 4)
            kept.append(array)
            spans.append((self._counts[name], self._counts[name] + len(array)))
            self._counts[name] += len(array)
        count = spans[0][1] - spans[0][0]
        magnitudes = np.full(count, np.nan) if magnitudes is None else magnitudes
        assert len(magnitudes) == count, (len(magnitudes), count)
        self._magnitudes.append(np.asarray(magnitudes, dtype=np.float32))
        self._rows.append((frame, SPLITS.index(split), *origin, *spans))

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the arrays and the manifest (``config``, ``frames``, ``counts``, ``versions`` … are the caller's)."""
        table = np.array(self._rows, dtype=_TABLE)
        arrays = {
            "boxes": np.concatenate([_no_boxes(), *self._boxes]),
            "magnitudes": np.concatenate([np.empty(0, np.float32), *self._magnitudes]),
            "ignored": np.concatenate([_no_boxes(), *self._ignored]),
        }
        for name, array in (("table", table), *arrays.items()):
            np.save(self._partial / f"{name}.npy", array)
            self._hash.update(array.tobytes())
        self._tiles.close()
        own = {"format": FORMAT, "digest": self._hash.hexdigest(), "arrays": self._counts, "tiles": len(table)}
        (self._partial / "manifest.json").write_text(json.dumps(manifest | own, indent=1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tiles.close()
        if kind is None and (self._partial / "manifest.json").exists():
            for path in (*self._partial.iterdir(), self._partial):
                sync(path)  # a store that has its name is whole, after a power cut too
            shutil.rmtree(self.path, ignore_errors=True)
            self._partial.rename(self.path)
            sync(self.path.parent)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def _no_boxes() -> _Boxes:
    return np.empty((0, 4), dtype=np.float32)


def _map_tiles(path: Path, count: int, size: int) -> npt.NDArray[np.float16]:
    expected = count * size * size * 2
    actual = (path / "tiles.f16").stat().st_size
    if actual != expected:
        raise ValueError(f"tiles.f16 has {actual} bytes, the manifest says {expected}")
    if count == 0:
        return np.empty((0, size, size), dtype=np.float16)
    return np.memmap(path / "tiles.f16", dtype="<f2", mode="r", shape=(count, size, size))
