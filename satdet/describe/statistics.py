"""What a tile store's data are like: distributions over frames, tiles and objects, and their summaries."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from satdet.config import BoxConfig, unflatten
from satdet.data.boxes import FrameObjects, frame_objects
from satdet.data.catalogues import read_catalogue
from satdet.data.store import SplitName, TileStore
from satdet.errors import DataError

Values = npt.NDArray[np.float64]

UNLABELLED = "no label"
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_WHISKER = 1.5


@dataclass(frozen=True)
class DataStatistics:
    """Distributions, each an array of one value a frame, tile or object.

    Attributes
    ----------
    frame_objects : ndarray
        Objects of each used frame.
    tile_objects : ndarray
        Objects of each tile, all splits together.
    box_areas, box_sides : ndarray
        Of the objects of used frames, uncut [px^2], [px].
    magnitudes : ndarray
        MAG_CALIB of the same objects [mag], those that have one.
    sky_levels, noise_levels : ndarray
        Background and its rms, of each used frame [counts].
    labels : dict
        Number of frames of any state with each label, most abundant first.
    states : dict
        Number of frames in each state.
    """

    frame_objects: Values
    tile_objects: Values
    box_areas: Values
    box_sides: Values
    magnitudes: Values
    sky_levels: Values
    noise_levels: Values
    labels: dict[str, int]
    states: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """Figures of one distribution; `outliers` lie more than 1.5 interquartile ranges beyond a quartile (Tukey 1977)."""

    name: str
    unit: str
    count: int
    mean: float
    deviation: float
    minimum: float
    quartile_1: float
    median: float
    quartile_3: float
    maximum: float
    outliers: int


def collect(store: TileStore) -> DataStatistics:
    """Collect the distributions of `store`; catalogues are read again, for boxes before tiles cut them.

    Raises
    ------
    DataError
        If a catalogue that the store was made from is no longer there, or no longer readable.
    """
    used = [entry for entry in store.manifest["frames"] if entry["state"] == "used"]
    found = list(_objects(store, used))
    boxes = np.concatenate([each.boxes for each in found]).astype(np.float64)
    magnitudes = np.concatenate([each.magnitudes for each in found]).astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    splits = [store.split(name) for name in _SPLITS]
    return DataStatistics(
        frame_objects=np.array([len(each.boxes) for each in found], dtype=np.float64),
        tile_objects=np.array([len(split.boxes(at)) for split in splits for at in range(len(split))], dtype=np.float64),
        box_areas=sides.prod(axis=1),
        box_sides=sides.mean(axis=1),
        magnitudes=magnitudes[np.isfinite(magnitudes)],
        sky_levels=np.array([entry["background"] for entry in used], dtype=np.float64),
        noise_levels=np.array([entry["rms"] for entry in used], dtype=np.float64),
        labels=_label_counts(store.manifest["frames"]),
        states=dict(store.manifest["counts"]["frames"]),
    )


def summarise(data: DataStatistics) -> list[Summary]:
    """The figures of every distribution that is not empty."""
    rows = (
        ("objects a frame", "", data.frame_objects),
        ("objects a tile", "", data.tile_objects),
        ("box area", "px²", data.box_areas),
        ("box side", "px", data.box_sides),
        ("magnitude", "mag", data.magnitudes),
        ("sky level", "counts", data.sky_levels),
        ("sky noise", "counts", data.noise_levels),
    )
    return [_summary(name, unit, values) for name, unit, values in rows if len(values)]


def table(summaries: Iterable[Summary]) -> str:
    """The figures as a Markdown table."""
    head = ("", "unit", "n", "mean", "std", "min", "25 %", "median", "75 %", "max", "outliers")
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(head) - 2)}"]
    for row in summaries:
        values = (row.mean, row.deviation, row.minimum, row.quartile_1, row.median, row.quartile_3, row.maximum)
        cells = [row.name, row.unit, str(row.count), *(f"{value:.4g}" for value in values), str(row.outliers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def whiskers(values: Values) -> tuple[float, float]:
    """Between what bounds a value is no outlier (Tukey 1977)."""
    low, high = np.percentile(values, [25, 75])
    reach = _WHISKER * (high - low)
    return float(low - reach), float(high + reach)


def _objects(store: TileStore, used: list[dict[str, Any]]) -> Iterable[FrameObjects]:
    rule = _box_rule(store)
    source = Path(store.manifest["source"])
    for entry in used:
        path = source / entry["files"][1]["path"]
        if not path.is_file():
            raise DataError(f"{path}: this catalogue of {store.path} is no longer there; prepare again from its frames")
        shape = entry["height"], entry["width"]
        yield frame_objects(read_catalogue(path), entry["pixel_scale"], shape, rule)


def _box_rule(store: TileStore) -> BoxConfig:
    return unflatten({f"tiles.{key}": value for key, value in store.manifest["config"].items()}).tiles.box


def _label_counts(frames: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(label for entry in frames for label in entry["labels"] or [UNLABELLED]).most_common())


def _summary(name: str, unit: str, values: Values) -> Summary:
    low, high = whiskers(values)
    first, median, third = (float(value) for value in np.percentile(values, [25, 50, 75]))
    outliers = int(((values < low) | (values > high)).sum())
    mean, deviation = float(values.mean()), float(values.std())
    least, most = float(values.min()), float(values.max())
    return Summary(name, unit, len(values), mean, deviation, least, first, median, third, most, outliers)
