"""Who may talk to Ray: tokens in files of their owner alone, and for a Ray of our own a folder and ports of its own."""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from experiments.credentials import is_secret_name
from satdet.errors import UsageError

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_SEVERAL_NODES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray keeps to 127.0.0.1 where this is 0. Its name is of where that is the default; it works on Linux alike."""
_TOKEN_FILES = (Path("~/.config/satdet/ray-token"), Path("~/.ray/auth_token"))
"""Where ``cluster/local/start.sh`` and Ray itself keep a token, if nothing else is said."""
_LONGEST_PARENT = 23
"""Bytes of a path: Ray makes Unix sockets far below it, whose paths may have 107."""


@contextmanager
def ray_access(address: str | None) -> Iterator[dict[str, Any]]:
    """See to the environment in which Ray is imported, and yield what ``ray.init`` is to be given besides.

    A Ray of our own (`address` None) listens on loopback only, asks for a token that nobody else is told, and keeps
    sockets, logs and spilled objects in a folder that only we can enter, removed when the context is left. For a
    cluster that is there already the token's file is checked. ``RAY_AUTH_MODE=disabled`` leaves the token out.

    Raises
    ------
    UsageError
        If there is no token for the cluster, or its file is not its owner's alone.
    """
    before = dict(os.environ)
    os.environ.setdefault(_MODE, "token")
    try:
        if address is not None:
            if os.environ[_MODE].lower() == "token":
                _take_token(address)
            yield {}
            return
        with tempfile.TemporaryDirectory(prefix="satdet-", dir=_parent(), ignore_cleanup_errors=True) as folder:
            token = Path(folder, "token")
            with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(_own_token())
            os.environ.pop(_TOKEN, None)
            os.environ |= {_TOKEN_PATH: str(token), _SEVERAL_NODES: "0"}
            yield {"_temp_dir": str(Path(folder, "ray"))}  # a level deeper, for Ray lets everybody into its own
    finally:
        _restore(before, (_MODE, _TOKEN, _TOKEN_PATH, _SEVERAL_NODES))


def keep_keys_out_of_runtime_env() -> None:
    """Have Tune not hand the driver's cloud keys on to workers: it writes them into Ray's tables and logs.

    Workers have the environment of their node, which on this machine is the driver's own.
    """
    from ray.tune.execution import class_cache

    handed_on = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in handed_on if not is_secret_name(name)}


def check_token_file(path: Path) -> None:
    """See to it that nobody but its owner can read or replace a token.

    Raises
    ------
    UsageError
        If `path` is missing, empty, not a regular file (a link to one is none), or somebody else's, or if others can
        read it or change its folder.
    """
    try:
        state, folder = path.lstat(), path.parent.stat()
    except OSError as error:
        raise UsageError(f"{path}: the token of the Ray cluster cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(state.st_mode) or not state.st_size:
        what = "a symbolic link" if stat.S_ISLNK(state.st_mode) else "empty or not a file"
        raise UsageError(f"{path}: the token of the Ray cluster is {what}; name its own file in {_TOKEN_PATH}")
    if state.st_uid != os.geteuid():
        raise UsageError(f"{path}: the token of the Ray cluster belongs to another user; copy it to a file of your own")
    if state.st_mode & 0o077:
        raise UsageError(
            f"{path}: others can read the token of the Ray cluster (mode {stat.S_IMODE(state.st_mode):o}), and with it"
            f" run what they like; make another one, or if nobody has looked: chmod 600 {path}"
        )
    if folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        raise UsageError(
            f"{path.parent}: others can replace the token of the Ray cluster in it; chmod go-w {path.parent}"
        )


def _take_token(address: str) -> None:
    """Set the environment to the token of a cluster that is there already."""
    if os.environ.get(_TOKEN):
        return
    if _TOKEN_PATH not in os.environ:
        known = [path.expanduser() for path in _TOKEN_FILES if path.expanduser().exists()]
        if not known:
            raise UsageError(
                f"--address {address}: no token for that Ray cluster; name its file in {_TOKEN_PATH}, or set"
                f" {_MODE}=disabled for a cluster that lets everybody in"
            )
        os.environ[_TOKEN_PATH] = str(known[0])
    check_token_file(Path(os.environ[_TOKEN_PATH]))


@cache
def _own_token() -> str:
    """The same for every Ray that this process starts, for Ray reads it once a process."""
    return secrets.token_hex(32)


def _parent() -> str:
    """Where the folder is made: the usual place for such, if its path is not too long for sockets."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= _LONGEST_PARENT else "/tmp"


def _restore(before: Mapping[str, str], names: tuple[str, ...]) -> None:
    for name in names:
        os.environ.pop(name, None)
        if name in before:
            os.environ[name] = before[name]
