"""What a detector gets most wrong: bright objects missed, false detections it is sure of, neighbours it merges."""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from satdet.data.store import TileSplit
from satdet.evaluate.grid import Found
from satdet.metrics import match_tile, measure_overlaps
from satdet.pictures import TilePicture

Kind = Literal["missed", "merged", "false"]
KINDS: tuple[Kind, ...] = ("missed", "merged", "false")
CROP = 64
"""Smallest side of the pictures [px]."""

_Box = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Failure:
    """One object or detection that went wrong.

    Attributes
    ----------
    kind : {"missed", "merged", "false"}
        Missed: an object that no detection is right about. Merged: one that is missed, but has its centre in a
        detection that is right about another. False: a detection of no object.
    tile : int
        Position in the split.
    box : ndarray (4,)
        Of the object, or of the false detection [px].
    magnitude : float
        Of the object [mag], NaN where unknown and for a false detection.
    score : float
        Of the false detection, NaN for an object.
    """

    kind: Kind
    tile: int
    box: _Box
    magnitude: float
    score: float

    @property
    def badness(self) -> tuple[float, float]:
        """For sorting: false detections by score; objects by brightness, before those without a magnitude by size."""
        if self.kind == "false":
            return self.score, 0.0
        side = float(self.box[2] - self.box[0])
        return (-math.inf, side) if math.isnan(self.magnitude) else (-self.magnitude, side)


def find_failures(
    split: TileSplit, detections: Sequence[Found], *, score_threshold: float, count: int
) -> dict[Kind, list[Failure]]:
    """The worst failures of each kind among detections of at least a score, at IoU 0.50, worst first.

    Parameters
    ----------
    split : TileSplit
    detections : sequence of Found
        One a tile of the split.
    score_threshold : float
        Such as the detector's ``best_score``.
    count : int
        At most so many of each kind.
    """
    every = [
        failure
        for position, found in enumerate(detections)
        for failure in _tile_failures(split, position, found, score_threshold)
    ]
    return {
        kind: heapq.nlargest(count, (each for each in every if each.kind == kind), key=lambda each: each.badness)
        for kind in KINDS
    }


def failure_pictures(
    split: TileSplit, detections: Sequence[Found], failures: Sequence[Failure], *, score_threshold: float
) -> list[TilePicture]:
    """A crop around each failure with the objects, and the detections of at least a score."""
    return [_picture(split, detections[failure.tile], failure, score_threshold) for failure in failures]


def _tile_failures(split: TileSplit, position: int, found: Found, score_threshold: float) -> Iterator[Failure]:
    shown = found.scores >= score_threshold
    boxes, scores = found.boxes[shown], found.scores[shown].astype(np.float64)
    objects, magnitudes = split.boxes(position), split.magnitudes(position)
    matches = match_tile(measure_overlaps(boxes, objects, split.ignored(position)), scores, len(scores))
    right, wrong = matches.index[matches.right[0]], matches.index[~matches.right[0] & ~matches.ignored[0]]
    for index in np.flatnonzero(matches.found_score < 0):
        kind: Kind = "merged" if _holds_centre(boxes[right], objects[index]) else "missed"
        yield Failure(kind, position, objects[index], float(magnitudes[index]), math.nan)
    for index in wrong:
        yield Failure("false", position, boxes[index], math.nan, float(scores[index]))


def _picture(split: TileSplit, found: Found, failure: Failure, score_threshold: float) -> TilePicture:
    """A square around the failure, as far as the tile goes: of `CROP` px, or twice its box if that is more."""
    image = split.image(failure.tile)
    sides = failure.box[2:] - failure.box[:2]
    side = min(max(CROP, math.ceil(2 * float(sides.max()))), *image.shape)
    middle = (failure.box[:2] + failure.box[2:]) / 2
    x, y = np.clip((middle - side / 2).round().astype(int), 0, np.array(image.shape[::-1]) - side).tolist()
    shift = np.array([x, y, x, y], dtype=np.float32)
    shown = found.scores >= score_threshold
    column, row = split.origin(failure.tile)
    return TilePicture(
        image=np.asarray(image[y : y + side, x : x + side], dtype=np.float32),
        truth=split.boxes(failure.tile) - shift,
        detections=found.boxes[shown] - shift,
        scores=found.scores[shown],
        title=f"{_title(failure)}\n{split.frame(failure.tile).get('name', 'tile')} at ({column + x}, {row + y})",
        ignored=split.ignored(failure.tile) - shift,
        focus=failure.box - shift,
    )


def _title(failure: Failure) -> str:
    if failure.kind == "false":
        return f"false, score {failure.score:.2f}"
    magnitude = "magnitude unknown" if math.isnan(failure.magnitude) else f"magnitude {failure.magnitude:.1f}"
    return f"{failure.kind}, {magnitude}"


def _holds_centre(boxes: _Box, box: _Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return bool(((boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])).any())
