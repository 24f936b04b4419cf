"""Which file systems are a machine's own, by what the kernel says is mounted."""

import os
import re
import stat
from pathlib import Path

from satdet.errors import StorageError

_MOUNTS = Path("/proc/self/mounts")
_REMOTE = frozenset({"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "orangefs",
                     "pvfs2", "smb3", "smbfs", "virtiofs"})  # fmt: skip
_OWN_FUSE = frozenset({"fuse.fuse-overlayfs"})
_MEMORY = frozenset({"tmpfs", "ramfs"})
_LOCAL = Path("/var/tmp")


def private_folder(name: str) -> Path:
    """A folder in ``/var/tmp`` that nobody else can write, made if need be.

    Raises
    ------
    StorageError
        If somebody else can.
    """
    folder = _LOCAL / f"{name}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageError(f"{folder} can be written by others; name a folder of your own")
    return folder


def is_remote(path: Path) -> bool:
    """Whether `path` lies on a file system that other machines see, too; False where the kernel does not say."""
    return _is_remote(_type_of(path))


def is_own_disk(path: Path) -> bool:
    """Whether `path` lies on this machine and not in its memory."""
    kind = _type_of(path)
    return not _is_remote(kind) and kind not in _MEMORY


def _is_remote(kind: str) -> bool:
    return kind in _REMOTE or (kind.startswith("fuse.") and kind not in _OWN_FUSE)


def _type_of(path: Path) -> str:
    """Type of the file system, empty if unknown."""
    path = path.resolve()
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    found = ("", "")
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        folder = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)
        if path.is_relative_to(folder) and len(folder) >= len(found[0]):  # of two at one place the later one counts
            found = (folder, kind)
    return found[1]
