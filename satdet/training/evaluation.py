"""Evaluation of a detector on the tiles of a split, and a picture of what it finds."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from satdet.data.loading import Batch, TileDataset
from satdet.data.store import TileSplit
from satdet.detector import Detector
from satdet.metrics import DetectionMetrics
from satdet.pictures import TilePicture, draw_detections
from satdet.training.workers import ALONE, Workers

SHOWN_SCORE = 0.5
"""Detections below this score are left out of pictures of tiles; the metrics know them all."""

Detect = Callable[[Tensor], list[dict[str, Tensor]]]
"""From images (B, 1, H, W) to one dict of ``boxes``, ``scores``, ``labels`` a tile, on the CPU."""


def evaluate(
    detect: Detect, batches: Iterable[Batch], *, max_detections: int, workers: Workers = ALONE
) -> dict[str, float]:
    """The metrics of `DetectionMetrics` over all tiles of the `batches` of all `workers`, in each of them."""
    metrics = DetectionMetrics(max_detections)
    for images, targets in batches:
        metrics.update(detect(images), targets, shape=(images.shape[-2], images.shape[-1]))
    parts = workers.gathered(metrics.state_dict()) if not workers.alone else []
    for state in parts[1:]:
        others = DetectionMetrics(max_detections)
        others.load_state_dict(state)
        metrics.merge(others)
    return workers.led(metrics.compute)


@torch.inference_mode()
def draw_examples(path: Path, detector: Detector, tiles: TileDataset, *, count: int = 4) -> None:
    """Draw truth and detections of `count` tiles, spread evenly over those with objects, to the PNG file `path`.

    `detector` is in evaluation mode.
    """
    device = next(detector.parameters()).device
    pictures = []
    for position in spread_positions(tiles.split, count):
        found = detector(tiles[position][0][None].to(device))[0]
        shown = found["scores"] >= SHOWN_SCORE
        boxes, scores = (found[key][shown].cpu().numpy() for key in ("boxes", "scores"))
        pictures.append(tile_picture(tiles.split, position, boxes, scores))
    draw_detections(path, pictures)


def spread_positions(split: TileSplit, count: int) -> list[int]:
    """Positions of at most `count` tiles, spread evenly over those with objects, or over all where none has any."""
    with_objects = [position for position in range(len(split)) if len(split.boxes(position))] or range(len(split))
    return [with_objects[each] for each in np.unique(np.linspace(0, len(with_objects) - 1, count).round().astype(int))]


def tile_picture(
    split: TileSplit, position: int, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> TilePicture:
    """A tile with its objects, and the detections `boxes` (n, 4) with their `scores` (n,)."""
    column, row = split.origin(position)
    return TilePicture(
        image=np.asarray(split.image(position), dtype=np.float32),
        truth=split.boxes(position),
        detections=boxes,
        scores=scores,
        title=f"{split.frame(position).get('name', 'tile')} at ({column}, {row})",
        ignored=split.ignored(position),
    )
