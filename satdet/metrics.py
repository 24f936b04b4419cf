"""The evaluation metrics of detections: COCO's average precision and recall, and the report's best IoU.

A prediction of which an ignored region covers at least half, and which has an IoU of at least 0.5 with no object, is
left out of every metric: it is neither right nor wrong. In average precision and recall, ignored regions are besides
COCO's *crowd* regions, so that a prediction that is an object's at a low IoU threshold and nobody's at a high one is
not wrong at the high one if a region covers it by that much.

Every value is finite; one that is undefined is 0: the average precision, the average recall and ``best_iou_per_gt``
without any object, ``best_iou_per_prediction`` without any prediction, ``predictions_minus_objects`` without any tile.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from satdet.detector.ignored import COVERED, covered_share

IOU_THRESHOLDS = tuple(hundredths / 100 for hundredths in range(50, 100, 5))
"""COCO's: 0.50, 0.55 … 0.95."""
RECALL_THRESHOLDS = tuple(hundredths / 100 for hundredths in range(101))
"""COCO's: 0.00, 0.01 … 1.00."""
_OBJECT_IOU = IOU_THRESHOLDS[0]


@dataclass
class _Mean:
    """A mean that grows; 0 while it is empty."""

    total: float = 0.0
    count: int = 0

    def add(self, values: Tensor) -> None:
        self.total += float(values.double().sum())
        self.count += values.numel()

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else 0.0


class DetectionMetrics:
    """Metrics of the detections of many tiles.

    ``map`` is the mean of the average precision over the IoU thresholds 0.50, 0.55 … 0.95, ``map_50`` and ``map_75``
    are those at one threshold, ``mar_<n>`` is the average recall with the n best detections a tile, as in COCO [1]_.
    ``best_iou_per_gt`` is the mean over all objects of the best IoU with a prediction of the same tile (0 in a tile
    without one), ``best_iou_per_prediction`` the mean over all predictions of the best IoU with an object.
    ``predictions_minus_objects`` is the mean of that difference over the tiles.

    Parameters
    ----------
    max_detections : int
        Largest number of detections a tile, at least 3; average recall is given at a third, two thirds and all of it.

    References
    ----------
    .. [1] Lin et al. 2014, Microsoft COCO: Common Objects in Context, https://cocodataset.org/#detection-eval
    """

    def __init__(self, max_detections: int) -> None:
        self._limits = [round(max_detections * part / 3) for part in (1, 2, 3)]
        self.reset()

    def reset(self) -> None:
        """Forget every tile."""
        self._predictions: list[dict[str, Tensor]] = []
        self._targets: list[dict[str, Tensor]] = []
        self._iou_per_gt = _Mean()
        self._iou_per_prediction = _Mean()
        self._excess = _Mean()

    def update(self, predictions: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> None:
        """Add tiles; how they are spread over calls makes no difference.

        Parameters
        ----------
        predictions : list of dict
            One a tile: ``boxes`` (n, 4) [px], ``scores`` (n,), ``labels`` (n,), on any device.
        targets : list of dict
            One a tile: ``boxes`` (n, 4) [px], ``labels`` (n,) and, if there are any, ``ignored`` (m, 4) regions.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            found = {key: prediction[key].detach().cpu() for key in ("boxes", "scores", "labels")}
            truth = {key: target[key].detach().cpu() for key in ("boxes", "labels", "ignored") if key in target}
            self._add(found, truth["boxes"].float(), truth["labels"], truth.get("ignored", torch.empty(0, 4)).float())

    def compute(self) -> dict[str, float]:
        """All metrics of the tiles so far, by name."""
        return self._average_precision() | {
            "best_iou_per_gt": self._iou_per_gt.value,
            "best_iou_per_prediction": self._iou_per_prediction.value,
            "predictions_minus_objects": self._excess.value,
        }

    def _add(self, found: dict[str, Tensor], boxes: Tensor, labels: Tensor, ignored: Tensor) -> None:
        iou = _best_iou(found["boxes"].float(), boxes)
        counted = (covered_share(found["boxes"].float(), ignored) < COVERED) | (iou >= _OBJECT_IOU)
        found = {key: value[counted] for key, value in found.items()}
        self._iou_per_prediction.add(iou[counted])
        self._iou_per_gt.add(_best_iou(boxes, found["boxes"].float()))
        self._excess.add(torch.tensor([float(len(found["boxes"]) - len(boxes))]))
        self._predictions.append({**found, "boxes": found["boxes"].float(), "scores": found["scores"].float()})
        self._targets.append(
            {
                "boxes": torch.cat([boxes, ignored]),
                "labels": torch.cat([labels, labels.new_ones(len(ignored))]),
                "iscrowd": torch.cat([torch.zeros_like(labels), labels.new_ones(len(ignored))]),
            }
        )

    def _average_precision(self) -> dict[str, float]:
        names = ["map", "map_50", "map_75", *(f"mar_{limit}" for limit in self._limits)]
        if self._iou_per_gt.count == 0:
            return dict.fromkeys(names, 0.0)
        values = _mean_average_precision(self._limits, self._predictions, self._targets)
        return {name: max(0.0, float(values[name])) for name in names}


def _best_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """The best IoU of each box with any of the others; 0 without others."""
    if len(boxes) == 0 or len(others) == 0:
        return torch.zeros(len(boxes))
    best: Tensor = box_iou(boxes, others).max(dim=1).values
    return best


def _mean_average_precision(
    limits: list[int], predictions: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]
) -> dict[str, Any]:
    from torchmetrics.detection import MeanAveragePrecision  # slow to import

    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    metric = MeanAveragePrecision(
        iou_thresholds=list(IOU_THRESHOLDS),
        rec_thresholds=list(RECALL_THRESHOLDS),
        max_detection_thresholds=limits,
        backend="faster_coco_eval",
    )
    metric.warn_on_many_detections = False
    metric.update(predictions, targets)
    values: dict[str, Any] = metric.compute()
    return values
