"""FITS files as they come: plain, gzipped, bzipped or tile-compressed, with the image in any extension.

What a file claims of itself is checked before memory is taken for it.
"""

import io
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from satdet.data.content import allowed_bytes, first_line, read_content
from satdet.errors import DataError, FrameError

Pixels = npt.NDArray[np.float32]

_FIRST_CARD, _EXTENSION = b"SIMPLE  =", b"XTENSION="
_BAD_SUM = "Datasum verification failed"
_MOST_PIXELS = 20_000 * 20_000
_BYTES_A_PIXEL = 4
_CARD_BYTES, _BLOCK_BYTES = 80, 2880
_MOST_CARDS = 36_000
"""Of one header. The longest histories have some thousands; over a million, astropy takes half a minute."""
_LAST_CARD = re.compile(rb"END(?![A-Z0-9_-])")
_WHOLE_NUMBER = re.compile(rb"[+-]?\d+")
_COUNTS = {"NAXIS": 999, "TFIELDS": 999, "PCOUNT": sys.maxsize, "GCOUNT": sys.maxsize}
"""The largest that the FITS standard 4.0 (sections 4.4.1, 7.3.1) or memory allows. Over more axes or columns astropy
takes minutes and gigabytes; counts below 0 lead it back to where it was, for ever."""


def read_image(path: Path) -> tuple[fits.Header, Pixels]:
    """Read the first two-dimensional image of a FITS file.

    Parameters
    ----------
    path : Path
        Told by its content, not by its name.

    Returns
    -------
    header : astropy.io.fits.Header
        Of the image's extension, with what only an empty primary one says, as the time and the exposure often are.
    pixels : ndarray (height, width), float32
        Physical values, with BSCALE and BZERO applied; NaN where the file has BLANK or NaN.

    Raises
    ------
    FrameError
        If the file is unreadable, cut off or too large, or holds no image with two axes.
    """
    content = read_content(path, FrameError)  # astropy's own reading turns a Ctrl-C into a damaged file
    if not content.startswith(_FIRST_CARD):
        raise FrameError(f"{path}: not a FITS file; it begins with {bytes(content[:8])!r}")
    check_counts(content, path, FrameError)
    try:
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            # Without uint, a BLANK in unsigned integers would not be found: it is that of the integers in the file.
            with fits.open(io.BytesIO(content), uint=False, checksum=True) as hdus:
                image = _first_image(hdus, path)
                _check_size(image, len(content), path)
                if any(_BAD_SUM in str(complaint.message) for complaint in complaints):
                    raise FrameError(f"{path}: the pixels do not match their DATASUM; fetch it again")
                pixels = np.asarray(image.data)
                pixels = pixels.reshape(pixels.shape[-2:])
                with np.errstate(all="ignore"):
                    return _header(image, hdus[0]), pixels.astype(np.float32)
    except FrameError:
        raise
    except Exception as error:  # astropy and cfitsio have errors of a dozen kinds for a damaged file
        raise FrameError(f"{path}: unreadable or cut off ({first_line(error)})") from error


def check_counts(content: bytes, path: Path, kind: type[DataError]) -> None:
    """See to it that no header in the `content` of a FITS file is endless or claims impossible axes, columns or groups.

    Raises
    ------
    DataError
        Of class `kind`.
    """
    for keyword, most in _COUNTS.items():
        card = f"{keyword:<8}=".encode()
        start = content.find(card)
        while start >= 0:
            value = content[start + len(card) : start + _CARD_BYTES].partition(b"/")[0].strip()
            if _WHOLE_NUMBER.fullmatch(value) and not 0 <= int(value) <= most:
                raise kind(f"{path}: {keyword} = {value.decode()}, which FITS does not allow; fetch it again")
            start = content.find(card, start + 1)
    start = 0
    while start >= 0:
        if start % _BLOCK_BYTES == 0 and not _ends(content, start):
            raise kind(f"{path}: a header of more than {_MOST_CARDS} cards, or without its END; fetch it again")
        start = content.find(_EXTENSION, start + 1)


def _ends(content: bytes, start: int) -> bool:
    """Whether the header that begins at `start` has an end within its limit; one that is cut off has the file's."""
    stop = start + _MOST_CARDS * _CARD_BYTES
    ends = (match.start() for match in _LAST_CARD.finditer(content, start, stop))
    return stop >= len(content) or any((end - start) % _CARD_BYTES == 0 for end in ends)


def _first_image(hdus: fits.HDUList, path: Path) -> Any:
    """The first image with two axes longer than 1 px; those before it, such as a cube, are passed over."""
    others = []
    for hdu in hdus:
        if not hdu.is_image or not hdu.header.get("NAXIS", 0):
            continue
        if len(hdu.shape) >= 2 and math.prod(hdu.shape[:-2]) == 1 and 0 not in hdu.shape:
            return hdu
        others.append(hdu.shape)
    if not others:
        raise FrameError(f"{path}: holds no image")
    shape = " x ".join(map(str, others[0][::-1]))
    raise FrameError(f"{path}: an image of {shape} px has {len(others[0])} axes, a frame has 2; split it first")


def _header(image: Any, primary: Any) -> fits.Header:
    header = image.header.copy()
    if image is not primary and not primary.header.get("NAXIS", 0):
        header.extend(primary.header, strip=True, unique=True)
    return header


def _check_size(image: Any, content: int, path: Path) -> None:
    height, width = image.shape[-2:]
    if height * width > _MOST_PIXELS or height * width * _BYTES_A_PIXEL > allowed_bytes(content):
        raise FrameError(
            f"{path}: NAXIS1 x NAXIS2 = {width} x {height} px, too large for a file of {content} bytes; cut off?"
        )
