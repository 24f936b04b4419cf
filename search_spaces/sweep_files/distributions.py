"""The parameters of a sweep file as domains: every distribution of W&B's schema, and what it means in a grid."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from satdet.config import ConfigError, leaf
from search_spaces.declare import (
    Beta,
    Choice,
    Constant,
    Domain,
    IntUniform,
    InverseLogUniform,
    LogNormal,
    LogUniform,
    Normal,
    Quantised,
    Uniform,
)
from search_spaces.declare.distributions import Continuous
from search_spaces.sweep_files.checks import at, check_keys, number, one_of, sequence, shown, whole
from search_spaces.sweep_files.values import kind_of, typed

Warn = Callable[[str], None]
Numbers = Mapping[str, float]

MOST_CELLS = 10_000
"""Trials of a grid; a larger one is refused before it is made."""
_SUM_TOLERANCE = 1e-6
_PROBES = [(count + 0.5) / 64 for count in range(64)]
_DIGITS = 12


@dataclass(frozen=True)
class _Kind:
    """A distribution of real numbers: its keys with their defaults (None: must be given), and the domain it is."""

    keys: Mapping[str, float | None]
    domain: Callable[[Numbers], Continuous]


_ENDS: Mapping[str, float | None] = {"min": None, "max": None}
_MOMENTS: Mapping[str, float | None] = {"mu": 0.0, "sigma": 1.0}
_SHAPES: Mapping[str, float | None] = {"a": 1.0, "b": 1.0}

_REAL: Mapping[str, _Kind] = {
    "uniform": _Kind(_ENDS, lambda given: Uniform(given["min"], given["max"])),
    "log_uniform_values": _Kind(_ENDS, lambda given: LogUniform(given["min"], given["max"])),
    "inv_log_uniform_values": _Kind(_ENDS, lambda given: InverseLogUniform(given["min"], given["max"])),
    "normal": _Kind(_MOMENTS, lambda given: Normal(given["mu"], given["sigma"])),
    "log_normal": _Kind(_MOMENTS, lambda given: LogNormal(given["mu"], given["sigma"])),
    "beta": _Kind(_SHAPES, lambda given: Beta(given["a"], given["b"])),
}
_QUANTISED = {f"q_{name}": name for name in _REAL if name != "inv_log_uniform_values"}
_EXPONENTS = {
    "log_uniform": "log_uniform_values",
    "inv_log_uniform": "inv_log_uniform_values",
    "q_log_uniform": "q_log_uniform_values",
}
_OTHER_KEYS = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": ("min", "max"),
}

DISTRIBUTIONS = (*_OTHER_KEYS, *_REAL, *_QUANTISED)
"""Every distribution that can be searched."""
KEYS = ("distribution", "value", "values", "probabilities", "min", "max", "q", "mu", "sigma", "a", "b", "parameters")
"""Every key that a parameter may have."""
_MOST_PREPARED = 100
_PREPARED = "tiles are prepared anew for each; write values: [...]"
_IN_GRIDS = ("constant", "categorical", "int_uniform", "q_uniform")


def domain_of(entry: Mapping[str, Any], path: str, place: str, *, grid: bool, warn: Warn) -> Domain:
    """The domain that a parameter's `entry` describes.

    Parameters
    ----------
    entry : mapping
        The keys under the parameter's name.
    path : str
        Of the configuration.
    place : str
        Where the file has it, for messages.
    grid : bool
        Whether the sweep is a grid, for which W&B makes lists of `int_uniform` and `q_uniform`.
    warn : callable
        Is told what the file's author may not expect.

    Raises
    ------
    ConfigError
        For a distribution that does not exist, lacks a key or has one too many, has numbers that make no sense, cannot
        be in a grid, or draws what `path` cannot hold.
    """
    check_keys(entry, KEYS, place)
    name = _distribution(entry, path, place, warn)
    if grid and name not in _IN_GRIDS:
        raise ConfigError(f"{place}: a grid cannot have {name}; it takes {', '.join(_IN_GRIDS)}")
    if name == "constant":
        return Constant(typed(entry["value"], path, at(place, "value")))
    if name.startswith("categorical"):
        return _choice(entry, path, place, grid, warn)
    if path.startswith("tiles."):
        _check_tiles(name, entry, path, place)
    if kind_of(path) not in (int, float):
        raise ConfigError(f"{place}: {name} draws numbers, which {path} does not take; write values: [...]")
    if name == "int_uniform":
        return _whole_numbers(entry, path, place, grid)
    if grid:
        return _steps(entry, path, place)
    return _real_numbers(name, entry, path, place)


def _distribution(entry: Mapping[str, Any], path: str, place: str, warn: Warn) -> str:
    """The distribution that is named, or follows from the keys; its keys are there, and no others."""
    if "distribution" in entry:
        name = one_of(entry["distribution"], (*DISTRIBUTIONS, *_EXPONENTS), at(place, "distribution"))
    else:
        name = _inferred(entry, path, place, warn)
    if name in _EXPONENTS:
        raise ConfigError(f"{place}: {_modern(name, entry)}")
    keys = _keys(name)
    foreign = [key for key in entry if key not in keys and key != "distribution"]
    if foreign:
        raise ConfigError(f"{at(place, foreign[0])}: {name} has no such key; it takes {', '.join(keys)}")
    missing = [key for key, default in keys.items() if default is None and key not in entry]
    if missing:
        raise ConfigError(f"{place}: {name} needs {' and '.join(missing)}")
    return name


def _keys(name: str) -> Mapping[str, float | None]:
    if name in _OTHER_KEYS:
        return dict.fromkeys(_OTHER_KEYS[name])
    if name in _QUANTISED:
        return {**_REAL[_QUANTISED[name]].keys, "q": 1.0}
    return _REAL[name].keys


def _inferred(entry: Mapping[str, Any], path: str, place: str, warn: Warn) -> str:
    if "value" in entry:
        return "constant"
    if "values" in entry:
        return "categorical_w_probabilities" if "probabilities" in entry else "categorical"
    if "min" not in entry or "max" not in entry:
        raise ConfigError(f"{place}: needs value, values, min and max, or a distribution")
    if "q" in entry:
        raise ConfigError(f"{place}: q needs a distribution; write distribution: q_uniform")
    low, high = number(entry["min"], at(place, "min")), number(entry["max"], at(place, "max"))
    if not isinstance(low, int) or not isinstance(high, int):
        return "uniform"
    if kind_of(path) is float:
        warn(
            f"{place} is int_uniform, as W&B has it where min and max are whole: only whole numbers are tried; write "
            f"distribution: uniform for all between"
        )
    return "int_uniform"


def _modern(name: str, entry: Mapping[str, Any]) -> str:
    """The same distribution in the spelling that is still accepted."""
    modern, ends = _EXPONENTS[name], ""
    try:
        low, high = (math.exp(number(entry[key], key)) for key in ("min", "max"))
        if name == "inv_log_uniform":
            low, high = 1 / high, 1 / low
        ends = f" with min: {low:.6g} and max: {high:.6g} (e to the power of these numbers)"
    except (KeyError, ConfigError, OverflowError, ZeroDivisionError):
        ends = " with the values themselves, not their exponents, as min and max"
    return f"{name} is no longer accepted, by W&B neither; write distribution: {modern}{ends}"


def _choice(entry: Mapping[str, Any], path: str, place: str, grid: bool, warn: Warn) -> Choice:
    given = sequence(entry["values"], at(place, "values"))
    values = [typed(value, path, f"{at(place, 'values')}[{index}]") for index, value in enumerate(given)]
    shares = [1.0] * len(values)
    if "probabilities" in entry:
        shares = _probabilities(entry["probabilities"], len(values), at(place, "probabilities"))
    weights: dict[str, float] = {}
    for value, share in zip(values, shares, strict=True):
        weights[repr(value)] = weights.get(repr(value), 0.0) + share
    options = list({repr(value): value for value in values}.values())
    if len(options) < len(values):
        effect = "tried once" if grid else "drawn as often as all of them"
        warn(f"{at(place, 'values')} has equal values; each is {effect}")
    weighted = not grid and len(set(weights.values())) > 1
    return Choice(*options, weights=tuple(weights.values()) if weighted else None)


def _probabilities(given: Any, values: int, place: str) -> list[float]:
    shares = [float(number(share, f"{place}[{index}]")) for index, share in enumerate(sequence(given, place))]
    if len(shares) != values:
        raise ConfigError(f"{place} has {len(shares)} entries for {values} values")
    for index, share in enumerate(shares):
        if share < 0:
            raise ConfigError(f"{place}[{index}] = {share!r} is negative")
    if abs(sum(shares) - 1) > _SUM_TOLERANCE:
        raise ConfigError(f"{place} sum to {sum(shares):.6g}, not to 1")
    return shares


def _whole_numbers(entry: Mapping[str, Any], path: str, place: str, grid: bool) -> IntUniform:
    low, high = (whole(entry[key], at(place, key)) for key in ("min", "max"))
    _check_order(low, high, place)
    if grid:
        _check_count(high - low + 1, place)
    domain = IntUniform(low, high)
    return domain.checked(lambda value: leaf(path).check(value, _label(place, path)))


def _steps(entry: Mapping[str, Any], path: str, place: str) -> Choice:
    """What W&B tries of `q_uniform` in a grid: from min in steps of q, without max."""
    given = _numbers(entry, _keys("q_uniform"), place)
    low, high, step = given["min"], given["max"], given["q"]
    _check_order(low, high, place)
    _check_step(step, place)
    _check_count((high - low) / step, place)
    values = (float(f"{low + count * step:.{_DIGITS}g}") for count in range(math.ceil((high - low) / step - 1e-9)))
    return Choice(*(typed(value, path, _label(place, path)) for value in values))


def _real_numbers(name: str, entry: Mapping[str, Any], path: str, place: str) -> Domain:
    given = _numbers(entry, _keys(name), place)
    if "min" in given:
        _check_order(given["min"], given["max"], place)
    if "log_uniform" in name and given["min"] <= 0:
        raise ConfigError(f"{at(place, 'min')} = {shown(given['min'])}: {name} needs a min above 0")
    if given.get("sigma", 1) <= 0:
        raise ConfigError(f"{at(place, 'sigma')} = {shown(given['sigma'])}: {name} needs a sigma above 0")
    whole_path = kind_of(path) is int
    if name not in _QUANTISED:
        if whole_path:
            raise ConfigError(f"{place}: {name} draws real numbers, and {path} takes whole ones; {_whole_form(name)}")
        return _checked(_REAL[name].domain, given, path, place)
    _check_step(given["q"], place)
    if whole_path and not float(given["q"]).is_integer():
        raise ConfigError(f"{at(place, 'q')} = {shown(given['q'])}: {path} takes whole numbers, so q must be whole")
    real = _REAL[_QUANTISED[name]]
    return _checked(lambda values: Quantised(real.domain(values), values["q"]), given, path, place)


def _check_tiles(name: str, entry: Mapping[str, Any], path: str, place: str) -> None:
    """Tiles are prepared before the search, once for each value of a path that decides on them."""
    if name not in ("int_uniform", "q_uniform", "q_log_uniform_values", "q_beta"):
        raise ConfigError(f"{place}: {path} needs finitely many values, and {name} has more; {_PREPARED}")
    given = _numbers(entry, {**_keys(name), "q": 1.0}, place)
    values = (given.get("max", 1.0) - given.get("min", 0.0)) / given["q"] if given["q"] > 0 else 0
    if values > _MOST_PREPARED:
        raise ConfigError(f"{place}: {path} has {shown(values)} values; {_PREPARED}")


def _whole_form(name: str) -> str:
    form = {"uniform": "int_uniform", "inv_log_uniform_values": "q_log_uniform_values"}.get(name, f"q_{name}")
    return f"write distribution: {form}"


def _numbers(entry: Mapping[str, Any], keys: Mapping[str, float | None], place: str) -> dict[str, float]:
    return {key: number(entry.get(key, default), at(place, key)) for key, default in keys.items()}


def _checked(make: Callable[[Numbers], Domain], given: Numbers, path: str, place: str) -> Domain:
    """The domain, if both its ends are legal for its path, or a draw of an endless one is."""
    label = _label(place, path)
    try:
        domain = make(given).checked(lambda value: leaf(path).check(value, label))
        if not any(_legal(domain, share, path) for share in _PROBES):
            raise ConfigError("it draws nothing that is legal")
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(place) else f"{label}: {error}") from None
    except (OverflowError, ValueError) as error:
        raise ConfigError(f"{label}: its numbers are out of all bounds: {error}") from None
    return domain


def _legal(domain: Domain, share: float, path: str) -> bool:
    value = domain.quantile(share)
    try:
        leaf(path).check(value, path)
    except ConfigError:
        return False
    return True


def _label(place: str, path: str) -> str:
    return f"{place} ({path})"


def _check_order(low: float, high: float, place: str) -> None:
    if not low < high:
        raise ConfigError(f"{place}: min = {shown(low)} is not below max = {shown(high)}")


def _check_step(step: float, place: str) -> None:
    if not step > 0:
        raise ConfigError(f"{at(place, 'q')} = {shown(step)} is not above 0")


def _check_count(values: float, place: str) -> None:
    if values > MOST_CELLS:
        raise ConfigError(f"{place}: a grid with {shown(values)} values; use method: random, or fewer values")


def cells_of(domains: Iterable[Domain]) -> int:
    """The number of cells of a grid of such domains."""
    return math.prod(len(domain.values or ()) for domain in domains)
