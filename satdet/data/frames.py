"""Frames of a telescope: one FITS image with the scale of its pixels."""

import gzip
import io
import math
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sep
from astropy.io import fits
from astropy.visualization import ZScaleInterval

from satdet.errors import FrameError

_BACKGROUND_MESH = 64
_LARGEST = 60000.0
"""Float16 ends at 65504; a pixel so many sigma above the background is saturated anyway."""
_SAMPLE = 100_000
_ZSCALE_SAMPLE = 10_000
_GZIP = b"\x1f\x8b"
_CD = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
_UNREADABLE = (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError, fits.VerifyError)


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes
    ----------
    pixels : ndarray (height, width), float32
        Counts; NaN where there is no measurement.
    pixel_scale : float
        Mean side of a pixel [deg].
    """

    pixels: npt.NDArray[np.float32]
    pixel_scale: float


@dataclass(frozen=True)
class NoiseUnits:
    """A frame's pixels (height, width) as (counts - background) / rms, and the two numbers [counts].

    `zscale` are the limits [noise units] between which IRAF's zscale shows the frame.
    """

    pixels: npt.NDArray[np.float16]
    background: float
    rms: float
    zscale: tuple[float, float]


def read_frame(path: Path) -> Frame:
    """Read the first image of a FITS file, gzipped or not.

    Raises
    ------
    FrameError
        If the file is unreadable or cut off, its image has other than two axes, or its header gives no pixel scale.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(_unzipped(path.read_bytes()))) as hdus:
                image = next((hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) > 0), None)
                if image is None:
                    raise FrameError(f"{path}: holds no image")
                header, pixels = image.header, image.data
    except _UNREADABLE as error:
        raise FrameError(f"{path}: unreadable or cut off ({_first_line(error)})") from error
    if pixels.ndim != 2:
        shape = " x ".join(map(str, pixels.shape[::-1]))
        raise FrameError(f"{path}: an image of {shape} px has {pixels.ndim} axes, a frame has 2; split it first")
    return Frame(pixels.astype(np.float32), _pixel_scale(header, path))


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


def _unzipped(content: bytes) -> bytes:
    """What is in a file, whatever its name. Here, since astropy's own reading turns a Ctrl-C into a damaged file."""
    return gzip.decompress(content) if content.startswith(_GZIP) else content


def _is_flat(values: npt.NDArray[np.float32]) -> bool:
    """Whether most pixels are equal, for which `sep` gives a noise of 1 instead of 0."""
    low, high = np.percentile(values[:: max(1, values.size // _SAMPLE)], [20, 80])
    return bool(low == high)


def _pixel_scale(header: fits.Header, path: Path) -> float:
    """Square root of the area of a pixel [deg] (Greisen & Calabretta 2002, A&A 395, 1061: CD, or PC with CDELT)."""
    if any(key in header for key in _CD):
        matrix = [_number(header, key, 0.0, path) for key in _CD]
        steps = 1.0
    elif "CDELT1" in header and "CDELT2" in header:
        unit = {"PC1_1": 1.0, "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 1.0}
        matrix = [_number(header, key, default, path) for key, default in unit.items()]
        steps = _number(header, "CDELT1", 0.0, path) * _number(header, "CDELT2", 0.0, path)
    else:
        raise FrameError(f"{path}: no pixel scale; the header has neither CD1_1 … CD2_2 nor CDELT1, CDELT2")
    scale = math.sqrt(abs(steps * (matrix[0] * matrix[3] - matrix[1] * matrix[2])))
    if not (math.isfinite(scale) and scale > 0):
        raise FrameError(f"{path}: a pixel scale of {scale:g} deg/px; correct CD1_1 … CD2_2 or CDELT1, CDELT2")
    return scale


def _number(header: fits.Header, key: str, default: float, path: Path) -> float:
    value: Any = header.get(key, default)
    if isinstance(value, (int, float)):
        return float(value)
    raise FrameError(f"{path}: {key} = {value!r} is not a number")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
