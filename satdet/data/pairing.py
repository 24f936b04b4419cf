"""Whether a catalogue is that of its frame: where it lists sources, the frame is bright."""

import numpy as np
import numpy.typing as npt

from satdet.data.catalogues import Catalogue

_JUDGED = 100
_FEWEST = 20
_SIGNAL = 3.0
_REACH, _AROUND = 2, 8
"""Half sides [px] of the square whose brightest pixel is compared, and of that whose median is the sky."""
_NO_MAGNITUDE = 99.0


def positions_outside(catalogue: Catalogue, shape: tuple[int, int]) -> int:
    """How many rows have their centre outside a frame of `shape` (height, width)."""
    return int((~_inside(catalogue, shape)).sum())


def positions_without_signal(catalogue: Catalogue, noise_units: npt.NDArray[np.float16]) -> tuple[int, int]:
    """Of the brightest sound rows, how many have no pixel of 3 sigma near them, and how many were looked at.

    With another frame's catalogue that is nearly all; fewer than 20 rows are not judged, (0, 0).

    Parameters
    ----------
    catalogue : Catalogue
    noise_units : ndarray (height, width)
        The frame's pixels.
    """
    height, width = noise_units.shape
    sound = (catalogue.flags == 0) & (catalogue.magnitude < _NO_MAGNITUDE) & _inside(catalogue, (height, width))
    rows = np.flatnonzero(sound)
    rows = rows[np.argsort(catalogue.magnitude[rows], kind="stable")][:_JUDGED]
    if len(rows) < _FEWEST:
        return 0, 0
    x, y = (np.rint(centre[rows]).astype(int) - 1 for centre in (catalogue.x, catalogue.y))
    peaks = _squares(noise_units, x, y, _REACH).max(axis=(1, 2))
    sky = np.median(_squares(noise_units, x, y, _AROUND), axis=(1, 2))
    return int((peaks - sky < _SIGNAL).sum()), len(rows)


def _inside(catalogue: Catalogue, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    height, width = shape
    inside: npt.NDArray[np.bool_] = (
        (catalogue.x > 0) & (catalogue.x < width + 1) & (catalogue.y > 0) & (catalogue.y < height + 1)
    )
    return inside


def _squares(
    pixels: npt.NDArray[np.float16], x: npt.NDArray[np.int_], y: npt.NDArray[np.int_], reach: int
) -> npt.NDArray[np.float32]:
    """Squares around positions, (n, side, side), repeating the frame's edge where they go beyond it."""
    offsets = np.arange(-reach, reach + 1)
    rows = np.clip(y[:, None, None] + offsets[None, :, None], 0, pixels.shape[0] - 1)
    columns = np.clip(x[:, None, None] + offsets[None, None, :], 0, pixels.shape[1] - 1)
    squares: npt.NDArray[np.float32] = pixels[rows, columns].astype(np.float32)
    return squares
