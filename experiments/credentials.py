"""Credentials: which there are, and how they are kept out of messages, other processes and the process list."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
TRACKING_URI = "MLFLOW_TRACKING_URI"
_USERINFO = re.compile(r"(?<=://)[^/\s'\"]*@")
_SECRET_QUERY = re.compile(r"(?i)([?&](?:[a-z_]*password|token|api_?key|secret)=)([^&\s'\"]+)")
_SECRET_NAME = re.compile(r"(?i).*(KEY|KEY_ID|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS)")
_OF_TRACKERS = re.compile(r"WANDB_API_KEY|MLFLOW_(TRACKING|REGISTRY)_(URI|USERNAME|PASSWORD|TOKEN)")
_SHORTEST = 6
"""Characters of a value that is taken for a secret; a shorter one would be found in every other word."""


def masked(text: str) -> str:
    """`text` with the user and the password of every URI in it hidden."""
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def secrets_in(uri: str) -> list[str]:
    """The passwords and tokens that `uri` holds, as they stand there and decoded, the longest first."""
    found = [match[2] for match in _SECRET_QUERY.finditer(uri)]
    with suppress(ValueError):
        parts = urlsplit(uri)
        alone = parts.username if parts.scheme.startswith("http") else None
        found.append(parts.password or alone or "")
    return sorted({form for each in found if each for form in (each, unquote(each))}, key=len, reverse=True)


def known_secrets(uri: str | None = None, environment: Mapping[str, str] | None = None) -> list[str]:
    """What must not be told, the longest first: of the environment (this process's own) and of a `uri`.

    In the environment a secret is known by the name of its variable, or stands in a URI. A path is none.
    """
    variables = os.environ if environment is None else environment
    named = {value for name, value in variables.items() if is_secret_name(name) and not _is_path(value)}
    inside = {secret for each in (*variables.values(), uri or "") if "://" in each for secret in secrets_in(each)}
    return sorted((each for each in named | inside if len(each) >= _SHORTEST), key=len, reverse=True)


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of that name holds a password, a key or a token."""
    return _SECRET_NAME.fullmatch(name) is not None


def _is_path(value: str) -> bool:
    with suppress(OSError):
        return Path(value).exists()
    return False  # too long for one


def hide(text: str, secrets: Sequence[str]) -> str:
    """`text` without `secrets`, and without the user and the password of any URI."""
    text = masked(text)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


class _HidingStream:
    """A text stream in which no credentials appear, whoever writes to it."""

    def __init__(self, stream: TextIO, secrets: Sequence[str]) -> None:
        self._stream = stream
        self._secrets = secrets

    def write(self, text: str) -> int:
        self._stream.write(hide(text, self._secrets))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def hidden_in_messages(uri: str | None, *, output: bool = False) -> Iterator[None]:
    """Keep what is secret, in the environment and in `uri`, out of what is written to standard error.

    With `output`, out of standard output too, which must not be for programs then: a secret may be a common word.
    """
    secrets = known_secrets(uri)
    streams = {name: getattr(sys, name) for name in (("stdout", "stderr") if output else ("stderr",))}
    for name, stream in streams.items():
        setattr(sys, name, _HidingStream(stream, secrets))
    try:
        yield
    finally:
        for name, stream in streams.items():
            stream.flush()
            setattr(sys, name, stream)


@contextmanager
def withheld_from_children() -> Iterator[None]:
    """Take the trackers' credentials out of the environment while processes are started that have no use for them."""
    held = {name: os.environ.pop(name) for name in list(os.environ) if _OF_TRACKERS.fullmatch(name)}
    try:
        yield
    finally:
        os.environ |= held


def off_the_process_list(uri: str | None) -> None:
    """Begin this process anew without tracking URIs that hold credentials on its command line: all can read it there.

    The `uri` that counts is handed on as ``MLFLOW_TRACKING_URI``, in an environment that only the same user can read.
    Returns if there is nothing to hide. The process keeps its number; who lists processes in the half second before
    sees the URI.
    """
    arguments = sys.argv[1:]
    kept = _without_credentials(arguments)
    if uri is None or kept == arguments:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    before = sys.orig_argv[: len(sys.orig_argv) - len(arguments)]
    os.execve(sys.executable, [*before, *kept], os.environ | {TRACKING_URI: uri})


def _without_credentials(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for argument in arguments:
        option, _, value = argument.partition("=")
        if kept and _is_tracking_option(kept[-1]) and masked(argument) != argument:
            kept.pop()
        elif not (_is_tracking_option(option) and masked(value) != value):
            kept.append(argument)
    return kept


def _is_tracking_option(argument: str) -> bool:
    """Whether it is ``--tracking-uri``, or as much of it as tells it from others."""
    return argument.startswith("--t") and "--tracking-uri".startswith(argument)
