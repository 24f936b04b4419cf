"""Single values of a sweep file in the type of their path."""

import types
import typing
from typing import Any, Literal

from satdet.config import ConfigError, leaf
from search_spaces.sweep_files.checks import as_number, shown, suggestion

_NOTHING = ("none", "null", "")


def kind_of(path: str) -> Any:
    """The type that values of `path` have, besides None: float, int, bool, str, a Literal or a tuple."""
    hint = leaf(path).hint
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(option for option in typing.get_args(hint) if option is not type(None))
    return hint


def typed(value: Any, path: str, place: str) -> Any:
    """The value as its path has it: numbers and None given as text, whole floats, words in any case.

    Raises
    ------
    ConfigError
        For a value that the path cannot hold.
    """
    known, kind = leaf(path), kind_of(path)
    if isinstance(value, str) and value.strip().casefold() in _NOTHING and known.hint != kind:
        return None
    if typing.get_origin(kind) is Literal and isinstance(value, str):
        return _word(value, typing.get_args(kind), path, place)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        inner = typing.get_args(kind)[0]
        value = [_scalar(item, inner) for item in value]
    try:
        return known.check(_scalar(value, kind), place)
    except ConfigError as error:
        raise ConfigError(f"{error}, as {path} needs it") from None
    except OverflowError:
        raise ConfigError(f"{place} = {shown(value)} is too large") from None


def _scalar(value: Any, kind: Any) -> Any:
    if kind not in (int, float):
        return value
    number = as_number(value)
    if kind is int and isinstance(number, float) and number.is_integer():
        return int(number)
    return number


def _word(value: str, words: tuple[str, ...], path: str, place: str) -> str:
    """The word of `words` that is spelt as `value`, but for case, hyphens and underscores."""
    spelling = {_plain(word): word for word in words}
    if _plain(value) not in spelling:
        near = suggestion(value, words)
        raise ConfigError(f"{place} = {shown(value)}: {path} is one of {', '.join(words)}{near}")
    return value if value in words else spelling[_plain(value)]


def _plain(word: str) -> str:
    return word.casefold().replace("_", "").replace("-", "")
