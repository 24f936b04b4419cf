"""Whether a file that W&B wrote is whole: it writes behind our back, and keeps silent about a disk that refuses."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_HEADER = 7
"""Bytes of the file's own header, and of a chunk's: checksum, length, kind."""
_BLOCK = 1 << 15
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def is_whole(folder: Path) -> bool:
    """Whether the one ``run-*.wandb`` of an offline run's folder has no gap and ends with the run's end.

    The file is a log in LevelDB's format: blocks of 32 KiB, in them chunks with a checksum, one or several of which
    make a record.
    """
    files = list(folder.glob("run-*.wandb"))
    if len(files) != 1:
        return False
    from wandb.proto.wandb_internal_pb2 import Record

    try:
        content = files[0].read_bytes()
        kinds = [Record.FromString(payload).WhichOneof("record_type") for payload in payloads(content)]
    except Exception:  # of the storage, of the format, or of the records in it
        return False
    return "run" in kinds and "exit" in kinds


def payloads(content: bytes) -> Iterator[bytes]:
    """The records of a file of W&B, each as the bytes of a protocol buffer.

    Raises
    ------
    ValueError
        If something of it is missing or damaged.
    """
    if content[:4] != b":W&B":
        raise ValueError("not a file of W&B")
    position, parts = _HEADER, b""
    while position < len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        data = content[position + _HEADER : position + _HEADER + length]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(data) < length:
            raise ValueError(f"a gap at byte {position}")
        if checksum != zlib.crc32(bytes([kind]) + data):
            raise ValueError(f"damage at byte {position}")
        parts = data if kind in (_FULL, _FIRST) else parts + data
        if kind in (_FULL, _LAST):
            yield parts
        position += _HEADER + length
