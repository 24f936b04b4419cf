"""FITS files as they come: plain, gzipped, bzipped or tile-compressed, with the image in any extension.

What a file claims of itself is checked before memory is taken for it.
"""

import bz2
import gzip
import io
import math
import stat
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from satdet.errors import FrameError

Pixels = npt.NDArray[np.float32]

_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
"""How compressed content begins, and what opens it."""
_FIRST_CARD = b"SIMPLE  ="
_MOST_PIXELS = 20_000 * 20_000
_ALWAYS_ALLOWED = 128 * 1024**2
_MOST_EXPANSION = 100
"""A frame has noise, which does not compress; content that expands more is made to fill the memory."""
_BYTES_A_PIXEL = 4


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
    content = _content(path)
    if not content.startswith(_FIRST_CARD):
        raise FrameError(f"{path}: not a FITS file; it begins with {bytes(content[:8])!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Without uint, a BLANK in unsigned integers would not be found: it is that of the integers in the file.
            with fits.open(io.BytesIO(content), uint=False) as hdus:
                image = _first_image(hdus, path)
                _check_size(image, len(content), path)
                pixels = np.asarray(image.data)
                pixels = pixels.reshape(pixels.shape[-2:])
                with np.errstate(all="ignore"):
                    return _header(image, hdus[0]), pixels.astype(np.float32)
    except FrameError:
        raise
    except Exception as error:  # astropy and cfitsio have errors of a dozen kinds for a damaged file
        raise FrameError(f"{path}: unreadable or cut off ({_first_line(error)})") from error


def _content(path: Path) -> bytes:
    """What is in a file, decompressed. Here, since astropy's own reading turns a Ctrl-C into a damaged file."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise FrameError(f"{path}: unreadable (not a file)")
        if state.st_size == 0:
            raise FrameError(f"{path}: an empty file; fetch it again")
        content = path.read_bytes()
        opener = next((opener for start, opener in _OPENERS.items() if content.startswith(start)), None)
        if opener is None:
            return content
        most = _allowed(len(content))
        with opener(io.BytesIO(content)) as file:
            unpacked: bytes = file.read(most + 1)
    except (OSError, EOFError, MemoryError, ValueError, zlib.error) as error:
        raise FrameError(f"{path}: unreadable or cut off ({_first_line(error)})") from error
    if len(unpacked) > most:
        raise FrameError(f"{path}: expands to more than {_MOST_EXPANSION} times its size; no frame with noise does")
    return unpacked


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
    if height * width > _MOST_PIXELS or height * width * _BYTES_A_PIXEL > _allowed(content):
        raise FrameError(
            f"{path}: NAXIS1 x NAXIS2 = {width} x {height} px, too large for a file of {content} bytes; cut off?"
        )


def _allowed(size: int) -> int:
    """How many bytes may come out of a file of `size` bytes."""
    return min(max(_ALWAYS_ALLOWED, _MOST_EXPANSION * size), _MOST_PIXELS * 2 * _BYTES_A_PIXEL)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
