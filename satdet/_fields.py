"""Typed, bounded fields for frozen configuration dataclasses: one place that says what a value may be."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from satdet.errors import ConfigError

_T = TypeVar("_T")


def bounded(
    default: _T, *, minimum: float | None = None, maximum: float | None = None, above: float | None = None
) -> _T:
    """A dataclass field with a default and a range; ``above`` is an exclusive minimum."""
    metadata = {"minimum": minimum, "maximum": maximum, "above": above}
    declared: _T = dataclasses.field(default=default, metadata=metadata)
    return declared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """A dataclass whose fields are checked against their annotations and ranges when it is built."""

    def __post_init__(self) -> None:
        check_fields(self)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest known one, then all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        tails = {key.rpartition(".")[2]: key for key in known}
        near = [tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, n=1, cutoff=0.7)]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {name!r}{hint}; known: {', '.join(known)}"


def check_fields(instance: Any) -> None:
    """Coerce and check every field of a frozen dataclass against its annotation and range.

    Raises
    ------
    ConfigError
        Naming the class, the field, the value and what is allowed.
    """
    hints = typing.get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        label = f"{type(instance).__name__}.{field.name}"
        value = coerce(getattr(instance, field.name), hints[field.name], label)
        check_range(value, dict(field.metadata), label)
        object.__setattr__(instance, field.name, value)


def coerce(value: Any, hint: Any, label: str) -> Any:
    """Return `value` as the type `hint` says: an int may stand for a float, a list for a tuple, and that is all."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value in typing.get_args(hint) and not isinstance(value, bool):
            return value
        raise ConfigError(f"{label} = {value!r} is not one of {', '.join(map(str, typing.get_args(hint)))}")
    if origin in (types.UnionType, typing.Union):
        return _coerce_union(value, typing.get_args(hint), label)
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(coerce(item, typing.get_args(hint)[0], label) for item in value)
        raise ConfigError(f"{label} = {value!r} is not a list")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise ConfigError(f"{label} = {value!r} is not of type {hint.__name__}")


def check_range(value: Any, limits: dict[str, Any], label: str) -> None:
    """Raise ConfigError if `value` (or an element of it) lies outside `limits`, or is not finite."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        if isinstance(item, float) and not abs(item) < float("inf"):
            raise ConfigError(f"{label} = {item!r} is not finite")
        if limits.get("minimum") is not None and item < limits["minimum"]:
            raise ConfigError(f"{label} = {item!r} is below its minimum {limits['minimum']}")
        if limits.get("above") is not None and item <= limits["above"]:
            raise ConfigError(f"{label} = {item!r} must be above {limits['above']}")
        if limits.get("maximum") is not None and item > limits["maximum"]:
            raise ConfigError(f"{label} = {item!r} is above its maximum {limits['maximum']}")


def _coerce_union(value: Any, options: tuple[Any, ...], label: str) -> Any:
    """The optional case, ``X | None``: None, or what X takes."""
    if value is None and type(None) in options:
        return None
    return coerce(value, next(option for option in options if option is not type(None)), label)
