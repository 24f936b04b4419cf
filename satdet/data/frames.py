"""Frames of a telescope: one image, its place on the sky, and its pixels in units of their noise."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sep
from astropy.visualization import ZScaleInterval
from astropy.wcs import WCS

from satdet.data import headers
from satdet.data.fits_files import read_image
from satdet.errors import FrameError

_BACKGROUND_MESH = 64
_LARGEST = 60000.0
"""Float16 ends at 65504; a pixel so many sigma above the background is saturated anyway."""
_SAMPLE = 100_000
_ZSCALE_SAMPLE = 2_000


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes
    ----------
    pixels : ndarray (height, width), float32
        Counts; NaN where there is no measurement.
    pixel_scale : float
        Mean side of a pixel [deg]; NaN if the header gives none and none was required.
    saturation : float or None
        Counts at which a pixel is saturated.
    julian_date : float or None
        Of the exposure.
    exposure : float or None
        Exposure time [s].
    cards : mapping
        The header's cards that place the frame on the sky.
    """

    pixels: npt.NDArray[np.float32]
    pixel_scale: float
    saturation: float | None = None
    julian_date: float | None = None
    exposure: float | None = None
    cards: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def wcs(self) -> WCS | None:
        """The frame's celestial coordinate system, None if the header has none that is sound."""
        return headers.world_coordinates(self.cards)


@dataclass(frozen=True)
class NoiseUnits:
    """A frame's pixels (height, width) as (counts - background) / rms, and the two numbers [counts].

    `zscale` are the limits [noise units] between which IRAF's zscale shows the frame.
    """

    pixels: npt.NDArray[np.float16]
    background: float
    rms: float
    zscale: tuple[float, float]


def read_frame(path: Path, *, require_scale: bool = True) -> Frame:
    """Read the first image with two axes of a FITS file, compressed or not.

    Parameters
    ----------
    path : Path
    require_scale : bool
        False for a use that can do without a pixel scale: a header that gives none, or a senseless one, is then no
        error, and the frame's scale is NaN.

    Raises
    ------
    FrameError
        If the file is unreadable, cut off or too large, has no image with two axes, or gives no pixel scale.
    """
    header, pixels = read_image(path)
    try:
        scale = headers.pixel_scale(header, path)
    except FrameError:
        if require_scale:
            raise
        scale = math.nan
    return Frame(
        pixels=pixels,
        pixel_scale=scale,
        saturation=headers.saturation_level(header),
        julian_date=headers.julian_date(header),
        exposure=headers.exposure_time(header),
        cards=headers.wcs_cards(header),
    )


@np.errstate(over="ignore", invalid="ignore")
def to_noise_units(frame: Frame, path: Path) -> NoiseUnits:
    """Subtract the frame's background and divide by its rms, both sigma-clipped over the frame (Bertin & Arnouts 1996).

    Pixels without a measurement become 0, the background; those too bright for float16 are cut.

    Parameters
    ----------
    frame : Frame
    path : Path
        Named in the error.

    Raises
    ------
    FrameError
        If the frame holds no number, or little else than one number.
    """
    missing = ~np.isfinite(frame.pixels)
    if missing.all():
        raise FrameError(f"{path}: not one pixel is a number")
    counts = np.where(missing, np.float32(0), frame.pixels)
    mask = missing if missing.any() else None
    estimate = sep.Background(counts, mask=mask, bw=_BACKGROUND_MESH, bh=_BACKGROUND_MESH)
    background, rms = float(estimate.globalback), float(estimate.globalrms)
    if not (math.isfinite(background) and math.isfinite(rms) and rms > 0) or _is_flat(frame.pixels[~missing]):
        raise FrameError(f"{path}: no noise in the pixels, most of which are {np.median(counts[~missing]):g}")
    pixels = np.clip((counts - np.float32(background)) / np.float32(rms), -_LARGEST, _LARGEST)
    zscale = _zscale(pixels[~missing])
    pixels[missing] = 0
    return NoiseUnits(pixels.astype(np.float16), background, rms, zscale)


def _zscale(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Limits of a display; values at equal distances stand for all, always the same ones."""
    low, high = ZScaleInterval(n_samples=_ZSCALE_SAMPLE).get_limits(values[:: max(1, values.size // _ZSCALE_SAMPLE)])
    return float(low), float(high)


def _is_flat(values: npt.NDArray[np.float32]) -> bool:
    """Whether most pixels are equal, for which `sep` gives a noise of 1 instead of 0."""
    low, high = np.percentile(values[:: max(1, values.size // _SAMPLE)], [20, 80])
    return bool(low == high)
