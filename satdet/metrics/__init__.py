"""The metrics of detections: COCO's average precision, the report's best IoU, and what astronomers ask for.

`matching` decides for one tile which detection is right about which object, `precision` and `completeness` make curves
and numbers of many tiles' matches, `detection` holds them together. `reference` is another's code to check against.
"""

from satdet.metrics.completeness import Completeness
from satdet.metrics.detection import Curves, DetectionMetrics, tile_overlaps
from satdet.metrics.matching import IOU_THRESHOLDS, Overlaps, TileMatches, match_tile, measure_overlaps
from satdet.metrics.precision import RECALL_THRESHOLDS, PrecisionRecall

__all__ = [
    "IOU_THRESHOLDS", "RECALL_THRESHOLDS", "Completeness", "Curves", "DetectionMetrics", "Overlaps", "PrecisionRecall",
    "TileMatches", "match_tile", "measure_overlaps", "tile_overlaps",
]  # fmt: skip
