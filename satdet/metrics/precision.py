"""Average precision, average recall and the best score, from the matches of many tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from satdet.metrics.matching import IOU_THRESHOLDS, Flags, TileMatches, Values

RECALL_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0, 1, 101).tolist())
"""COCO's: 0.00, 0.01 … 1.00."""


@dataclass(frozen=True)
class Pooled:
    """The matched detections of all tiles, best first; of equal scores, the earlier tile's first.

    Attributes
    ----------
    scores : ndarray (n,)
    right, ignored : ndarray (thresholds, n)
        As in `TileMatches`.
    rank : ndarray (n,)
        Place of each in its own tile, from 0.
    in_area : ndarray (n,)
        Whether its tile's area is known.
    objects : int
        Number of objects in all tiles.
    """

    scores: Values
    right: Flags
    ignored: Flags
    rank: npt.NDArray[np.intp]
    in_area: Flags
    objects: int

    @classmethod
    def of(cls, tiles: Sequence[TileMatches]) -> Self:
        """Pool the matches of `tiles`."""
        none = np.empty((len(IOU_THRESHOLDS), 0), dtype=bool)
        scores = np.concatenate([np.empty(0), *(tile.scores for tile in tiles)])
        order = np.argsort(-scores, kind="stable")
        counts = [len(tile.scores) for tile in tiles]
        rank = np.concatenate([np.empty(0, dtype=np.intp), *(np.arange(count) for count in counts)])
        in_area = np.repeat(np.array([np.isfinite(tile.area) for tile in tiles], dtype=bool), counts)
        return cls(
            scores[order],
            np.concatenate([none, *(tile.right for tile in tiles)], axis=1)[:, order],
            np.concatenate([none, *(tile.ignored for tile in tiles)], axis=1)[:, order],
            rank[order],
            in_area[order],
            sum(len(tile.found_score) for tile in tiles),
        )


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision against recall at one IoU threshold.

    Attributes
    ----------
    recall : ndarray (101,)
        `RECALL_THRESHOLDS`.
    precision : ndarray (101,)
        The highest precision at that recall or a higher one, COCO's interpolation; 0 where it is not reached.
    scores : ndarray (101,)
        The score at which that recall is reached; 0 where it is not.
    """

    recall: Values
    precision: Values
    scores: Values


@dataclass(frozen=True)
class BestScore:
    """The score threshold with the highest F1 at IoU 0.50, and what holds there; all 0 if no detection is right.

    Attributes
    ----------
    score, precision, recall, f1 : float
    false_in_area : int
        Wrong detections in tiles of known area.
    """

    score: float
    precision: float
    recall: float
    f1: float
    false_in_area: int


def precision_recall(pooled: Pooled, level: int) -> PrecisionRecall:
    """The curve at ``IOU_THRESHOLDS[level]``; at least one object is needed."""
    right = pooled.right[level].cumsum()
    wrong = (~pooled.right[level] & ~pooled.ignored[level]).cumsum()
    precision = right / np.maximum(right + wrong, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    thresholds = np.array(RECALL_THRESHOLDS)
    reached = np.searchsorted(right / pooled.objects, thresholds)
    return PrecisionRecall(thresholds, np.append(highest, 0.0)[reached], np.append(pooled.scores, 0.0)[reached])


def average_precision(pooled: Pooled, limits: Sequence[int]) -> dict[str, float]:
    """``map``, ``map_50``, ``map_75`` and ``mar_<limit>``, as COCO defines them; 0 without any object."""
    names = ["map", "map_50", "map_75", *(f"mar_{limit}" for limit in limits)]
    if pooled.objects == 0:
        return dict.fromkeys(names, 0.0)
    at = [float(precision_recall(pooled, level).precision.mean()) for level in range(len(IOU_THRESHOLDS))]
    recalls = [float(pooled.right[:, pooled.rank < limit].sum(axis=1).mean() / pooled.objects) for limit in limits]
    return dict(zip(names, [float(np.mean(at)), at[0], at[5], *recalls], strict=True))


def best_score(pooled: Pooled) -> BestScore:
    """The threshold, among the scores themselves, that maximises F1 at IoU 0.50; of equal ones the highest."""
    wrong = ~pooled.right[0] & ~pooled.ignored[0]
    right_so_far, wrong_so_far = pooled.right[0].cumsum(), wrong.cumsum()
    ends = np.flatnonzero(np.diff(pooled.scores, append=-np.inf))  # detections of one score stand or fall together
    right, all_wrong = right_so_far[ends], wrong_so_far[ends]
    f1 = 2 * right / np.maximum(right + all_wrong + pooled.objects, 1)
    if f1.max(initial=0.0) == 0:
        return BestScore(0.0, 0.0, 0.0, 0.0, int((wrong & pooled.in_area).sum()))
    best = int(f1.argmax())
    precision, recall = right[best] / (right[best] + all_wrong[best]), right[best] / pooled.objects
    false = int((wrong & pooled.in_area)[: ends[best] + 1].sum())
    return BestScore(float(pooled.scores[ends[best]]), float(precision), float(recall), float(f1[best]), false)
