"""A small file system of its own that can become full, freeze, break off and come back, also read-only; needs root."""

import fcntl
import os
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: every later access fails with EIO, for those too who have files open."""
_AT_ONCE = struct.pack("I", 2)


class Volume:
    """An ext4 in a file, mounted for as long as the context lasts.

    Parameters
    ----------
    folder : Path
        Gets the file and the mount point.
    megabytes : int

    Attributes
    ----------
    path : Path
        Where it is mounted.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._image = folder / "image"
        self.path = folder / "volume"
        self._bytes = megabytes * 10**6
        self._devices: list[str] = []

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(self._bytes)
        _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        try:
            self.bring_back()
        except (OSError, subprocess.CalledProcessError):
            self._detach()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(subprocess.CalledProcessError):
            _run("umount", "--lazy", str(self.path))
        self._detach()

    @property
    def free(self) -> int:
        """Bytes that are free."""
        return os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize

    def fill(self, leave: int) -> None:
        """Take all the space but so many bytes."""
        part = self.free - leave
        with self._ballast.open("wb") as file:
            while part > 0:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), part)
                except OSError:  # the file system needs some of it itself
                    part //= 2
                else:
                    part = min(part, self.free - leave)

    def relieve(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    def freeze(self) -> None:
        """Let every write hang."""
        _run("fsfreeze", "--freeze", str(self.path))

    def thaw(self) -> None:
        """Let them go on."""
        _run("fsfreeze", "--unfreeze", str(self.path))

    def break_off(self) -> None:
        """Let every access fail, as when a server or a disk is gone; what was not synced is lost."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, _AT_ONCE)
        finally:
            os.close(folder)

    def bring_back(self, *, read_only: bool = False) -> None:
        """Mount it, anew if it broke off; who has a file open from before has to open it again."""
        while os.path.ismount(self.path):
            _run("umount", "--lazy", str(self.path))
        for device in self._devices:
            # It lives on in open files; what the kernel has yet to write for it must not go over its successor.
            with suppress(subprocess.CalledProcessError):
                _run("blockdev", "--flushbufs", device)
        device = _run("losetup", "--find", "--show", str(self._image)).strip()
        self._devices.append(device)
        _run("mount", "-o", "ro" if read_only else "rw", device, str(self.path))

    def make_writable(self) -> None:
        """No longer read-only."""
        _run("mount", "-o", "remount,rw", str(self.path))

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def _detach(self) -> None:
        """Let go of the devices; the kernel does so itself when the last file on them is closed."""
        for device in self._devices:
            with suppress(subprocess.CalledProcessError):
                _run("losetup", "--detach", device)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
