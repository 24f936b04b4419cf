"""What is in a file, decompressed, without more memory than such a file can honestly need."""

import bz2
import gzip
import io
import stat
import zlib
from pathlib import Path
from typing import Any

from satdet.errors import DataError

_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
"""How compressed content begins, and what opens it."""
_GZIP_WINDOW = 31
_ALWAYS_ALLOWED = 128 * 1024**2
_MOST_EXPANSION = 100
"""A frame has noise, which does not compress; content that expands more is made to fill the memory."""
_MOST_BYTES = 4 * 1024**3


def read_content(path: Path, kind: type[DataError], most_bytes: int = _MOST_BYTES) -> bytes:
    """The content of file `path`, decompressed if it is gzipped or bzipped, whatever its name.

    Parameters
    ----------
    path : Path
    kind : type of DataError
        Of what is raised.
    most_bytes : int
        That the file, and what it decompresses to, may have.

    Raises
    ------
    DataError
        Of class `kind`: if the file is unreadable, empty, cut off or too large.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise kind(f"{path}: unreadable ({'a folder' if stat.S_ISDIR(state.st_mode) else 'not a file'})")
        if state.st_size > most_bytes:
            raise kind(f"{path}: {state.st_size} bytes, more than {most_bytes}; no such file of one frame is so large")
        content = path.read_bytes()
        if not content:
            raise kind(f"{path}: an empty file; fetch it again")
        opener = next((opener for start, opener in _OPENERS.items() if content.startswith(start)), None)
        if opener is None:
            return content
        most = min(allowed_bytes(len(content)), most_bytes)
        unpacked = _single_gzip_member(content, most + 1)
        if unpacked is None:
            with opener(io.BytesIO(content)) as file:
                unpacked = file.read(most + 1)
    except (OSError, EOFError, MemoryError, ValueError, zlib.error) as error:
        raise kind(f"{path}: unreadable or cut off ({first_line(error)})") from error
    if len(unpacked) > most:
        limit = f"{most_bytes} bytes" if most == most_bytes else f"{_MOST_EXPANSION} times its size"
        raise kind(f"{path}: expands to more than {limit}; no frame with noise does")
    return unpacked


def _single_gzip_member(content: bytes, most: int) -> bytes | None:
    """What `gzip.open` gives in twice the time, for gzipped content in one piece, as nearly all is; else None."""
    if not content.startswith(b"\x1f\x8b"):
        return None
    member = zlib.decompressobj(wbits=_GZIP_WINDOW)
    unpacked = member.decompress(content, most)
    complete = member.eof and not member.unused_data
    return unpacked if complete or len(unpacked) == most else None


def allowed_bytes(size: int) -> int:
    """How many bytes may come out of a file of `size` bytes."""
    return min(max(_ALWAYS_ALLOWED, _MOST_EXPANSION * size), _MOST_BYTES)


def first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0]
