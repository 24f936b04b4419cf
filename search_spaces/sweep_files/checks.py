"""What a value of a sweep file may be: each check returns it in its type, or says what is wrong, and where."""

import difflib
import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from satdet.config import ConfigError

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_LONGEST_NUMBER = 40
_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = _SHORTENED.maxlong = 80


def shown(value: Any) -> str:
    """`value` as a message shows it, shortened."""
    return _SHORTENED.repr(value)


def at(place: str, key: str) -> str:
    """The place of `key` in the section at `place`."""
    if not key.isprintable() or len(key) > _SHORTENED.maxstring:
        key = shown(key)
    return f"{place}.{key}" if place else key


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name nearest to `name`, as a message asks for it; nothing if none is near."""
    folded = {each.casefold(): each for each in sorted(known)}
    near = difflib.get_close_matches(name.casefold()[: _SHORTENED.maxstring], folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[near[0]]!r}?)" if near else ""


def check_keys(section: Mapping[str, Any], known: Iterable[str], place: str = "") -> None:
    """Refuse a key that `section` does not have.

    Raises
    ------
    ConfigError
        With its place, the nearest legal key, and all of them.
    """
    known = list(known)
    for key in section:
        if key not in known:
            raise ConfigError(f"{at(place, key)}: unknown key{suggestion(key, known)}; known: {', '.join(known)}")


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, dict):
        raise ConfigError(f"{place} = {shown(value)} is not a mapping")
    return value


def sequence(value: Any, place: str) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{place} = {shown(value)} is not a list of values")
    return value


def text(value: Any, place: str) -> str:
    """Text."""
    if not isinstance(value, str):
        raise ConfigError(f"{place} = {shown(value)} is not text; put it in quotes")
    return value


def flag(value: Any, place: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{place} = {shown(value)} is not true or false")
    return value


def one_of(value: Any, options: Iterable[str], place: str) -> str:
    """One of some words."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    near = suggestion(value, options) if isinstance(value, str) else ""
    raise ConfigError(f"{place} = {shown(value)} is not one of {', '.join(options)}{near}")


def as_number(value: Any) -> Any:
    """The number that a text means, such as ``1e-3``, which YAML 1.1 takes for text; anything else as it is."""
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value.strip()):
        return int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    return value


def number(value: Any, place: str) -> int | float:
    """A finite number, whole ones as int."""
    found = as_number(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{place} = {shown(value)} is not a number")
    try:
        finite = math.isfinite(found)
    except OverflowError:
        finite = False
    if not finite:
        raise ConfigError(f"{place} = {shown(value)} is not finite")
    return found


def whole(value: Any, place: str, minimum: int | None = None) -> int:
    """A whole number, of at least `minimum`."""
    found = number(value, place)
    if found != int(found):
        raise ConfigError(f"{place} = {shown(value)} is not a whole number")
    if minimum is not None and found < minimum:
        raise ConfigError(f"{place} = {shown(value)} is below its minimum {minimum}")
    return int(found)
