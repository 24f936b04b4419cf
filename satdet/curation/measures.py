"""What can be measured of a frame's quality: numbers only, no verdict.

Pixels are in noise units, s = (counts - background) / rms, so that one threshold serves frames of any sky level.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sep

from satdet.curation.lines import Ends, straight_lines
from satdet.data.boxes import Boxes

Pixels = npt.NDArray[np.float32]

_MESH = 64
_EDGE = 32
"""Columns or rows on either side of an edge between amplifiers that are compared."""
_LEAST_STEP = 0.02
"""Changes of level that are always usual [noise units]: medians of whole counts are often all equal."""
_SOURCE_SIGMA, _SOURCE_PIXELS = 5.0, 5
"""What the telescope's pipeline takes for a source: DETECT_THRESH, DETECT_MINAREA."""
_CORE = 2
"""Half side of the middle of a box [px], where its object is to be seen."""
_NOTHING_SIGMA = 3.0


@dataclass(frozen=True)
class Measures:
    """Quality of a frame.

    Attributes
    ----------
    saturated : int
        Saturated pixels; 0 if the level of saturation is unknown.
    longest_bleed : int
        Longest unbroken run of them along a column or row [px].
    line, dark_line : float
        Share of the brightest, and of the darkest, straight line across the frame that stands out, see
        `satdet.curation.lines`; edges and fringes are as dark as bright, a trail is not.
    line_ends : tuple of float
        x1, y1, x2, y2 of the brightest line [px].
    gradient : float
        Change of the background over the frame along its steepest direction [noise units].
    unevenness : float
        Range, from the 2nd to the 98th percentile, of the background about that plane [noise units].
    step : float
        Largest sudden change of the background level along a column or row of the frame [noise units].
    step_significance : float
        The same in units of what such changes are elsewhere on the frame.
    sources : int
        Sources above 5 sigma in 5 pixels.
    objects : int
        Rows of the catalogue that are objects; 0 without a catalogue.
    on_nothing : ndarray (n, 4), float32
        Boxes of objects in whose middle no pixel reaches 3 sigma.
    """

    saturated: int
    longest_bleed: int
    line: float
    dark_line: float
    line_ends: Ends
    gradient: float
    unevenness: float
    step: float
    step_significance: float
    sources: int
    objects: int
    on_nothing: Boxes


def measure_frame(signal: Pixels, saturation: float | None, boxes: Boxes) -> Measures:
    """Measure a frame.

    Parameters
    ----------
    signal : ndarray (H, W), float32
        Noise units.
    saturation : float, optional
        Level of saturation [noise units], if known.
    boxes : ndarray (n, 4)
        The catalogue's objects [px, edge coordinates].
    """
    saturated = signal >= saturation if saturation is not None else np.zeros(signal.shape, dtype=bool)
    background = sep.Background(signal, mask=saturated, bw=_MESH, bh=_MESH)
    sky = background.back()
    flat = signal - sky
    gradient, unevenness = _slope(sky)
    step, significance = _largest_step(signal)
    lines = straight_lines(np.where(_widened(saturated), 0, flat))
    return Measures(
        saturated=int(saturated.sum()),
        longest_bleed=_longest_run(saturated),
        line=lines.bright,
        dark_line=lines.dark,
        line_ends=lines.ends,
        gradient=gradient,
        unevenness=unevenness,
        step=step,
        step_significance=significance,
        sources=_count_sources(flat, saturated, background.globalrms),
        objects=len(boxes),
        on_nothing=boxes[_peaks(flat, boxes) < _NOTHING_SIGMA],
    )


def _widened(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whole columns around long runs of saturated pixels, whose charge has spilled along them."""
    if not mask.any():
        return mask
    columns = mask.sum(axis=0) > _EDGE
    near = np.convolve(columns, np.ones(9), mode="same") > 0
    return mask | near[None, :]


def _longest_run(mask: npt.NDArray[np.bool_]) -> int:
    """The longest unbroken run of True along any column or row."""
    longest = 0
    for lines in (mask.T[mask.any(axis=0)], mask[mask.any(axis=1)]):
        for line in lines:
            edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
            longest = max(longest, int((edges[1::2] - edges[::2]).max()))
    return longest


def _slope(sky: Pixels) -> tuple[float, float]:
    """The background's change along its steepest direction over the frame, and its range about that plane."""
    thin = sky[:: _MESH // 4, :: _MESH // 4].astype(np.float64)
    rows, columns = (np.linspace(-0.5, 0.5, length) for length in thin.shape)
    across = np.broadcast_to(columns, thin.shape).ravel()
    up = np.broadcast_to(rows[:, None], thin.shape).ravel()
    design = np.stack([np.ones(thin.size), across, up], axis=1)
    level, *_ = np.linalg.lstsq(design, thin.ravel(), rcond=None)
    low, high = np.percentile(thin.ravel() - design @ level, [2, 98])
    return float(math.hypot(level[1], level[2])), float(high - low)


def _largest_step(signal: Pixels) -> tuple[float, float]:
    """The largest sudden change of level between neighbouring columns, or rows, of either half of the frame."""
    height, width = signal.shape
    profiles = [np.median(half, axis=0) for half in (signal[: height // 2], signal[height // 2 :])]
    profiles += [np.median(half, axis=1) for half in (signal[:, : width // 2], signal[:, width // 2 :])]
    return max((_step(profile) for profile in profiles if len(profile) > 4 * _EDGE), default=(0.0, 0.0))


def _step(profile: Pixels) -> tuple[float, float]:
    windows = np.lib.stride_tricks.sliding_window_view(profile.astype(np.float64), _EDGE)
    levels = np.median(windows, axis=1)
    steps = levels[_EDGE:] - levels[:-_EDGE]
    steps -= np.median(steps)
    usual = max(1.4826 * float(np.median(np.abs(steps))), _LEAST_STEP)
    largest = float(np.abs(steps).max())
    return largest, largest / usual


def _count_sources(flat: Pixels, saturated: npt.NDArray[np.bool_], rms: float) -> int:
    """Number of sources; one blended clump counts once, as with the pipeline's DEBLEND_NTHRESH of 1."""
    try:
        found = sep.extract(
            flat, _SOURCE_SIGMA, err=rms, minarea=_SOURCE_PIXELS, filter_kernel=None, deblend_nthresh=1, mask=saturated
        )
    except Exception:  # sep raises a bare Exception when more pixels are above the threshold than it can hold
        return flat.size
    return len(found)


def _peaks(flat: Pixels, boxes: Boxes) -> npt.NDArray[np.float32]:
    """The brightest pixel in the middle of each box, (n,)."""
    height, width = flat.shape
    x = np.clip(((boxes[:, 0] + boxes[:, 2]) / 2).astype(int), 0, width - 1)
    y = np.clip(((boxes[:, 1] + boxes[:, 3]) / 2).astype(int), 0, height - 1)
    offsets = np.arange(-_CORE, _CORE + 1)
    rows = np.clip(y[:, None, None] + offsets[None, :, None], 0, height - 1)
    columns = np.clip(x[:, None, None] + offsets[None, None, :], 0, width - 1)
    peaks: npt.NDArray[np.float32] = flat[rows, columns].max(axis=(1, 2), initial=-np.inf)
    return peaks
