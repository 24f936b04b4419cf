"""Domains with finitely many values."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from satdet.config import ConfigError, bounded
from search_spaces.declare.domain import Check, Domain, Value, as_tuples, same, set_fields

_MOST_ORDERS = 6


@dataclass(frozen=True, init=False)
class Constant(Domain):
    """One value that is not searched, but belongs to the space."""

    value: Value

    def __init__(self, value: Value) -> None:
        object.__setattr__(self, "value", as_tuples(value))

    @property
    def values(self) -> tuple[Value, ...]:
        """The value alone."""
        return (self.value,)

    def quantile(self, share: float) -> Value:
        """The value."""
        return self.value

    def share(self, value: Any) -> float | None:
        """0 for the value itself."""
        return 0.0 if same(value, self.value) else None

    def checked(self, check: Check) -> "Constant":
        """With the value in its path's type."""
        return Constant(check(self.value))


@dataclass(frozen=True, init=False)
class Choice(Domain):
    """One of some values, each as likely as the others or by `weights`, which are relative."""

    options: tuple[Value, ...]
    weights: tuple[float, ...] | None

    def __init__(self, *options: Value, weights: tuple[float, ...] | list[float] | None = None) -> None:
        options = tuple(map(as_tuples, options))
        if not options:
            raise ConfigError("Choice() has no values")
        if len(set(map(repr, options))) < len(options):
            raise ConfigError(f"Choice{options!r} names a value twice")
        if weights is not None:
            if not all(isinstance(weight, int | float) for weight in weights):
                raise ConfigError(f"Choice.weights = {weights!r} are not numbers")
            weights = tuple(float(weight) for weight in weights)
            if len(weights) != len(options):
                raise ConfigError(f"Choice has {len(options)} values and {len(weights)} weights")
            if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights):
                raise ConfigError(f"Choice.weights = {weights!r} are not relative probabilities")
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "weights", weights)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Choice":
        """The choice that `to_json` described."""
        return cls(*values["options"], weights=values["weights"])

    @property
    def values(self) -> tuple[Value, ...]:
        """The options in their order."""
        return self.options

    def quantile(self, share: float) -> Value:
        """The option in whose part of the unit interval `share` lies."""
        for option, end in zip(self.options, self._ends(), strict=True):
            if share < end:
                return option
        return self.options[-1]

    def share(self, value: Any) -> float | None:
        """The middle of the option's part of the unit interval."""
        start = 0.0
        for option, end in zip(self.options, self._ends(), strict=True):
            if same(value, option):
                return (start + end) / 2
            start = end
        return None

    def checked(self, check: Check) -> "Choice":
        """With every option in its path's type."""
        return Choice(*map(check, self.options), weights=self.weights)

    def _ends(self) -> list[float]:
        weights = self.weights or (1.0,) * len(self.options)
        total = sum(weights)
        return [sum(weights[: count + 1]) / total for count in range(len(weights))]


@dataclass(frozen=True, init=False)
class Permutation(Domain):
    """A list made of all the fragments (single values or lists) in any order, each order as likely as the others."""

    fragments: tuple[tuple[Value, ...], ...]

    def __init__(self, *fragments: Any) -> None:
        frozen = tuple(as_tuples(each) if isinstance(each, tuple | list) else (each,) for each in fragments)
        if not 2 <= len(frozen) <= _MOST_ORDERS:
            raise ConfigError(f"Permutation has {len(frozen)} fragments; 2 to {_MOST_ORDERS} can be ordered")
        object.__setattr__(self, "fragments", frozen)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Permutation":
        """The permutation that `to_json` described."""
        return cls(*values["fragments"])

    @property
    def values(self) -> tuple[Value, ...]:
        """The lists of all orders, the declared one first."""
        orders = (tuple(value for fragment in order for value in fragment) for order in permutations(self.fragments))
        return tuple(dict.fromkeys(orders))

    def quantile(self, share: float) -> Value:
        """The list in whose part of the unit interval `share` lies."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def share(self, value: Any) -> float | None:
        """The middle of the list's part of the unit interval."""
        orders, wanted = self.values, as_tuples(value)
        return (orders.index(wanted) + 0.5) / len(orders) if wanted in orders else None

    def checked(self, check: Check) -> "Permutation":
        """With every fragment in its path's type."""
        return Permutation(*(check(fragment) for fragment in self.fragments))


@dataclass(frozen=True, init=False)
class Fragments(Domain):
    """One of some named parts of a configuration, each of which sets several paths at once."""

    parts: Mapping[str, Mapping[str, Value]]

    def __init__(self, parts: Mapping[str, Mapping[str, Value]] | None = None, /, **named: Mapping[str, Value]) -> None:
        parts = {**(parts or {}), **named}
        for name, part in parts.items():
            if not isinstance(part, Mapping):
                raise ConfigError(f"Fragments: {name} = {part!r} is not a mapping of paths to values")
        merged = {name: {path: as_tuples(value) for path, value in part.items()} for name, part in parts.items()}
        if not merged:
            raise ConfigError("Fragments() has no parts")
        object.__setattr__(self, "parts", merged)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Fragments":
        """The fragments that `to_json` described."""
        return cls(values["parts"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fragments) and repr(self) == repr(other)  # the order of the parts counts

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def values(self) -> tuple[Value, ...]:
        """The names of the parts in their order."""
        return tuple(self.parts)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that one of the parts sets."""
        return tuple(dict.fromkeys(path for part in self.parts.values() for path in part))

    def quantile(self, share: float) -> Value:
        """The name in whose part of the unit interval `share` lies."""
        return self.values[min(int(share * len(self.parts)), len(self.parts) - 1)]

    def share(self, value: Any) -> float | None:
        """The middle of the part's interval."""
        return (self.values.index(value) + 0.5) / len(self.parts) if value in self.values else None

    def with_checked_parts(self, check: Callable[[str, Any], Any]) -> "Fragments":
        """With every value in the type of its own path."""
        return Fragments(
            {name: {path: check(path, value) for path, value in part.items()} for name, part in self.parts.items()}
        )


@dataclass(frozen=True, init=False)
class IntUniform(Domain):
    """A whole number from `low` to `high`, both included, in steps of `step`."""

    low: int
    high: int
    step: int = bounded(1, minimum=1)

    def __init__(self, low: int, high: int, step: int = 1) -> None:
        set_fields(self, low=low, high=high, step=step)
        if self.low > self.high:
            raise ConfigError(f"IntUniform: low = {low!r} is above high = {high!r}")

    @property
    def values(self) -> range:
        """Every number."""
        return range(self.low, self.high + 1, self.step)

    def quantile(self, share: float) -> Value:
        """The number in whose part of the unit interval `share` lies."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def share(self, value: Any) -> float | None:
        """The middle of the number's part of the unit interval."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        whole = int(value)
        return (self.values.index(whole) + 0.5) / len(self.values) if whole == value and whole in self.values else None

    def checked(self, check: Check) -> "IntUniform":
        """The first and the last are legal for the path."""
        check(self.values[0]), check(self.values[-1])
        return self
