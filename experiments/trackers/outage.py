"""Servers that do not answer: asking them in short, and saying why in a line that holds no password."""

import re
from collections.abc import Iterator

from experiments.credentials import hide, known_secrets

_LONGEST = 300


class Unreachable(Exception):
    """A server that does not answer; the message says which one and why."""


class Anew(Exception):
    """A tracker's wish to be made again at once, and given the record from its beginning."""


def ask(url: str, seconds: float) -> None:
    """Return if an HTTP server gives any answer that a working one may give.

    Raises
    ------
    Unreachable
        If nothing is there, it does not answer in time, or it answers that it cannot serve.
    """
    import requests

    try:
        status = requests.get(url, timeout=seconds).status_code
    except requests.RequestException as error:
        raise Unreachable(reason(error)) from None
    if status >= 500 or status == 429:
        raise Unreachable(f"it answers with HTTP status {status}")


def reason(error: BaseException) -> str:
    """Why a request failed: in plain words where a cause is known to us, else as the client has put it."""
    causes = list(_causes(error))
    names = {cause.__class__.__name__ for cause in causes}
    if names & {"ReadTimeout", "ConnectTimeout", "Timeout", "TimeoutError"}:
        return "no answer in time"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        if "NameResolutionError" in cause.__class__.__name__:
            return "its name is not known"
    if match := re.search(r"too many (\d{3}) error responses", str(error)):
        return f"it answers with HTTP status {match.group(1)}"
    if isinstance(error, Unreachable):
        return hide(str(error), known_secrets())
    return hide(f"{type(error).__name__}: {' '.join(str(error).split())}", known_secrets())[:_LONGEST]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it was raised from or carries with it."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
