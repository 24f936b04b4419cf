"""Evaluation of a detector on the tiles of a split, and a picture of what it finds."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from satdet.data.loading import Batch, TileDataset
from satdet.detector import Detector
from satdet.metrics import DetectionMetrics
from satdet.pictures import TilePicture, draw_detections

SHOWN_SCORE = 0.5
"""Detections below this score are left out of pictures; the metrics know them all."""

Detect = Callable[[Tensor], list[dict[str, Tensor]]]
"""From images (B, 1, H, W) to one dict of ``boxes``, ``scores``, ``labels`` a tile, on the CPU."""


def evaluate(detect: Detect, batches: Iterable[Batch], *, max_detections: int) -> dict[str, float]:
    """The metrics of `DetectionMetrics` over all tiles of `batches`."""
    metrics = DetectionMetrics(max_detections)
    for images, targets in batches:
        metrics.update(detect(images), targets, shape=(images.shape[-2], images.shape[-1]))
    return metrics.compute()


@torch.inference_mode()
def draw_examples(path: Path, detector: Detector, tiles: TileDataset, *, count: int = 4) -> None:
    """Draw truth and detections of `count` tiles, spread evenly over those with objects, to the PNG file `path`.

    `detector` is in evaluation mode.
    """
    split = tiles.split
    device = next(detector.parameters()).device
    with_objects = [position for position in range(len(tiles)) if len(split.boxes(position))] or range(len(tiles))
    pictures = []
    for each in np.unique(np.linspace(0, len(with_objects) - 1, count).round().astype(int)):
        position = with_objects[each]
        image, target = tiles[position]
        found = detector(image[None].to(device))[0]
        shown = found["scores"] >= SHOWN_SCORE
        column, row = split.origin(position)
        pictures.append(
            TilePicture(
                image=np.asarray(split.image(position), dtype=np.float32),
                truth=target["boxes"].numpy(),
                detections=found["boxes"][shown].cpu().numpy(),
                scores=found["scores"][shown].cpu().numpy(),
                title=f"{split.frame(position).get('name', 'tile')} at ({column}, {row})",
            )
        )
    draw_detections(path, pictures)
