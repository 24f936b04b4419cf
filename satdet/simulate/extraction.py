"""The catalogue of a frame, extracted from its pixels as the telescope's pipeline does with SExtractor.

Settings: DETECT_MINAREA 5, DETECT_THRESH 5, FILTER N, DEBLEND_NTHRESH 1, PHOT_FLUXFRAC 0.452, BACK_SIZE 64,
SATUR_LEVEL 50000. `sep` is SExtractor's own code as a library (Bertin & Arnouts 1996, A&AS 117, 393; Barbary 2016,
JOSS 1, 58); it has neither FWHM nor SExtractor's flag bits, so both are derived here.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import sep

from satdet.simulate.conditions import PIXEL_SCALE, Conditions

COLUMNS = (
    ("X_IMAGE", "Object position along x", "pixel", "%11.4f"),
    ("Y_IMAGE", "Object position along y", "pixel", "%11.4f"),
    ("ALPHA_J2000", "Right ascension of barycenter (J2000)", "deg", "%12.7f"),
    ("DELTA_J2000", "Declination of barycenter (J2000)", "deg", "%12.7f"),
    ("MAG_AUTO", "Kron-like elliptical aperture magnitude", "mag", "%9.4f"),
    ("MAGERR_AUTO", "RMS error for AUTO magnitude", "mag", "%9.4f"),
    ("FWHM_WORLD", "FWHM assuming a gaussian core", "deg", "%13.7g"),
    ("FLUX_RADIUS", "Fraction-of-light radii", "pixel", "%10.3f"),
    ("ELLIPTICITY", "1 - B_IMAGE/A_IMAGE", "", "%8.4f"),
    ("THETA_WORLD", "Position angle (CCW/world-x)", "deg", "%8.2f"),
    ("THETA_J2000", "Position angle (east of north) (J2000)", "deg", "%8.2f"),
    ("FLAGS", "Extraction flags", "", "%4d"),
    ("MAG_CALIB", "Calibrated magnitude", "mag", "%9.4f"),
    ("MAGERR_CALIB", "RMS error for the calibrated magnitude", "mag", "%9.4f"),
)
"""Name, comment, unit and format of the catalogue's columns, in order."""

_NEIGHBOUR, _SATURATED, _TRUNCATED = 1, 4, 8
_THRESHOLD = 5.0
_KRON_FACTOR = 2.5
_MIN_APERTURE = 3.5
_NO_MAGNITUDE = 99.0
_ZERO_POINT_ERROR = 0.02

Values = npt.NDArray[np.float64]


def extract_catalogue(counts: npt.NDArray[Any], sky: Conditions, world: Any) -> dict[str, npt.NDArray[Any]]:
    """Columns of the catalogue of one frame, (n,) each, by the names of `COLUMNS`.

    Parameters
    ----------
    counts : ndarray (size, size)
        The frame as it was written.
    sky : Conditions
        Gain, saturation level and magnitude zero point, which the pipeline takes from the header.
    world : astropy.wcs.WCS
        The frame's coordinate system.
    """
    data = np.ascontiguousarray(counts, dtype=np.float32)
    sep.set_extract_pixstack(max(300_000, data.size))
    background = sep.Background(data, bw=64, bh=64)
    noise = background.globalrms
    data = data - background.back(dtype=np.float32)
    settings = {"minarea": 5, "filter_kernel": None, "deblend_nthresh": 1}
    found, segments = sep.extract(data, _THRESHOLD, err=noise, gain=sky.gain, segmentation_map=True, **settings)
    if not len(found):
        return {name: np.empty(0) for name, *_ in COLUMNS}
    flux, error, radius, crowded = _automatic_photometry(data, segments, found, noise, sky.gain)
    magnitude, magnitude_error = _magnitudes(flux / sky.exposure, error / sky.exposure)
    zero_point = sky.limiting_magnitude + 2.5 * np.log10(sky.limiting_flux / sky.exposure)
    measured = magnitude < _NO_MAGNITUDE
    right_ascension, declination = world.wcs_pix2world(found["x"], found["y"], 0)
    angle = _world_angle(found["theta"], sky)
    return {
        "X_IMAGE": found["x"] + 1,
        "Y_IMAGE": found["y"] + 1,
        "ALPHA_J2000": right_ascension,
        "DELTA_J2000": declination,
        "MAG_AUTO": magnitude,
        "MAGERR_AUTO": magnitude_error,
        "FWHM_WORLD": fit_fwhm(data, segments, found, sky.saturation - background.globalback) * PIXEL_SCALE,
        "FLUX_RADIUS": radius,
        "ELLIPTICITY": 1 - found["b"] / found["a"],
        "THETA_WORLD": angle,
        "THETA_J2000": (180 - angle) % 180 - 90,
        "FLAGS": _flags(counts, segments, found, crowded, sky.saturation),
        "MAG_CALIB": np.where(measured, magnitude + zero_point, _NO_MAGNITUDE),
        "MAGERR_CALIB": np.where(measured, np.hypot(magnitude_error, _ZERO_POINT_ERROR), _NO_MAGNITUDE),
    }


