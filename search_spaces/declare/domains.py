"""What one hyperparameter may be: frozen values with a quantile function, which is all that sampling needs.

Every domain maps the unit interval to its values by the inverse of its distribution function, so that random numbers,
Sobol points and a model's suggestions in the unit cube all lead to values with the declared distribution.
"""

from collections.abc import Mapping
from typing import Any

from satdet.config import ConfigError
from search_spaces.declare.discrete import Choice, Constant, Fragments, IntUniform, Permutation
from search_spaces.declare.distributions import CONTINUOUS, LogUniform, Quantised
from search_spaces.declare.domain import Domain
from search_spaces.declare.plain import of_kind

_DIGITS = 12


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


_COUNTED: tuple[type[Domain], ...] = (Constant, Choice, Permutation, Fragments, IntUniform, Quantised)
DOMAINS: Mapping[str, type[Domain]] = {kind.__name__: kind for kind in _COUNTED} | dict(CONTINUOUS)
"""Every domain that a space may hold, by its kind."""


def _shares(points: int) -> list[float]:
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise ConfigError(f"a grid of {points!r} points; at least 2 are needed")
    return [number / (points - 1) for number in range(points)]
