"""From catalogue rows to square boxes on the frame, and from those to the boxes of a tile.

Boxes are x1, y1, x2, y2 in edge coordinates [px]: the first pixel reaches from 0 to 1, so its centre, X_IMAGE = 1 in a
catalogue, lies at 0.5.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from satdet.config import BoxConfig
from satdet.data.catalogues import Catalogue, Values

Boxes = npt.NDArray[np.float32]

_FIRST_CENTRE = 0.5
_NO_MAGNITUDE = 99.0
"""What SExtractor writes, and larger numbers too, where there is no magnitude."""


@dataclass(frozen=True)
class FrameObjects:
    """What a catalogue says about a frame.

    Attributes
    ----------
    boxes : ndarray (n, 4), float32
        Objects.
    magnitudes : ndarray (n,), float32
        MAG_CALIB of the objects [mag], NaN where unknown.
    ignored : ndarray (m, 4), float32
        Neither object nor background: rows whose FLAGS are above the rule's largest, 0 in the report.
    dropped : dict
        Number of rows that are neither, by reason.
    """

    boxes: Boxes
    magnitudes: npt.NDArray[np.float32]
    ignored: Boxes
    dropped: dict[str, int]


@np.errstate(over="ignore", invalid="ignore")
def frame_objects(catalogue: Catalogue, pixel_scale: float, shape: tuple[int, int], rule: BoxConfig) -> FrameObjects:
    """Boxes of a frame of `shape` (height, width) px with pixels of `pixel_scale` deg, by `rule`.

    Infinite and huge values are no cause for a warning: what becomes of them is dropped and counted.
    """
    boxes = square_boxes(catalogue, pixel_scale, rule)
    sound = (catalogue.flags >= 0) & (catalogue.flags <= rule.max_flags)
    reasons = {
        "position or size not finite": ~np.isfinite(boxes).all(axis=1),
        "FWHM_WORLD not above 0": ~(catalogue.fwhm > 0),
        "box larger than the frame": boxes[:, 2] - boxes[:, 0] > max(shape),
        "outside the frame": ~_overlaps(boxes, shape),
        "FLUX_RADIUS out of range": sound & ~_radius_is_sound(catalogue, rule),
    }
    keep = np.ones(len(catalogue), dtype=bool)
    dropped = {}
    for reason, applies in reasons.items():
        count = int((keep & applies).sum())
        if count:
            dropped[reason] = count
        keep &= ~applies
    is_object = keep & sound
    return FrameObjects(boxes[is_object], _magnitudes(catalogue)[is_object], boxes[keep & ~sound], dropped)


def square_boxes(catalogue: Catalogue, pixel_scale: float, rule: BoxConfig) -> Boxes:
    """One square box a row, (n, 4), with half side k * FWHM_WORLD / `pixel_scale`; bright wins over elongated."""
    k = np.where(catalogue.ellipticity > rule.elongated_ellipticity, rule.elongated_k, rule.k)
    k = np.where(catalogue.magnitude < rule.bright_magnitude, rule.bright_k, k)
    half = k * catalogue.fwhm / pixel_scale
    x, y = catalogue.x - _FIRST_CENTRE, catalogue.y - _FIRST_CENTRE
    with np.errstate(over="ignore"):
        return np.stack([x - half, y - half, x + half, y + half], axis=1).astype(np.float32)


def clip_to_tile(
    boxes: Boxes, ignored: Boxes, origin: tuple[int, int], size: int, min_visible: float
) -> tuple[Boxes, Boxes]:
    """Objects and ignored regions of one tile, in the tile's edge coordinates and cut at its edges.

    Parameters
    ----------
    boxes, ignored : ndarray (n, 4), (m, 4)
        Of the frame.
    origin : (int, int)
        Column and row of the tile's first pixel.
    size : int
        Side of the tile [px].
    min_visible : float
        A box of which less than this share of its area lies in the tile becomes an ignored region.
    """
    clipped, share = _clip(boxes, origin, size)
    hidden, hidden_share = _clip(ignored, origin, size)
    partial = (share > 0) & (share < min_visible)
    return clipped[share >= min_visible], np.concatenate([hidden[hidden_share > 0], clipped[partial]])


def visible_objects(boxes: Boxes, origin: tuple[int, int], size: int, min_visible: float) -> npt.NDArray[np.bool_]:
    """Which of `boxes` (n, 4) `clip_to_tile` keeps as objects, in the same order, (n,)."""
    visible: npt.NDArray[np.bool_] = _clip(boxes, origin, size)[1] >= min_visible
    return visible


def _clip(boxes: Boxes, origin: tuple[int, int], size: int) -> tuple[Boxes, Boxes]:
    """Boxes cut at the edges of a tile, and the share of each one's area that is left."""
    corner = np.array([*origin, *origin], dtype=np.float32)
    local = boxes - corner
    clipped: Boxes = np.clip(local, 0, size).astype(np.float32, copy=False)
    share = _area(clipped) / np.maximum(_area(local), 1e-30)
    return clipped, share.astype(np.float32)


def _area(boxes: Boxes) -> Boxes:
    area: Boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _magnitudes(catalogue: Catalogue) -> npt.NDArray[np.float32]:
    known = np.isfinite(catalogue.magnitude) & (catalogue.magnitude < _NO_MAGNITUDE)
    return np.where(known, catalogue.magnitude, np.nan).astype(np.float32)


def _overlaps(boxes: Boxes, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    height, width = shape
    x1, y1, x2, y2 = boxes.T
    overlaps: npt.NDArray[np.bool_] = (x1 < width) & (y1 < height) & (x2 > 0) & (y2 > 0)
    return overlaps


def _radius_is_sound(catalogue: Catalogue, rule: BoxConfig) -> npt.NDArray[np.bool_]:
    radius: Values = catalogue.flux_radius
    measured: npt.NDArray[np.bool_] = (radius > 0) & (radius != rule.unmeasured_flux_radius)
    return measured & (radius < rule.max_flux_radius)
