"""Average precision and recall by torchmetrics on the COCO evaluation of faster-coco-eval: what ours is held against.

Ours takes a tenth of the time and knows ignored regions; that it gives the same values can be checked on any data.
"""

import logging
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from satdet.detector.ignored import COVERED
from satdet.metrics.detection import tile_overlaps
from satdet.metrics.matching import IOU_THRESHOLDS, OBJECT_IOU
from satdet.metrics.precision import RECALL_THRESHOLDS

Tile = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], dict[str, Tensor]]
"""Detected boxes (n, 4) [px], their scores (n,), and the target, as `DetectionMetrics.update` takes it."""


def reference_precision(tiles: Iterable[Tile], limits: tuple[int, int, int]) -> dict[str, float]:
    """The values of `DetectionMetrics` that COCO defines, by torchmetrics.

    Ignored regions are COCO's crowd regions, and a detection that counts for nothing in ours is left out here too.

    Parameters
    ----------
    tiles : iterable of Tile
    limits : (int, int, int)
        Numbers of detections a tile at which average recall is given; the last is the largest looked at.

    Returns
    -------
    dict of float
        ``map``, ``map_50``, ``map_75`` and ``mar_<limit>``; 0 where there is no object.
    """
    from torchmetrics.detection import MeanAveragePrecision  # slow to import

    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    metric = MeanAveragePrecision(
        iou_thresholds=list(IOU_THRESHOLDS),
        rec_thresholds=list(RECALL_THRESHOLDS),
        max_detection_thresholds=list(limits),
        backend="faster_coco_eval",
    )
    metric.warn_on_many_detections = False
    for boxes, scores, target in tiles:
        metric.update([_found(boxes, scores, target)], [_truth(target)])
    values = metric.compute()
    names = ("map", "map_50", "map_75", *(f"mar_{limit}" for limit in limits))
    return {name: max(0.0, float(values[name])) for name in names}


def _found(
    boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], target: dict[str, Tensor]
) -> dict[str, Tensor]:
    overlaps = tile_overlaps(torch.from_numpy(boxes), target)
    counted = (overlaps.covered < COVERED) | (overlaps.iou.max(axis=1, initial=0.0) >= OBJECT_IOU)
    kept = torch.from_numpy(scores[counted])
    return {"boxes": torch.from_numpy(boxes[counted]), "scores": kept, "labels": torch.ones(len(kept), dtype=torch.int)}


def _truth(target: dict[str, Tensor]) -> dict[str, Tensor]:
    boxes, ignored = target["boxes"].cpu(), target.get("ignored", target["boxes"][:0]).cpu()
    regions = torch.cat([boxes, ignored])
    crowd = torch.arange(len(regions)) >= len(boxes)
    return {"boxes": regions, "labels": torch.ones(len(regions), dtype=torch.int), "iscrowd": crowd.int()}
