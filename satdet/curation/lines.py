"""Straight lines across a frame, by a Radon transform of a coarse picture of it (Radon 1917)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sep

Pixels = npt.NDArray[np.float32]
Ends = tuple[float, float, float, float]

_BINS = 256
_MESH = 16
"""Side of the mesh [bins] of the background that is taken away: a line is narrower."""
_BRIGHT = 1.5
_ANGLES = 180
_SHORTEST = 0.4
"""Lines shorter than this share of the frame's side, which only cut a corner, are not looked at."""


@dataclass(frozen=True)
class Lines:
    """The straightest features of a frame.

    Attributes
    ----------
    bright, dark : float
        Largest share of a line's bins that are at least 1.5 sigma above, or below, what is around; 0 to 1.
    ends : tuple of float
        x1, y1, x2, y2: where the brightest line enters and leaves the frame [px].
    """

    bright: float
    dark: float
    ends: Ends


def straight_lines(flat: Pixels) -> Lines:
    """The brightest and the darkest straight line of a frame (H, W) without background, in noise units.

    The frame is binned to about 256 bins a side. Bins count by whether they are bright, not by how bright they are, so
    that a few stars on a line are few bins, and a satellite is all of them.
    """
    step = max(1, min(flat.shape) // _BINS)
    height, width = (side // step for side in flat.shape)
    bins = flat[: height * step, : width * step].reshape(height, step, width, step).mean(axis=(1, 3))
    background = sep.Background(np.ascontiguousarray(bins, dtype=np.float32), bw=_MESH, bh=_MESH)
    level = (bins - background.back()) / max(float(background.globalrms), 1e-6)
    masks = (level > _BRIGHT).astype(np.float32), (level < -_BRIGHT).astype(np.float32)
    bright, dark, ends = 0.0, 0.0, (0.0, 0.0, 0.0, 0.0)
    for angle in np.arange(_ANGLES) * (180 / _ANGLES):
        turn, side = _turn(float(angle), height, width)
        columns, shares = _shares(masks, turn, side)
        if not len(columns):
            continue
        dark = max(dark, float(shares[1].max()))
        if shares[0].max() > bright:
            bright = float(shares[0].max())
            ends = _ends(int(columns[shares[0].argmax()]), turn, side, (height, width), step)
    return Lines(bright, dark, ends)


def _turn(angle: float, height: int, width: int) -> tuple[npt.NDArray[np.float64], int]:
    """The map that turns a picture by `angle` [degrees] about its middle, into a square that holds it at any angle."""
    import cv2

    side = math.ceil(math.hypot(height, width))
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, 1.0), dtype=np.float64)
    turn[:, 2] += side / 2 - np.array([width, height]) / 2
    return turn, side


def _shares(
    masks: tuple[Pixels, Pixels], turn: npt.NDArray[np.float64], side: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The columns of the turned picture that are long enough, and the share of either mask in them, (2, columns)."""
    import cv2

    stack = np.dstack([*masks, np.ones_like(masks[0])])
    sums = cv2.warpAffine(stack, turn, (side, side)).sum(axis=0).astype(np.float64)
    columns = np.flatnonzero(sums[:, 2] >= _SHORTEST * min(masks[0].shape))
    return columns, (sums[columns, :2] / sums[columns, 2:]).T


def _ends(column: int, turn: npt.NDArray[np.float64], side: int, shape: tuple[int, int], step: int) -> Ends:
    """Where a column of the turned picture enters and leaves the frame [px, edge coordinates]."""
    turned = np.stack([np.full(side, float(column)), np.arange(side, dtype=float)])
    x, y = np.linalg.inv(turn[:, :2]) @ (turned - turn[:, 2:])
    within = np.flatnonzero((x > -1) & (x < shape[1]) & (y > -1) & (y < shape[0]))
    first, last = within[[0, -1]]
    ends = ((np.array([x[first], y[first], x[last], y[last]]) + 0.5) * step).tolist()
    return ends[0], ends[1], ends[2], ends[3]
