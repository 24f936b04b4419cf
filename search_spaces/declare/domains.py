"""What one hyperparameter may be: frozen values with a quantile function, which is all that sampling needs.

Every domain maps the unit interval to its values by the inverse of its distribution function, so that random numbers,
Sobol points and a model's suggestions in the unit cube all lead to values with the declared distribution.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import permutations
from statistics import NormalDist
from typing import Any, Self

from satdet.config import ConfigError, bounded
from search_spaces.declare.plain import Setting, of_kind

Value = str | int | float | bool | None | tuple[Any, ...]
Check = Callable[[Any], Any]
"""Returns a value in the type of its path, or raises ConfigError."""

_MOST_ORDERS = 6
_DIGITS = 12
_MOST_STEPS = 2**53
"""Beyond it neighbouring multiples of a step are one and the same number."""
_TAIL = 1e-9
_MOST_EXPONENT = 700.0
"""Up to it, and down to its negative, an exponential is a number other than 0."""
_PROBES = (0.5, 0.05, 0.95, 0.25, 0.75)


@dataclass(frozen=True, kw_only=True)
class Domain(Setting, ABC):
    """Base of all domains."""

    @property
    def values(self) -> Sequence[Value] | None:
        """All values in order, if they are finitely many."""
        return None

    @abstractmethod
    def quantile(self, share: float) -> Value:
        """The value below which (or at which) a `share` in [0, 1) of the distribution lies."""

    @abstractmethod
    def share(self, value: Any) -> float | None:
        """A share whose quantile is `value`; None if the domain does not hold it."""

    def checked(self, check: Check) -> Self:
        """The domain with its values in the type of its path.

        Raises
        ------
        ConfigError
            If `check` refuses one of them.
        """
        return self


@dataclass(frozen=True, init=False)
class Constant(Domain):
    """One value that is not searched, but belongs to the space."""

    value: Value

    def __init__(self, value: Value) -> None:
        object.__setattr__(self, "value", _frozen(value))

    @property
    def values(self) -> tuple[Value, ...]:
        """The value alone."""
        return (self.value,)

    def quantile(self, share: float) -> Value:
        """The value."""
        return self.value

    def share(self, value: Any) -> float | None:
        """0 for the value itself."""
        return 0.0 if _same(value, self.value) else None

    def checked(self, check: Check) -> "Constant":
        """With the value in its path's type."""
        return Constant(check(self.value))


@dataclass(frozen=True, init=False)
class Choice(Domain):
    """One of some values, each as likely as the others or by `weights`, which are relative."""

    options: tuple[Value, ...]
    weights: tuple[float, ...] | None

    def __init__(self, *options: Value, weights: tuple[float, ...] | list[float] | None = None) -> None:
        options = tuple(map(_frozen, options))
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
            if _same(value, option):
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
        frozen = tuple(_frozen(each) if isinstance(each, tuple | list) else (each,) for each in fragments)
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
        orders, wanted = self.values, _frozen(value)
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
        merged = {name: {path: _frozen(value) for path, value in part.items()} for name, part in parts.items()}
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
        _set(self, low=low, high=high, step=step)
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


@dataclass(frozen=True, init=False)
class Continuous(Domain):
    """Base of the domains of real numbers."""

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest value, infinite where there is none."""
        return -math.inf, math.inf

    @abstractmethod
    def quantile(self, share: float) -> float:
        """The value below which a `share` of the distribution lies."""

    def share(self, value: Any) -> float | None:
        """The share of the distribution below `value`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not self.quantile(0.0) <= value <= self.quantile(1.0):
            return None
        return self.below(float(value))

    def checked(self, check: Check) -> Self:
        """Some of its draws are legal for the path; others are drawn again."""
        _check_draws(self, check)
        return self

    def below(self, value: float) -> float:
        """The distribution function, from 0 to 1 over all real numbers."""
        low, high = self.support
        if not low < value < high:
            return 0.0 if value <= low else 1.0
        return min(max(self._below(value), 0.0), 1.0)

    @abstractmethod
    def _below(self, value: float) -> float:
        """The distribution function inside the support."""


