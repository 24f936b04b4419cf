"""Zip archives such as torch writes its files in: looked at before anything in them is read."""

import zipfile
from pathlib import PurePosixPath
from typing import BinaryIO

_MOST_PICKLED = 64 * 1024**2
"""Bytes of the part that names and places the tensors; a detector's has less than a hundredth."""
_PICKLED = "data.pkl"


def check_members(file: BinaryIO) -> None:
    """See to it that the archive `file` claims no more than it holds, and no name outside itself.

    Raises
    ------
    zipfile.BadZipFile
        If it is none, or has a part that is compressed, parts that together are larger than the file, a description of
        its tensors that is larger than any, or a name that leads out of a folder.
    """
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise zipfile.BadZipFile(f"its parts claim {claimed} bytes, the file has {size}")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise zipfile.BadZipFile(f"its part {member.filename!r} leads out of a folder")
        if member.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile(f"its part {member.filename!r} is compressed, which torch does not do")
        if name.name == _PICKLED and member.file_size > _MOST_PICKLED:
            raise zipfile.BadZipFile(f"its part {member.filename!r} has more than {_MOST_PICKLED} bytes")


def check_sums(file: BinaryIO) -> None:
    """Compare the checksum of every part of the archive `file`; torch does not, in its own format.

    Raises
    ------
    zipfile.BadZipFile
        If it is no archive, or a part is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        if (part := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {part}")
