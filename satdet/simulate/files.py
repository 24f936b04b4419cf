"""Frames and catalogues as files: gzipped FITS, and SExtractor's ASCII_HEAD."""

import gzip
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from satdet.simulate.conditions import Conditions
from satdet.simulate.extraction import COLUMNS
from satdet.simulate.scene import Stars

_COMPRESSION = 1


def frame_header(sky: Conditions) -> fits.Header:
    """The header of a frame: the exposure, the camera, and a tangential projection."""
    header = fits.Header()
    (cd1_1, cd1_2), (cd2_1, cd2_2) = sky.cd
    start = Time(sky.julian_date, format="jd")
    for key, value, comment in (
        ("OBJECT", sky.target, "Target"),
        ("TELESCOP", "TJO", "Telescope"),
        ("DATE-OBS", start.isot, "Start of exposure (UTC)"),
        ("JD", sky.julian_date, "Julian date at start of exposure"),
        ("EXPTIME", sky.exposure, "[s] Exposure time"),
        ("FILTER", "U", "Filter"),
        ("GAIN", round(sky.gain, 3), "[e-/ADU]"),
        ("RDNOISE", round(sky.read_noise, 2), "[e-]"),
        ("SATURATE", sky.saturation, "[ADU] Level of saturation"),
        ("SEEING", round(sky.fwhm, 2), "[pixel] FWHM of a star"),
        ("RADESYS", "ICRS", "Reference system"),
        ("EQUINOX", 2000.0, "Equinox"),
        ("CTYPE1", "RA---TAN", "Projection"),
        ("CTYPE2", "DEC--TAN", "Projection"),
        ("CUNIT1", "deg", "Unit"),
        ("CUNIT2", "deg", "Unit"),
        ("CRVAL1", sky.centre[0], "[deg] Right ascension at CRPIX"),
        ("CRVAL2", sky.centre[1], "[deg] Declination at CRPIX"),
        ("CRPIX1", (sky.size + 1) / 2, "Reference pixel"),
        ("CRPIX2", (sky.size + 1) / 2, "Reference pixel"),
        ("CD1_1", cd1_1, "[deg/pixel]"),
        ("CD1_2", cd1_2, "[deg/pixel]"),
        ("CD2_1", cd2_1, "[deg/pixel]"),
        ("CD2_2", cd2_2, "[deg/pixel]"),
    ):
        header[key] = (value, comment)
    return header


def frame_bytes(counts: npt.NDArray[Any], header: fits.Header) -> bytes:
    """A gzipped FITS file; the same bytes for the same frame, at any time."""
    buffer = io.BytesIO()
    fits.PrimaryHDU(counts, header).writeto(buffer)
    return gzip.compress(buffer.getbuffer(), _COMPRESSION, mtime=0)


def world_coordinates(header: fits.Header) -> WCS:
    """The coordinate system that a frame's header describes."""
    return WCS(header, fix=False)


def catalogue_bytes(columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An ASCII_HEAD catalogue: one header line a column, one row an object in the order of detection."""
    lines = []
    for number, (name, comment, unit, _) in enumerate(COLUMNS, 1):
        lines.append(f"# {number:2d} {name:<15} {comment:<48}" + (f" [{unit}]" if unit else ""))
    row = " ".join(form for *_, form in COLUMNS)
    values = np.column_stack([columns[name] for name, *_ in COLUMNS]).tolist()
    lines += [row % tuple(value) for value in values]
    return ("\n".join(line.rstrip() for line in lines) + "\n").encode()


def truth_bytes(stars: Stars, sky: Conditions) -> bytes:
    """The stars' true positions [px, 1-based] and fluxes [counts] as CSV, those on the frame only."""
    middle = (sky.size - 1) / 2
    inside = np.maximum(np.abs(stars.x - middle), np.abs(stars.y - middle)) < sky.size / 2
    rows = zip(stars.x[inside] + 1, stars.y[inside] + 1, stars.flux[inside], strict=True)
    return ("x,y,flux\n" + "".join(f"{x:.5f},{y:.5f},{flux:.3f}\n" for x, y, flux in rows)).encode()