@dataclass(frozen=True, init=False)
class _Interval(Continuous):
    low: float
    high: float

    def __init__(self, low: float, high: float) -> None:
        _set(self, low=low, high=high)
        if not self.low < self.high:
            raise ConfigError(f"{type(self).__name__}: low = {low!r} is not below high = {high!r}")
        if not math.isfinite(self.high - self.low):
            raise ConfigError(f"{type(self).__name__}: from {low!r} to {high!r} is too far")
        if self._positive and self.low <= 0:
            raise ConfigError(f"{type(self).__name__}: low = {low!r} is not above 0, and it needs a logarithm")

    @property
    def support(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high

    def checked(self, check: Check) -> Self:
        """Both ends are legal for the path."""
        check(self.low), check(self.high)
        return self

    @property
    def _positive(self) -> bool:
        return True

    def _within(self, value: float) -> float:
        """Rounding must not lead out of the interval."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, init=False)
class Uniform(_Interval):
    """A real number between `low` and `high`."""

    def quantile(self, share: float) -> float:
        """Linear in `share`."""
        return self._within(self.low + share * (self.high - self.low))

    @property
    def _positive(self) -> bool:
        return False

    def _below(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, init=False)
class LogUniform(_Interval):
    """A positive real number between `low` and `high` whose logarithm is uniform."""

    def quantile(self, share: float) -> float:
        """Exponential in `share`."""
        return self._within(math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))))

    def _below(self, value: float) -> float:
        return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))


@dataclass(frozen=True, init=False)
class InverseLogUniform(LogUniform):
    """A positive real number x between `low` and `high` such that log(1 / x) is uniform.

    Then log(x) is uniform too: this is `LogUniform` by the name that W&B's sweeps have for it.
    """


@dataclass(frozen=True, init=False)
class Normal(Continuous):
    """A real number around `mean` with standard deviation `std`. What its path cannot hold is drawn again."""

    mean: float
    std: float = bounded(1.0, above=0)

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        _set(self, mean=mean, std=std)

    def quantile(self, share: float) -> float:
        """Of the normal distribution; both ends are cut off at 1e-9."""
        return NormalDist(self.mean, self.std).inv_cdf(min(max(share, _TAIL), 1 - _TAIL))

    def _below(self, value: float) -> float:
        return NormalDist(self.mean, self.std).cdf(value)


@dataclass(frozen=True, init=False)
class LogNormal(Normal):
    """A positive real number whose natural logarithm is normal with `mean` and `std`."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(mean, std)
        if max(abs(super(LogNormal, self).quantile(share)) for share in (0.0, 1.0)) > _MOST_EXPONENT:
            raise ConfigError(
                f"LogNormal: mean = {mean!r} and std = {std!r} are of the logarithm; e to the power of them is out of"
                f" all bounds"
            )

    @property
    def support(self) -> tuple[float, float]:
        """Above 0."""
        return 0.0, math.inf

    def quantile(self, share: float) -> float:
        """Exponential of the normal distribution's."""
        return math.exp(super().quantile(share))

    def _below(self, value: float) -> float:
        return super()._below(math.log(value))


@dataclass(frozen=True, init=False)
class Beta(Continuous):
    """A real number between 0 and 1 with density proportional to x**(a - 1) * (1 - x)**(b - 1)."""

    a: float = bounded(1.0, above=0)
    b: float = bounded(1.0, above=0)

    def __init__(self, a: float = 1.0, b: float = 1.0) -> None:
        _set(self, a=a, b=b)

    @property
    def support(self) -> tuple[float, float]:
        """From 0 to 1."""
        return 0.0, 1.0

    def quantile(self, share: float) -> float:
        """The inverse of the regularised incomplete beta function."""
        from scipy.special import betaincinv

        return float(betaincinv(self.a, self.b, share))

    def _below(self, value: float) -> float:
        from scipy.special import betainc

        return float(betainc(self.a, self.b, value))


@dataclass(frozen=True, init=False)
class Quantised(Domain):
    """Multiples of `step`: the one nearest to a draw of `of`, or the nearest that lies inside its ends."""

    of: Continuous
    step: float = bounded(1.0, above=0)

    def __init__(self, of: Continuous, step: float = 1.0) -> None:
        if not isinstance(of, Continuous):
            raise ConfigError(f"Quantised({of!r}): only a domain of real numbers can be quantised")
        object.__setattr__(self, "of", of)
        _set(self, step=step)
        if max(map(abs, (of.quantile(0.0), of.quantile(1.0)))) / self.step > _MOST_STEPS:
            raise ConfigError(f"Quantised: step = {step!r} is too fine for {of!r}; leave the steps out")
        if self._first > self._last:
            raise ConfigError(f"Quantised: no multiple of {step!r} lies in {of!r}")

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Quantised":
        """The quantised domain that `to_json` described."""
        return cls(domain_of_json(values["of"]), values["step"])

    @property
    def values(self) -> Sequence[Value] | None:
        """The multiples, if both ends are finite."""
        if not math.isfinite(self._first) or not math.isfinite(self._last):
            return None
        return _Multiples(self.step, range(int(self._first), int(self._last) + 1))

    def quantile(self, share: float) -> Value:
        """The multiple nearest to the quantile of what is quantised."""
        return _multiple(self.step, self._within(round(self.of.quantile(share) / self.step)))

    def share(self, value: Any) -> float | None:
        """The middle of the part of the unit interval that leads to `value`."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value / self.step) <= _MOST_STEPS:
            return None
        count = round(value / self.step)
        first, last = (self._within(round(self.of.quantile(end) / self.step)) for end in (0.0, 1.0))
        if not first <= count <= last or not math.isclose(_multiple(self.step, count), value, rel_tol=1e-9):
            return None
        start = 0.0 if count == first else self.of.below((count - 0.5) * self.step)
        end = 1.0 if count == last else self.of.below((count + 0.5) * self.step)
        return (start + end) / 2

    def checked(self, check: Check) -> "Quantised":
        """The first and the last multiple are legal for the path, or some of them where the ends are open."""
        if isinstance(self.of, _Interval):
            for count in (self._first, self._last):
                check(_multiple(self.step, int(count)))
        else:
            _check_draws(self, check)
        return self

    @property
    def _first(self) -> float:
        low = self.of.support[0] / self.step
        return math.ceil(low - 1e-9) if math.isfinite(low) else low

    @property
    def _last(self) -> float:
        high = self.of.support[1] / self.step
        return math.floor(high + 1e-9) if math.isfinite(high) else high

    def _within(self, count: int) -> int:
        return int(min(max(count, self._first), self._last))


@dataclass(frozen=True)
class _Multiples(Sequence[Value]):
    """The multiples of a step as a list of which nothing is made before it is asked for."""

    step: float
    counts: range

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, place: Any) -> Any:
        return _multiple(self.step, self.counts[place])


def LinearGrid(low: float, high: float, points: int) -> Choice:
    """A choice of `points` evenly spaced numbers, both ends included."""
    return Choice(*(round(low + (high - low) * share, _DIGITS) for share in _shares(points)))


def LogGrid(low: float, high: float, points: int) -> Choice:
    """A choice of `points` numbers evenly spaced on a logarithmic scale, both ends included."""
    exponents = LogUniform(low, high)
    return Choice(*(float(f"{exponents.quantile(share):.6g}") for share in _shares(points)))


def domain_of_json(data: Mapping[str, Any]) -> Any:
    """The domain that plain `data` describe.

    Raises
    ------
    ConfigError
        For an unknown kind.
    """
    return of_kind(data, DOMAINS, "domain")


DOMAINS: Mapping[str, type[Domain]] = {
    kind.__name__: kind
    for kind in (Constant, Choice, Permutation, Fragments, IntUniform, Uniform, LogUniform, InverseLogUniform, Normal,
                 LogNormal, Beta, Quantised)
}  # fmt: skip
"""Every domain that a space may hold, by its kind."""


def _shares(points: int) -> list[float]:
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise ConfigError(f"a grid of {points!r} points; at least 2 are needed")
    return [number / (points - 1) for number in range(points)]


def _set(domain: Any, **values: Any) -> None:
    """Set the fields of a frozen domain, checked against their types and ranges."""
    for name, value in values.items():
        object.__setattr__(domain, name, value)
    Setting.__post_init__(domain)


def _check_draws(domain: Domain, check: Check) -> None:
    """Raise what `check` says of the median, unless it accepts that or another draw."""
    refusals: list[ConfigError] = []
    for share in _PROBES:
        try:
            check(domain.quantile(share))
        except ConfigError as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]


def _multiple(step: float, count: int) -> int | float:
    """The number nearest to the product of what `step` says in decimals, without its binary rounding."""
    return count * int(step) if step.is_integer() else float(Decimal(repr(step)) * count)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _same(one: Any, other: Any) -> bool:
    """Equality that does not take True for 1."""
    return bool(_frozen(one) == _frozen(other)) and isinstance(one, bool) == isinstance(other, bool)
