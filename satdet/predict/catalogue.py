"""The catalogue of a frame, to show beside its detections."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from satdet.config import BoxConfig
from satdet.data.boxes import FrameObjects, frame_objects
from satdet.data.catalogues import read_catalogue
from satdet.data.folder import CATALOGUE_ENDINGS
from satdet.data.labels import frame_name
from satdet.errors import CatalogueError
from satdet.metrics import match_tile, measure_overlaps
from satdet.predict.detections import Detections


def find_catalogue(frame: Path) -> Path | None:
    """The catalogue that lies beside a frame, None if there is none."""
    beside = (frame.with_name(frame_name(frame.name) + ending) for ending in CATALOGUE_ENDINGS)
    return next((path for path in beside if path.is_file()), None)


def catalogue_objects(path: Path, detections: Detections, rule: BoxConfig) -> FrameObjects:
    """The objects and ignored rows of the frame's catalogue, by the rule of the detector's training.

    Raises
    ------
    CatalogueError
        If it cannot be read, or the frame has no pixel scale to make boxes with.
    """
    catalogue = read_catalogue(path)
    if not np.isfinite(detections.pixel_scale):
        raise CatalogueError(f"{path}: no boxes from it, since the header of {detections.name} has no pixel scale")
    return frame_objects(catalogue, detections.pixel_scale, detections.shape, rule)


def count_found(detections: Detections, objects: npt.NDArray[np.float32]) -> int:
    """How many of `objects` (n, 4) a detection is right about, at IoU 0.50."""
    overlaps = measure_overlaps(detections.boxes, objects, np.empty((0, 4)))
    matches = match_tile(overlaps, detections.scores.astype(np.float64), len(detections))
    return int((matches.found_score >= 0).sum())
