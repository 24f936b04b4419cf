"""The evaluation metrics of detections: COCO's average precision and recall, the report's best IoU, completeness.

A prediction of which an ignored region covers at least half, and which has an IoU of at least 0.5 with no object, is
left out of every metric: it is neither right nor wrong. In average precision and recall, ignored regions are besides
COCO's *crowd* regions, so that a prediction that is an object's at a low IoU threshold and nobody's at a high one is
not wrong at the high one if a region covers it by that much.

Every value is finite; one that is undefined is 0: average precision and recall and ``best_iou_per_gt`` without any
object, ``best_iou_per_prediction`` without any prediction, ``predictions_minus_objects`` without any tile,
``precision``, ``recall``, ``f1`` and ``best_score`` where no prediction is right, ``false_per_arcmin2`` where no area
is known, ``magnitude_50`` where no magnitude is.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from satdet.metrics.completeness import Completeness, completeness
from satdet.metrics.matching import Overlaps, TileMatches, Values, match_tile, measure_overlaps
from satdet.metrics.precision import (
    BestScore,
    Pooled,
    PrecisionRecall,
    average_precision,
    best_score,
    precision_recall,
)

_ARCMIN_A_DEGREE = 60


@dataclass(frozen=True)
class Curves:
    """What does not fit into one number.

    Attributes
    ----------
    precision_recall : PrecisionRecall or None
        At IoU 0.50; None without any object.
    completeness : Completeness
        At ``best_score``.
    excess, best_excess : ndarray (tiles,)
        Predictions minus objects of each tile: of all predictions, and of those of at least ``best_score``.
    """

    precision_recall: PrecisionRecall | None
    completeness: Completeness
    excess: npt.NDArray[np.intp]
    best_excess: npt.NDArray[np.intp]


class DetectionMetrics:
    """Metrics of the detections of many tiles.

    ``map`` is the mean of the average precision over the IoU thresholds 0.50, 0.55 … 0.95, ``map_50`` and ``map_75``
    are those at one threshold, ``mar_<n>`` is the average recall with the n best detections a tile, as in COCO [1]_.
    ``best_iou_per_gt`` is the mean over all objects of the best IoU with a prediction of the same tile (0 in a tile
    without one), ``best_iou_per_prediction`` the mean over all predictions of the best IoU with an object.
    ``predictions_minus_objects`` is the mean of that difference over the tiles.

    ``best_score`` is the score threshold with the highest F1 at an IoU of 0.50, ``f1``, ``precision`` and ``recall``
    are those with it; it is chosen on the very tiles that are measured. ``false_per_arcmin2`` is the number of wrong
    predictions of at least that score in the tiles whose pixel scale is known, over their area [1 / arcmin²]: where
    tiles overlap, sky and predictions both count once a tile, and ignored regions are not taken off. ``magnitude_50``
    is the magnitude at which completeness, with predictions of at least that score, falls to 50 %
    (`Completeness.magnitude_50`).

    An instance can be pickled, and `merge` joins those of several processes.

    Parameters
    ----------
    max_detections : int
        Largest number of detections a tile, at least 3; average recall is given at a third, two thirds and all of it.

    Attributes
    ----------
    limits : tuple of int
        Those three numbers.

    References
    ----------
    .. [1] Lin et al. 2014, Microsoft COCO: Common Objects in Context, https://cocodataset.org/#detection-eval
    """

    def __init__(self, max_detections: int) -> None:
        third, two_thirds = (round(max_detections * part / 3) for part in (1, 2))
        self.limits = (third, two_thirds, max_detections)
        self.reset()

    def reset(self) -> None:
        """Forget every tile."""
        self._tiles: list[TileMatches] = []

    def update(
        self,
        predictions: Sequence[dict[str, Tensor]],
        targets: Sequence[dict[str, Tensor]],
        *,
        shape: tuple[int, int] = (0, 0),
    ) -> None:
        """Add tiles; how they are spread over calls makes no difference.

        Parameters
        ----------
        predictions : sequence of dict
            One a tile: ``boxes`` (n, 4) [px], ``scores`` (n,), on any device; all are of one class.
        targets : sequence of dict
            One a tile: ``boxes`` (n, 4) [px] and, if there are any, ``ignored`` (m, 4) regions, ``magnitudes`` (n,)
            [mag] and ``pixel_scale`` () [deg/px], NaN where unknown.
        shape : (int, int)
            Height and width of the tiles [px], for their area; (0, 0) where it is not known.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            overlaps = tile_overlaps(prediction["boxes"], target)
            self.add(overlaps, prediction["scores"].detach().cpu().numpy(), target, shape=shape)

    def add(
        self, overlaps: Overlaps, scores: npt.NDArray[np.float32], target: dict[str, Tensor], *, shape: tuple[int, int]
    ) -> None:
        """Add one tile whose `overlaps` with its `target` are known already; else as `update`."""
        known = target.get("magnitudes")
        magnitudes = None if known is None else known.cpu().numpy().astype(np.float64)
        values = scores.astype(np.float64)
        area = _area(shape, target)
        self._tiles.append(match_tile(overlaps, values, self.limits[-1], magnitudes=magnitudes, area=area))

    def merge(self, other: "DetectionMetrics") -> None:
        """Add the tiles of another instance, as if they had come after one's own."""
        assert other.limits == self.limits, (other.limits, self.limits)
        self._tiles += other._tiles

    def state_dict(self) -> dict[str, Any]:
        """The tiles so far as plain values and tensors, for another process."""
        tiles = [dataclasses.asdict(tile) for tile in self._tiles]
        return {"tiles": [{name: torch.as_tensor(value) for name, value in tile.items()} for tile in tiles]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the tiles that `state_dict` returned, in place of one's own."""
        self._tiles = [
            TileMatches(**{name: value.numpy() if value.ndim else value.item() for name, value in tile.items()})
            for tile in state["tiles"]
        ]

    def compute(self) -> dict[str, float]:
        """All metrics of the tiles so far, by name."""
        pooled = Pooled.of(self._tiles)
        best = best_score(pooled)
        return average_precision(pooled, self.limits) | {
            "best_iou_per_gt": _mean([tile.object_best_iou for tile in self._tiles]),
            "best_iou_per_prediction": _mean([tile.best_iou for tile in self._tiles]),
            "predictions_minus_objects": _mean([self._excess()]),
            "precision": best.precision,
            "recall": best.recall,
            "f1": best.f1,
            "best_score": best.score,
            "false_per_arcmin2": self._false_density(best),
            "magnitude_50": self._completeness(best).magnitude_50,
        }

    def curves(self) -> Curves:
        """The curves and the histogram of the tiles so far."""
        pooled = Pooled.of(self._tiles)
        best = best_score(pooled)
        objects = np.array([len(tile.found_score) for tile in self._tiles], dtype=np.intp)
        shown = np.array([(tile.scores >= best.score).sum() for tile in self._tiles], dtype=np.intp)
        return Curves(
            precision_recall(pooled, 0) if pooled.objects else None,
            self._completeness(best),
            self._excess(),
            shown - objects,
        )

    def _excess(self) -> npt.NDArray[np.intp]:
        return np.array([len(tile.best_iou) - len(tile.found_score) for tile in self._tiles], dtype=np.intp)

    def _false_density(self, best: BestScore) -> float:
        area = float(np.nansum([tile.area for tile in self._tiles]))
        return best.false_in_area / area if area else 0.0

    def _completeness(self, best: BestScore) -> Completeness:
        magnitudes = np.concatenate([np.empty(0), *(tile.magnitudes for tile in self._tiles)])
        scores = np.concatenate([np.empty(0), *(tile.found_score for tile in self._tiles)])
        return completeness(magnitudes, scores >= best.score)


def tile_overlaps(boxes: Tensor, target: dict[str, Tensor]) -> Overlaps:
    """The overlaps of `boxes` (n, 4) with a tile's objects and ignored regions, `target` as in `DetectionMetrics`."""
    ignored = target.get("ignored", target["boxes"][:0])
    return measure_overlaps(*(each.detach().cpu().float().numpy() for each in (boxes, target["boxes"], ignored)))


def _area(shape: tuple[int, int], target: dict[str, Tensor]) -> float:
    """Of a tile [arcmin²]; NaN if it is not known."""
    scale = float(target.get("pixel_scale", np.nan))
    return shape[0] * shape[1] * (scale * _ARCMIN_A_DEGREE) ** 2 if min(shape) > 0 else np.nan


def _mean(arrays: Sequence[Values | npt.NDArray[np.intp]]) -> float:
    """The mean of all values; 0 without any."""
    count = sum(array.size for array in arrays)
    return float(sum(array.sum() for array in arrays) / count) if count else 0.0
