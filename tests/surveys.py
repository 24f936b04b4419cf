"""Frames and catalogues on disk, small and as they should or should not be."""

import zlib
from pathlib import Path

import numpy as np
from astropy.io import fits

from satdet.config import TilesConfig
from satdet.data.ingest import prepare
from satdet.data.store import SPLITS, TileStore

CONFIG = TilesConfig(size=64)
SCALE = 0.722 / 3600
ROW = {
    "X_IMAGE": 32.5,
    "Y_IMAGE": 32.5,
    "FWHM_WORLD": 4 * SCALE,
    "FLUX_RADIUS": 2.0,
    "ELLIPTICITY": 0.1,
    "FLAGS": 0,
    "MAG_CALIB": 16.0,
}


def write_frame(path: Path, *, shape=(64, 64), header=None, pixels=None, scale=SCALE) -> Path:
    """A frame of noise around 1000 with a rms of 10."""
    if pixels is None:
        pixels = np.random.default_rng(zlib.crc32(path.name.encode())).normal(1000, 10, shape).astype(np.float32)
    cards = {"CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale} if header is None else header
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(path, overwrite=True)
    return path


def write_catalogue(frame: Path, *rows: dict, columns=tuple(ROW), end="\n") -> Path:
    stem = frame.name.removesuffix(".gz").removesuffix(".fits")
    lines = [f"# {number:2d} {name:<15} A comment [unit]" for number, name in enumerate(columns, 1)]
    lines += [" ".join(str((ROW | row).get(name, 0)) for name in columns) for row in rows]
    path = frame.with_name(f"{stem}_trl.dat")
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def write_pair(folder: Path, name: str, *rows: dict, **kwargs) -> Path:
    frame = write_frame(folder / f"{name}.fits.gz", **kwargs)
    write_catalogue(frame, *(rows or ({},)))
    return frame


def states(store: TileStore) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in store.manifest["frames"]}


def rejection(folder: Path, name: str, config: TilesConfig = CONFIG) -> str:
    """Why frame `name` is rejected, in company of a good one."""
    write_pair(folder, "good")
    store = prepare(folder, config, folder.parent / "store")
    assert states(store)["good"] == "used"
    entry = next(entry for entry in store.manifest["frames"] if entry["name"] == name)
    assert entry["state"] == "rejected"
    assert "\n" not in entry["reason"]
    return entry["reason"]


def all_tiles(store: TileStore):
    for name in SPLITS:
        split = store.split(name)
        for position in range(len(split)):
            yield split, position