def fit_fwhm(data: npt.NDArray[np.float32], segments: npt.NDArray[np.int32], found: Any, saturation: float) -> Values:
    """Full width at half maximum of every object [px], of a Gaussian fitted to its core.

    As SExtractor's FWHM_IMAGE: the slope of ln(value) over squared distance, weighted by value squared, over the pixels
    above a fifth of the peak and below saturation; then its correction for undersampling.

    Parameters
    ----------
    data : ndarray (height, width)
        Counts above the background.
    segments : ndarray (height, width)
        Number of the object each pixel belongs to, from 1; 0: none.
    found : structured ndarray (n,)
        What `sep.extract` returned.
    saturation : float
        Level of saturation above the background [counts].
    """
    row, column = np.nonzero(segments)
    owner, value = segments[row, column] - 1, data[row, column].astype(np.float64)
    core = (value > np.maximum(found["peak"] / 5, found["thresh"])[owner]) & (value < saturation)
    owner, value = owner[core], value[core]
    distance = (column[core] - found["x"][owner]) ** 2 + (row[core] - found["y"][owner]) ** 2
    weight, log_value = value**2, np.log(value)
    terms = (weight, weight * distance, weight * log_value, weight * distance**2, weight * distance * log_value)
    s, sx, sy, sxx, sxy = (np.bincount(owner, weights=term, minlength=len(found)) for term in terms)
    determinant = s * sxx - sx**2
    solvable = determinant > 1e-9 * np.maximum(s * sxx, 1e-30)
    slope = np.where(solvable, (sx * sy - s * sxy) / np.where(solvable, determinant, 1), 0)
    slope = np.maximum(slope, 1 / (13 * found["a"] * found["b"]))
    fwhm: Values = 2 * np.sqrt(np.log(2) / slope)
    return np.where(solvable, fwhm - 1 / (4 * fwhm), 0.0)


def _automatic_photometry(
    data: npt.NDArray[np.float32], segments: npt.NDArray[np.int32], found: Any, noise: float, gain: float
) -> tuple[Values, Values, Values, npt.NDArray[np.bool_]]:
    """Kron flux, its error, the radius of 45.2 % of it [px], and whether neighbours fill a tenth of the aperture."""
    x, y, number = found["x"], found["y"], np.arange(1, len(found) + 1, dtype=np.int32)
    shape = x, y, found["a"], found["b"], np.clip(found["theta"], -np.pi / 2, np.pi / 2)
    kron, _ = sep.kron_radius(data, *shape, 6.0, seg_id=number, segmap=segments)
    size = np.maximum(_KRON_FACTOR * np.nan_to_num(kron), _MIN_APERTURE / np.sqrt(found["a"] * found["b"]))
    flux, error, _ = sep.sum_ellipse(data, *shape, size, err=noise, gain=gain, seg_id=number, segmap=segments, subpix=1)
    occupied, _, _ = sep.sum_ellipse((segments > 0).astype(np.float32), *shape, size, subpix=1)
    area = np.pi * found["a"] * found["b"] * size**2
    radius, _ = sep.flux_radius(data, x, y, 6 * found["a"], 0.452, normflux=flux, seg_id=number, segmap=segments)
    return flux, error, np.where(flux > 0, np.nan_to_num(radius), 0.0), occupied - found["npix"] > 0.1 * area


def _magnitudes(rate: Values, error: Values) -> tuple[Values, Values]:
    """Instrumental magnitudes and their errors of count rates [1/s]; 99 where there is none."""
    positive = rate > 0
    safe = np.where(positive, rate, 1.0)
    magnitude = np.where(positive, -2.5 * np.log10(safe), _NO_MAGNITUDE)
    return magnitude, np.where(positive, np.minimum(1.0857 * error / safe, _NO_MAGNITUDE), _NO_MAGNITUDE)


def _world_angle(theta: Values, sky: Conditions) -> Values:
    """Position angle of the major axis from the world's x axis [deg], -90 to 90."""
    right, up = np.array(sky.cd) @ np.array([np.cos(theta), np.sin(theta)])
    angle: Values = (np.degrees(np.arctan2(up, right)) + 90) % 180 - 90
    return angle


def _flags(
    counts: npt.NDArray[Any],
    segments: npt.NDArray[np.int32],
    found: Any,
    crowded: npt.NDArray[np.bool_],
    saturation: float,
) -> npt.NDArray[np.int64]:
    """SExtractor's flag bits: 1 neighbour in the aperture, 4 saturated, 8 cut off at the frame's edge."""
    saturated = np.zeros(len(found) + 1, dtype=bool)
    saturated[segments[counts >= saturation]] = True
    truncated = (found["flag"] & sep.OBJ_TRUNC) != 0
    flags: npt.NDArray[np.int64] = _NEIGHBOUR * crowded + _SATURATED * saturated[1:] + _TRUNCATED * truncated
    return flags
