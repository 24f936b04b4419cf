"""What a frame's header says: the scale of its pixels, its place on the sky, its time, its saturation."""

import math
import re
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.wcs import WCS

from satdet.errors import FrameError

Cards = dict[str, float | str]
"""Cards of a header that place an image on the sky, by keyword."""

_CD = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
_WCS_CARD = re.compile(
    r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d+|(A|B|AP|BP)_(\d+_\d+|ORDER)"
    r"|LONPOLE|LATPOLE|EQUINOX|RADESYS|RADECSYS"
)
_HIGHEST_ORDER = 9
"""Of a distortion polynomial by the SIP convention (Shupe et al. 2005); of 5000, it would take a minute."""
_LARGEST_SCALE = 0.1
"""[deg/px] A header without astrometry often says 1."""
_SATURATION = ("SATURATE", "SATLEVEL", "MAXLIN")
_EXPOSURE = ("EXPTIME", "EXPOSURE")
_JULIAN_DATES = (("JD", 0.0), ("MJD-OBS", 2400000.5), ("JD-OBS", 0.0), ("MJD", 2400000.5))
_ORDINAL_JULIAN = 1721424.5
"""Julian date of the midnight that begins day 0 of `datetime.toordinal`."""
_DAY = 86400.0


def pixel_scale(header: fits.Header, path: Path) -> float:
    """Square root of the area of a pixel [deg] (Greisen & Calabretta 2002, A&A 395, 1061: CD, or PC with CDELT).

    Rotations and reflections leave it as it is, a CROTA2 too.

    Raises
    ------
    FrameError
        Naming `path`, if the header gives none, or one that is 0, not a number or larger than any telescope's.
    """
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
    if not 0 < scale <= _LARGEST_SCALE:
        raise FrameError(f"{path}: a pixel scale of {scale:g} deg/px; correct CD1_1 … CD2_2 or CDELT1, CDELT2")
    return scale


def saturation_level(header: fits.Header) -> float | None:
    """The counts at which a pixel is saturated, None if the header does not say."""
    return _first_positive(header, _SATURATION)


def exposure_time(header: fits.Header) -> float | None:
    """[s], None if the header does not say."""
    return _first_positive(header, _EXPOSURE)


def julian_date(header: fits.Header) -> float | None:
    """Julian date of the exposure, from JD, MJD-OBS or DATE-OBS (with TIME-OBS or UT); None if there is none."""
    for key, zero in _JULIAN_DATES:
        value = _finite(_value(header, key))
        if value:
            return value + zero
    date, time = str(_value(header, "DATE-OBS")), str(_value(header, "TIME-OBS") or _value(header, "UT"))
    for text in (f"{date}T{time}", date):
        try:
            start = datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError:
            continue
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        return start.toordinal() + _ORDINAL_JULIAN + (start - midnight).total_seconds() / _DAY
    return None


def wcs_cards(header: fits.Header) -> Cards:
    """The cards that place the image on the sky, as they stand."""
    cards = {key: _value(header, key) for key in header if _WCS_CARD.fullmatch(key)}
    return {key: value for key, value in cards.items() if isinstance(value, (int, float, str)) and _is_sound(value)}


def world_coordinates(cards: Mapping[str, Any]) -> WCS | None:
    """The celestial coordinate system that `cards` describe, None if they describe none.

    Its pixels count from 0 in ``wcs_pix2world(x, y, 0)``, the first pixel's centre being 0; from 1 with ``1``, as in a
    catalogue.
    """
    orders = [value for key, value in cards.items() if key.endswith("_ORDER")]
    if any(isinstance(order, str) or order > _HIGHEST_ORDER for order in orders):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            world = WCS(fits.Header(list(cards.items())), naxis=2, fix=False)
            return world if world.has_celestial and math.isfinite(float(world.wcs_pix2world(1, 1, 1)[0])) else None
    except Exception:  # wcslib has an error class for every way of being wrong, and astropy adds its own
        return None


def _first_positive(header: fits.Header, keys: tuple[str, ...]) -> float | None:
    values = (_finite(_value(header, key)) for key in keys)
    return next((value for value in values if value is not None and value > 0), None)


def _value(header: fits.Header, key: str) -> Any:
    """A card's value, None if there is no such card; as text if it is none that FITS allows, such as NaN."""
    try:
        return header.get(key)
    except fits.VerifyError:
        return _text(header, key)


def _text(header: fits.Header, key: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(header.cards[key]).partition("=")[2].strip(" '")
    except ValueError:  # not even printable
        return "?"


def _finite(value: Any) -> float | None:
    """A card's value as a number, also where it was written as text."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_sound(value: float | str) -> bool:
    return isinstance(value, str) or (not isinstance(value, bool) and math.isfinite(value))


def _number(header: fits.Header, key: str, default: float, path: Path) -> float:
    value = _value(header, key) if key in header else default
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise FrameError(f"{path}: {key} = {value!r} is not a number")
