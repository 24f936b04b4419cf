"""How a frame is cut into overlapping tiles, and how their detections are joined without doubles at the seams.

Each tile owns the part of the frame that lies nearer to its middle than to its neighbours': seams run along the middle
of the overlaps. A detection is taken from the tile that owns its centre, where an object no larger than the overlap is
seen whole. Three things can still go wrong, and are mended:

- two tiles place an object on different sides of their seam, each in the other's part: ownership reaches a few pixels
  over the seam, so that no object is lost;
- both then keep it: non-maximum suppression over the frame leaves the better one;
- an object is larger than the overlap and cut by both tiles: two pieces that agree where both tiles see are the same
  object, and the larger piece stays.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import nms

from satdet.data.tiling import tile_starts

Boxes = npt.NDArray[np.float32]

_CUT = 2.0
"""A box that comes so near to an edge inside the frame [px] may be cut by it."""
_LARGEST_REACH = 8.0


@dataclass(frozen=True)
class TileLayout:
    """The tiles of one frame.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the frame [px], of any size; a frame smaller than a tile is padded.
    size : int
        Side of a tile [px].
    overlap : int
        Smallest overlap of neighbours [px], smaller than `size`.
    """

    shape: tuple[int, int]
    size: int
    overlap: int

    @property
    def origins(self) -> list[tuple[int, int]]:
        """Column and row of each tile's first pixel, row by row."""
        rows, columns = self._starts(0), self._starts(1)
        return [(x, y) for y in rows for x in columns]

    @property
    def reach(self) -> float:
        """How far over its seams a tile keeps detections [px]: an eighth of the overlap, a few pixels at most."""
        return min(self.overlap / 8, _LARGEST_REACH)

    def cut(self, pixels: npt.NDArray[np.float16], origin: tuple[int, int]) -> npt.NDArray[np.float16]:
        """The tile (size, size) of the frame's `pixels` at `origin`; beyond the frame it is 0, the background."""
        x, y = origin
        tile = pixels[y : y + self.size, x : x + self.size]
        missing = self.size - tile.shape[0], self.size - tile.shape[1]
        return np.pad(tile, ((0, missing[0]), (0, missing[1]))) if any(missing) else tile

    def owned(self, boxes: Boxes, origin: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Which of `boxes` (n, 4) [px of the frame], found in the tile at `origin`, are to be taken from it."""
        owned = np.ones(len(boxes), dtype=bool)
        for axis, start in ((1, origin[0]), (0, origin[1])):
            low, high = self._part(axis, start)
            centre = (boxes[:, 1 - axis] + boxes[:, 3 - axis]) / 2
            owned &= (centre >= low - self.reach) & (centre <= high + self.reach)
            owned &= (centre >= 0) & (centre <= self.shape[axis])
        return owned

    def window(self, origin: tuple[int, int]) -> Boxes:
        """What the tile at `origin` sees of the frame, (4,) x1, y1, x2, y2 [px]."""
        x, y = origin
        height, width = self.shape
        return np.array([x, y, min(x + self.size, width), min(y + self.size, height)], dtype=np.float32)

    def _starts(self, axis: int) -> list[int]:
        return tile_starts(max(self.shape[axis], self.size), self.size, self.overlap)

    def _part(self, axis: int, start: int) -> tuple[float, float]:
        """From which pixel to which the tile that begins at `start` owns the frame along an axis."""
        starts = self._starts(axis)
        place = starts.index(start)
        seams = [(before + after + self.size) / 2 for before, after in itertools.pairwise(starts)]
        limits = [-np.inf, *seams, np.inf]
        return limits[place], limits[place + 1]


@dataclass(frozen=True)
class TileDetections:
    """What was taken from one tile.

    Attributes
    ----------
    boxes : ndarray (n, 4), float32
        In px of the frame.
    scores : ndarray (n,), float32
    window : ndarray (4,), float32
        What the tile sees of the frame.
    """

    boxes: Boxes
    scores: npt.NDArray[np.float32]
    window: Boxes


def join_tiles(
    tiles: list[TileDetections], shape: tuple[int, int], nms_threshold: float
) -> tuple[Boxes, npt.NDArray[np.float32]]:
    """The detections of a frame, best first, from those of its tiles.

    Parameters
    ----------
    tiles : list of TileDetections
        At least one.
    shape : (int, int)
        Height and width of the frame [px].
    nms_threshold : float
        Two boxes with a larger IoU are one object.

    Returns
    -------
    boxes : ndarray (n, 4)
        In px of the frame, cut at its edges.
    scores : ndarray (n,)
    """
    boxes = np.concatenate([tile.boxes for tile in tiles])
    scores = np.concatenate([tile.scores for tile in tiles])
    windows = np.repeat(np.stack([tile.window for tile in tiles]), [len(tile.boxes) for tile in tiles], axis=0)
    whole = ~_pieces_of_others(boxes, windows, shape, nms_threshold)
    boxes, scores = boxes[whole], scores[whole]
    height, width = shape
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))
    best = nms(torch.from_numpy(boxes), torch.from_numpy(scores), nms_threshold).numpy()
    return boxes[best], scores[best]


def _pieces_of_others(boxes: Boxes, windows: Boxes, shape: tuple[int, int], threshold: float) -> npt.NDArray[np.bool_]:
    """Which boxes are pieces, cut by the edge of their tile, of an object that another tile sees whole, or more of."""
    cut = _is_cut(boxes, windows, shape)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    dropped = np.zeros(len(boxes), dtype=bool)
    for piece in np.flatnonzero(cut)[np.argsort(area[cut], kind="stable")]:
        better = ~dropped & (windows != windows[piece]).any(axis=1) & (~cut | (area >= area[piece]))
        better[piece] = False
        seen_by_both = np.concatenate(
            [np.maximum(windows[better, :2], windows[piece, :2]), np.minimum(windows[better, 2:], windows[piece, 2:])],
            axis=1,
        )
        agreement = _aligned_iou(_clipped(boxes[better], seen_by_both), _clipped(boxes[piece], seen_by_both))
        dropped[piece] = bool((agreement > threshold).any())
    return dropped


def _is_cut(boxes: Boxes, windows: Boxes, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether a box reaches an edge of its tile that is not the frame's."""
    frame = np.array([0, 0, shape[1], shape[0]], dtype=np.float32)
    at_edge = np.abs(boxes - windows) <= _CUT
    cut: npt.NDArray[np.bool_] = (at_edge & (windows != frame)).any(axis=1)
    return cut


def _clipped(boxes: Boxes, windows: Boxes) -> Boxes:
    low, high = windows[:, [0, 1, 0, 1]], windows[:, [2, 3, 2, 3]]
    return np.clip(boxes, low, np.maximum(low, high))


def _aligned_iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """IoU of each box with the other of the same row; 0 where either has no area."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(others[:, 2:] - others[:, :2], axis=1)
    iou: npt.NDArray[np.float32] = np.divide(shared, areas - shared, out=np.zeros_like(shared), where=shared > 0)
    return iou
