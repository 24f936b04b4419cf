"""The detector on whole frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from satdet.data.frames import Frame, NoiseUnits, read_frame, to_noise_units
from satdet.data.labels import frame_name
from satdet.data.normalisation import FrameScale, normalise
from satdet.errors import UsageError
from satdet.predict.detections import Detections
from satdet.predict.seams import TileDetections, TileLayout, join_tiles
from satdet.training.export import Model, default_device, open_model

_USUAL_SCORE = 0.5
_SMALLEST_OVERLAP = 32


@dataclass(frozen=True)
class Predictor:
    """Finds objects in whole frames of any size.

    A frame is brought to noise units, cut into overlapping tiles of the size that the detector was trained on, and
    normalised as it was trained; at most `batch_size` tiles are in the detector at a time.

    Attributes
    ----------
    model : Model
    score : float
        Detections below are left out; by default the checkpoint's ``best_score``, that with the best F1 on its
        validation tiles, or 0.5 if it has none.
    overlap : int
        Smallest overlap of tiles [px]; objects up to this size are seen whole. By default an eighth of a tile, and at
        least 32 px.
    batch_size : int
        Tiles a forward pass.

    Raises
    ------
    UsageError
        If `score` is not between 0 and 1, `overlap` not between 0 and half a tile, or `batch_size` below 1.
    """

    model: Model
    score: float
    overlap: int
    batch_size: int

    def __post_init__(self) -> None:
        most = self.model.config.tiles.size // 2
        if not 0 <= self.score <= 1:
            raise UsageError(f"score = {self.score} is not between 0 and 1")
        if not 0 <= self.overlap <= most:
            raise UsageError(f"overlap = {self.overlap} is not between 0 and {most} px, half a tile of this model")
        if self.batch_size < 1:
            raise UsageError(f"batch = {self.batch_size} is below 1")

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | None = None,
        *,
        score: float | None = None,
        overlap: int | None = None,
        batch_size: int | None = None,
    ) -> Self:
        """Open the ``model.pt`` of a trial; what is not given has the class's defaults.

        Parameters
        ----------
        path : str or Path
        device : str, optional
            By default ``cuda`` if there is one, else ``cpu``.
        score, overlap, batch_size
            As in the class.

        Raises
        ------
        CheckpointError
            If the file is not a whole model of this version.
        UsageError
            For a value out of range.
        """
        model = open_model(Path(path), device or default_device())
        size = model.config.tiles.size
        return cls(
            model=model,
            score=(model.metrics.get("best_score") or _USUAL_SCORE) if score is None else score,
            overlap=min(max(_SMALLEST_OVERLAP, size // 8), size // 2) if overlap is None else overlap,
            batch_size=model.config.evaluation.batch_size if batch_size is None else batch_size,
        )

    def predict(
        self,
        frame: str | Path | Frame,
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detections:
        """Find the objects of a frame; it needs neither a catalogue nor a place on the sky.

        Parameters
        ----------
        frame : str, Path or Frame
            A FITS file, or a frame that was read already.
        name : str, optional
            Of the frame; by default its file's name without ending.
        progress : callable, optional
            Called with (tiles done, tiles in all).

        Raises
        ------
        FrameError
            If the frame cannot be read, or holds nothing but one value.
        """
        path = Path("frame" if isinstance(frame, Frame) else frame)
        if not isinstance(frame, Frame):
            frame = read_frame(path, require_scale=False)
        noise_units = to_noise_units(frame, path)
        height, width = noise_units.pixels.shape
        layout = TileLayout((height, width), self.model.config.tiles.size, self.overlap)
        tiles = []
        for tile in self._tiles(layout, noise_units):
            tiles.append(tile)
            if progress is not None:
                progress(len(tiles), len(layout.origins))
        boxes, scores = join_tiles(tiles, layout.shape, self.model.config.detector.nms_threshold)
        return Detections(
            name=name or frame_name(path.name),
            boxes=boxes,
            scores=scores,
            wcs=frame.wcs,
            pixel_scale=frame.pixel_scale,
            box_k=self.model.config.tiles.box.k,
            noise_units=noise_units,
        )

    def _tiles(self, layout: TileLayout, frame: NoiseUnits) -> Iterator[TileDetections]:
        """What each tile of the frame owns, in the order of the tiles."""
        scale = FrameScale(frame.background, frame.rms, frame.zscale)
        kind = self.model.config.input.normalisation
        origins = layout.origins
        for first in range(0, len(origins), self.batch_size):
            batch = origins[first : first + self.batch_size]
            inputs = np.stack([normalise(layout.cut(frame.pixels, origin), kind, scale) for origin in batch])
            found = self.model.detect(torch.from_numpy(inputs)[:, None])
            for origin, tile in zip(batch, found, strict=True):
                scores = tile["scores"].numpy()
                boxes = tile["boxes"].numpy() + np.array([*origin, *origin], dtype=np.float32)
                taken = layout.owned(boxes, origin) & (scores >= self.score)
                yield TileDetections(boxes[taken], scores[taken], layout.window(origin))
