"""Frames that repeat another one: the same pixels under another name, or the same exposure processed once more.

Two exposures of one field show the same stars, so stars cannot tell them from one exposure processed twice. Noise can:
it is drawn once an exposure, and survives a new background, a rescaling, rounding, lossy compression, a cleaning of
cosmic rays and mostly a flat field or a shift by a fraction of a pixel. A frame's fingerprint is a sample of its noise,
and fingerprints of the same exposure correlate.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_PATCHES, _SIDE, _BLOCK = 8, 16, 2
"""The sample: 8 x 8 patches, spread evenly, of 16 x 16 px in blocks of 2 x 2, by which small shifts matter less."""
_STAR = 3.0
"""A block so many sigma from its neighbours holds more than noise and is left out."""
_SURE = 0.999
"""What the same pixels reach at least, whatever the rounding."""
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether two frames are the same exposure.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the frame [px].
    pixels : str
        Hash of the counts.
    noise : ndarray (4096,), float32
        Sample of the noise, of mean 0 and length 1.
    """

    shape: tuple[int, int]
    pixels: str
    noise: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Duplicate:
    """Which frame is repeated, by its position, whether pixel by pixel, and how well the noise agrees."""

    of: int
    same_pixels: bool
    correlation: float


def fingerprint(counts: npt.NDArray[np.float32], noise_units: npt.NDArray[np.float16]) -> Fingerprint:
    """The fingerprint of a frame of `counts` (height, width), which are also given in noise units."""
    missing = np.isnan(counts)
    if missing.any():  # every NaN has the same meaning and not always the same bits
        counts = np.where(missing, np.float32(np.nan), counts)
    digest = hashlib.sha256(np.ascontiguousarray(counts).data).hexdigest()
    return Fingerprint((counts.shape[0], counts.shape[1]), digest, _noise_sample(noise_units))


def find_duplicates(
    prints: Sequence[Fingerprint], order: Sequence[int], least_correlation: float
) -> dict[int, Duplicate]:
    """Which frames repeat another one.

    Parameters
    ----------
    prints : sequence of Fingerprint
    order : sequence of int
        Positions in `prints`; of frames that are the same, the first in this order is kept.
    least_correlation : float
        Frames of the same size whose noise correlates by more than this are the same exposure.

    Returns
    -------
    dict
        By the position of each frame that is not kept.
    """
    duplicates: dict[int, Duplicate] = {}
    noise = np.stack([prints[position].noise for position in order]) if order else np.empty((0, 0), np.float32)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(order))
        correlations = noise[start:stop] @ noise[:stop].T
        for row, place in zip(correlations, range(start, stop), strict=True):
            for other in np.flatnonzero(row[:place] > min(least_correlation, _SURE)).tolist():
                repeated, kept = prints[order[place]], prints[order[other]]
                same_pixels = repeated.pixels == kept.pixels
                alike = same_pixels or row[other] > least_correlation
                if alike and repeated.shape == kept.shape and order[other] not in duplicates:
                    duplicates[order[place]] = Duplicate(order[other], same_pixels, float(row[other]))
                    break
    return duplicates


def _noise_sample(noise_units: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    height, width = noise_units.shape
    rows, columns = (np.linspace(0, length - _SIDE, _PATCHES).astype(int) for length in (height, width))
    inner = np.arange(_SIDE)
    at_rows, at_columns = rows[:, None] + inner, columns[:, None] + inner
    patches = noise_units[at_rows[:, None, :, None], at_columns[None, :, None, :]].astype(np.float32)
    blocks = _SIDE // _BLOCK
    means = patches.reshape(-1, blocks, _BLOCK, blocks, _BLOCK).mean(axis=(2, 4))
    edged = np.pad(means, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = edged[:, :-2, 1:-1] + edged[:, 2:, 1:-1] + edged[:, 1:-1, :-2] + edged[:, 1:-1, 2:]
    fine = means - around / 4  # without gradients and most of what is wider than a star
    fine -= np.median(fine, axis=(1, 2), keepdims=True)
    spread = 1.4826 * np.median(np.abs(fine), axis=(1, 2), keepdims=True) + 1e-6
    fine = np.where(np.abs(fine) > _STAR * spread, 0, fine / spread).ravel()
    fine -= fine.mean()
    sample: npt.NDArray[np.float32] = (fine / max(float(np.linalg.norm(fine)), 1e-6)).astype(np.float32)
    return sample
