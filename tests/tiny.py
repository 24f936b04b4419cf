"""A trial whose checkpoints have kilobytes: eight tiles, and a detector of one convolution."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from satdet.config import TrialConfig, with_values
from satdet.data.store import TileStore, TileStoreWriter
from satdet.training import export, loop
from satdet.training.learner import LOSSES

SIZE = 32
CONFIG = with_values(
    TrialConfig(),
    {
        "tiles.size": SIZE,
        "detector.weights": "none",
        "optimizer.name": "adam",
        "training.batch_size": 4,
        "training.epochs": 3,
        "training.patience": None,
        "training.precision": "float32",
    },
)


class TinyDetector(nn.Module):
    """Finds the brightest pixel, with a score that is learned.

    Parameters
    ----------
    ballast : int
        Parameters besides, each 12 bytes of a checkpoint.
    most_trained, most_evaluated : int, optional
        Tiles a pass above which the memory is exhausted.
    """

    def __init__(self, ballast: int, most_trained: int | None = None, most_evaluated: int | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.ballast = nn.Parameter(torch.rand(ballast))
        self._most = {True: most_trained, False: most_evaluated}

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """As `Detector`; training draws random numbers, as sampling does."""
        most = self._most[self.training]
        if most is not None and len(images) > most:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {len(images)} GiB. GPU 0 has a total capacity of\n{most} GiB"
            )
        features = self.convolution(images).relu().mean((1, 2, 3))
        if targets is not None:
            loss = (features - torch.rand(len(images))).square().mean() + self.ballast.square().mean()
            return {name: loss * (place + 1) for place, name in enumerate(LOSSES)}
        return [self._detections(image, feature) for image, feature in zip(images, features, strict=True)]

    def _detections(self, image: Tensor, feature: Tensor) -> dict[str, Tensor]:
        row, column = divmod(int(image.argmax()), SIZE)
        box = torch.tensor([[column - 5.5, row - 5.5, column + 6.5, row + 6.5]]).clamp(0, SIZE)
        return {"boxes": box, "scores": feature.sigmoid()[None], "labels": torch.ones(1, dtype=torch.int64)}


@contextmanager
def tiny_detectors(ballast: int = 2000, **most: int) -> Iterator[None]:
    """Have trials train, and models hold, a `TinyDetector`."""

    def build(config: Any, **options: Any) -> TinyDetector:
        return TinyDetector(ballast, **most)

    with mock.patch.object(loop, "build_detector", build), mock.patch.object(export, "build_detector", build):
        yield


def tiny_store(path: Path) -> TileStore:
    """Eight training and four validation tiles with one bright blob each."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    with TileStoreWriter(path, SIZE) as writer:
        for number in range(12):
            x, y = rng.uniform(8, SIZE - 8, 2)
            image = rng.normal(size=(SIZE, SIZE)) + 40 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 12)
            boxes = np.array([[x - 6, y - 6, x + 6, y + 6]], dtype=np.float32)
            split = "train" if number < 8 else "validation"
            writer.add(image, boxes, np.empty((0, 4)), frame=0, split=split, origin=(0, 0))
        writer.finish({"config": {"size": SIZE}, "frames": [{"name": "frame"}], "counts": {}})
    return TileStore.open(path)
