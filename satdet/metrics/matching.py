"""Which detection of a tile is right about which object: COCO's greedy matching, with ignored regions.

The detections take objects in the order of their scores, each the free object of the highest IoU that reaches the
threshold; of equal ones the last, as in COCO's own code [1]_.

References
----------
.. [1] Lin et al. 2014, Microsoft COCO: Common Objects in Context, https://cocodataset.org/#detection-eval
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from satdet.detector.ignored import COVERED

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Boxes = npt.NDArray[Any]

IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""COCO's: 0.50, 0.55 … 0.95."""
OBJECT_IOU = IOU_THRESHOLDS[0]


@dataclass(frozen=True)
class Overlaps:
    """How the detections of a tile lie on its objects and on its ignored regions.

    Attributes
    ----------
    iou : ndarray (n, g)
        IoU of each detection with each object.
    covered : ndarray (n,)
        Largest share of each detection that one ignored region covers.
    """

    iou: Values
    covered: Values

    def take(self, index: npt.NDArray[np.intp]) -> "Overlaps":
        """Those of some of the detections."""
        return Overlaps(self.iou[index], self.covered[index])


@dataclass(frozen=True)
class TileMatches:
    """The outcome of one tile.

    Attributes
    ----------
    index : ndarray (n,)
        Which of the tile's detections count, best first, at most the limit of the matching; the next three are theirs.
    scores : ndarray (n,)
    right, ignored : ndarray (thresholds, n)
        Whether each is right about an object at each of `IOU_THRESHOLDS`, or neither right nor wrong.
    best_iou : ndarray (m,)
        The best IoU with an object of each detection that counts, beyond the limit too.
    object_best_iou : ndarray (g,)
        The best IoU of each object with a detection that counts.
    found_score : ndarray (g,)
        The score of the detection that is right about each object at IoU 0.50; -1 for an object that is missed.
    magnitudes : ndarray (g,)
        Of the objects [mag], NaN where unknown.
    area : float
        Of the tile [arcmin²], NaN where unknown.
    """

    index: npt.NDArray[np.intp]
    scores: Values
    right: Flags
    ignored: Flags
    best_iou: Values
    object_best_iou: Values
    found_score: Values
    magnitudes: Values
    area: float


def measure_overlaps(boxes: Boxes, objects: Boxes, regions: Boxes) -> Overlaps:
    """IoU of `boxes` (n, 4) with `objects` (g, 4), and the largest share of each that one of `regions` (m, 4) covers.

    A box without area overlaps with nothing.
    """
    found, truth, hidden = (each.astype(np.float64).reshape(-1, 4) for each in (boxes, objects, regions))
    area = _area(found)
    overlap = _intersection(found, truth)
    union = area[:, None] + _area(truth)[None, :] - overlap
    iou = np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)
    covered = _intersection(found, hidden).max(axis=1, initial=0.0)
    return Overlaps(iou, np.divide(covered, area, out=np.zeros_like(covered), where=covered > 0))


def match_tile(
    overlaps: Overlaps, scores: Values, limit: int, *, magnitudes: Values | None = None, area: float = np.nan
) -> TileMatches:
    """Match the detections of one tile with its objects.

    A detection of which an ignored region covers at least half, and which has an IoU of at least 0.5 with no object,
    does not count at all. At a higher threshold, one that is right about no object is neither right nor wrong if a
    region covers it by that much.

    Parameters
    ----------
    overlaps : Overlaps
        Of n detections with g objects.
    scores : ndarray (n,)
    limit : int
        Only so many of the best detections are matched.
    magnitudes : ndarray (g,), optional
        Of the objects [mag].
    area : float
        Of the tile [arcmin²].
    """
    best_iou = overlaps.iou.max(axis=1, initial=0.0)
    counted = np.flatnonzero((overlaps.covered < COVERED) | (best_iou >= OBJECT_IOU))
    order = counted[np.argsort(-scores[counted], kind="stable")]
    kept = order[:limit]
    right, ignored = np.zeros((2, len(IOU_THRESHOLDS), len(kept)), dtype=bool)
    found_score = np.full(overlaps.iou.shape[1], -1.0)
    for level, pairs in enumerate(_greedy_pairs(overlaps.iou[kept])):
        right[level, list(pairs)] = True
        ignored[level] = ~right[level] & (overlaps.covered[kept] >= IOU_THRESHOLDS[level])
        if level == 0:
            found_score[list(pairs.values())] = scores[kept[list(pairs)]]
    return TileMatches(
        index=kept,
        scores=scores[kept],
        right=right,
        ignored=ignored,
        best_iou=best_iou[order],
        object_best_iou=overlaps.iou[order].max(axis=0, initial=0.0),
        found_score=found_score,
        magnitudes=np.full(len(found_score), np.nan) if magnitudes is None else magnitudes,
        area=area,
    )


def _greedy_pairs(iou: Values) -> Iterator[dict[int, int]]:
    """For each threshold the object that each right detection takes; `iou` has the best detection first.

    Few pairs overlap by half, so that plain Python over these is many times as fast as arrays of all.
    """
    rows, columns = np.nonzero(iou >= OBJECT_IOU)
    values = iou[rows, columns]
    preferred = np.lexsort((-columns, -values, rows))
    pairs = list(zip(rows[preferred].tolist(), columns[preferred].tolist(), values[preferred].tolist(), strict=True))
    for threshold in IOU_THRESHOLDS:
        takes: dict[int, int] = {}
        taken: set[int] = set()
        pairs = [pair for pair in pairs if pair[2] >= threshold]
        for row, column, _ in pairs:
            if row not in takes and column not in taken:
                takes[row] = column
                taken.add(column)
        yield takes


def _area(boxes: Values) -> Values:
    area: Values = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _intersection(boxes: Values, others: Values) -> Values:
    """The area that each box shares with each of the others, (n, m)."""
    x1, y1, x2, y2 = boxes.T[:, :, None]
    width = np.minimum(x2, others[:, 2]) - np.maximum(x1, others[:, 0])
    height = np.minimum(y2, others[:, 3]) - np.maximum(y1, others[:, 1])
    shared: Values = np.where((width > 0) & (height > 0), width * height, 0.0)
    return shared
