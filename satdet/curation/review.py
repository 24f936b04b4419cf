"""From a folder to what a curator should know of each frame: suggestions, the measurements behind them, a picture."""

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from satdet._parallel import map_in_processes
from satdet.config import BoxConfig
from satdet.curation.measures import Measures, measure_frame
from satdet.curation.suggestions import Suggestion, SuggestionRule, suggest
from satdet.data.boxes import Boxes, frame_objects
from satdet.data.catalogues import read_catalogue
from satdet.data.folder import FrameFiles, scan_folder
from satdet.data.frames import Frame, NoiseUnits, read_frame, to_noise_units
from satdet.data.labels import Curation
from satdet.errors import CatalogueError, DataError

Progress = Callable[[int, int], None]

PICTURE_SIDE = 360
"""Largest side of a picture [px]."""
_STRETCH_SIGMA = (-2.0, 8.0)
_BACKGROUND_PERCENT = (5, 85)
_MARK = (230, 159, 0)
_QUALITY = 82


@dataclass(frozen=True)
class Review:
    """What was found on one frame.

    Attributes
    ----------
    name, path : str
        The frame's name, and its file within the folder.
    given : Curation
        What the curator wrote about it so far.
    suggestions : list of Suggestion
    measures : Measures, optional
        None for a frame that cannot be read.
    picture : bytes
        A JPEG of the frame, row 0 at the bottom, with what is suggested marked; empty for one that cannot be read.
    error : str, optional
        Why the frame cannot be read.
    """

    name: str
    path: str
    given: Curation
    suggestions: list[Suggestion] = field(default_factory=list)
    measures: Measures | None = None
    picture: bytes = b""
    error: str | None = None


def review_folder(
    folder: Path,
    given: Mapping[str, Curation],
    rule: SuggestionRule | None = None,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Review]:
    """Review every frame of `folder`, which is only read.

    Parameters
    ----------
    folder : Path
        Searched for frames with all its sub-folders.
    given : mapping
        What the curator wrote so far, by frame.
    rule : SuggestionRule, optional
        From where on something is suggested.
    workers : int
        Processes.
    progress : callable, optional
        Called with (frames done, frames in all).

    Raises
    ------
    DataError
        If there is no frame.
    """
    frames = scan_folder(folder).frames
    look = functools.partial(_review, folder=folder, given=dict(given), rule=rule or SuggestionRule())
    reviews = []
    for review in map_in_processes(look, frames, workers):
        reviews.append(review)
        if progress is not None:
            progress(len(reviews), len(frames))
    return reviews


def _review(files: FrameFiles, folder: Path, given: dict[str, Curation], rule: SuggestionRule) -> Review:
    curation = given.get(files.name, Curation())
    try:
        frame = read_frame(folder / files.frame)
        noise_units = to_noise_units(frame, folder / files.frame)
    except DataError as error:
        return Review(files.name, files.frame, curation, error=str(error))
    suggestions, boxes = [], np.empty((0, 4), dtype=np.float32)
    try:
        boxes = _boxes(files, folder, frame)
    except CatalogueError as error:
        suggestions.append(Suggestion("CATALOGUE", str(error)))
    signal = noise_units.pixels.astype(np.float32)
    measures = measure_frame(signal, _saturation(frame, noise_units), boxes)
    found = suggest(measures, rule)
    suggestions += [each for each in found if not (suggestions and each.label == "CATALOGUE")]
    return Review(files.name, files.frame, curation, suggestions, measures, _picture(signal, suggestions))


def _boxes(files: FrameFiles, folder: Path, frame: Frame) -> Boxes:
    if files.catalogue is None:
        raise CatalogueError(f"{folder / files.frame}: no catalogue beside it")
    catalogue = read_catalogue(folder / files.catalogue)
    height, width = frame.pixels.shape
    return frame_objects(catalogue, frame.pixel_scale, (height, width), BoxConfig()).boxes


def _saturation(frame: Frame, noise_units: NoiseUnits) -> float | None:
    if frame.saturation is None:
        return None
    return (frame.saturation - noise_units.background) / noise_units.rms


def _picture(signal: npt.NDArray[np.float32], suggestions: list[Suggestion]) -> bytes:
    from PIL import Image, ImageDraw

    height, width = signal.shape
    step = max(1, -(-max(height, width) // PICTURE_SIDE))
    rows, columns = height // step, width // step
    bins = signal[: rows * step, : columns * step].reshape(rows, step, columns, step).max(axis=(1, 3))
    bins = bins - np.float32(np.log(step))  # the largest of many noisy pixels lies higher
    dark, bright = np.percentile(bins, _BACKGROUND_PERCENT)
    low, high = min(_STRETCH_SIGMA[0], dark), max(_STRETCH_SIGMA[1], bright)  # an uneven background is to be seen
    grey = np.clip((bins - low) / (high - low), 0, 1)
    picture = Image.fromarray((255 * grey[::-1]).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for suggestion in suggestions:
        for x1, y1, x2, y2 in suggestion.lines:
            draw.line([(x1 / step, rows - y1 / step), (x2 / step, rows - y2 / step)], fill=_MARK, width=1)
        for x1, y1, x2, y2 in suggestion.boxes:
            draw.rectangle([x1 / step, rows - y2 / step, x2 / step, rows - y1 / step], outline=_MARK)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
