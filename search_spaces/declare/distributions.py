"""Domains of real numbers, and of the multiples of a step."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from typing import Any, Self

from satdet.config import ConfigError, bounded
from search_spaces.declare.domain import Check, Domain, Value, set_fields
from search_spaces.declare.plain import of_kind

_MOST_STEPS = 2**53
"""Beyond it neighbouring multiples of a step are one and the same number."""
_TAIL = 1e-9
_MOST_EXPONENT = 700.0
"""Up to it, and down to its negative, an exponential is a number other than 0."""
_PROBES = (0.5, 0.05, 0.95, 0.25, 0.75)


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
        set_fields(self, low=low, high=high)
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
        set_fields(self, mean=mean, std=std)

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
        set_fields(self, a=a, b=b)

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
        set_fields(self, step=step)
        if max(map(abs, (of.quantile(0.0), of.quantile(1.0)))) / self.step > _MOST_STEPS:
            raise ConfigError(f"Quantised: step = {step!r} is too fine for {of!r}; leave the steps out")
        if self._first > self._last:
            raise ConfigError(f"Quantised: no multiple of {step!r} lies in {of!r}")

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Quantised":
        """The quantised domain that `to_json` described."""
        return cls(of_kind(values["of"], CONTINUOUS, "distribution"), values["step"])

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


CONTINUOUS: Mapping[str, type[Continuous]] = {
    kind.__name__: kind for kind in (Uniform, LogUniform, InverseLogUniform, Normal, LogNormal, Beta)
}
"""Every domain of real numbers, by its kind."""


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
