"""W&B's ``early_terminate`` as a scheduler; an iteration, one logged value of the metric, is an epoch here."""

from collections.abc import Callable, Mapping
from typing import Any

from satdet.config import ConfigError
from search_spaces.declare import HyperbandStopping
from search_spaces.sweep_files.checks import at, check_keys, flag, number, one_of, shown, whole

KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
"""Every key that ``early_terminate`` may have."""
_PLACE = "early_terminate"
_MOST_BANDS = 100
_DEFAULT_ETA = 3.0


def stopping_of(section: Mapping[str, Any], epochs: int, warn: Callable[[str], None]) -> HyperbandStopping:
    """The scheduler that the section describes.

    Its bands are ``min_iter * eta**i`` below the trials' `epochs`, or ``max_iter / eta**i`` for ``i`` from 1 to ``s``.

    Raises
    ------
    ConfigError
        For another type, a key that is missing or unknown, or numbers without a single band.
    """
    check_keys(section, KEYS, _PLACE)
    if "type" not in section:
        raise ConfigError(f"{_PLACE}.type is missing; write type: hyperband")
    one_of(section["type"], ["hyperband"], at(_PLACE, "type"))
    eta = number(section.get("eta", _DEFAULT_ETA), at(_PLACE, "eta"))
    if not eta > 1:
        raise ConfigError(f"{_PLACE}.eta = {shown(eta)} is not above 1")
    strict = flag(section.get("strict", True), at(_PLACE, "strict"))
    bands = _bands(section, eta, epochs, warn)
    if bands[0] >= epochs:
        warn(f"{_PLACE}: trials have {epochs} epochs, and its first band is {bands[0]}: no trial is stopped")
    return HyperbandStopping(rungs=bands, reduction=float(eta), strict=strict)


def _bands(section: Mapping[str, Any], eta: float, epochs: int, warn: Callable[[str], None]) -> tuple[int, ...]:
    given = {
        key: whole(section[key], at(_PLACE, key), minimum=1) for key in ("min_iter", "max_iter", "s") if key in section
    }
    if "max_iter" in given and "s" in given:
        if "min_iter" in given:
            warn(f"{_PLACE}.min_iter is not used: W&B takes max_iter and s where all three are given")
        return _backwards(given["max_iter"], given["s"], eta)
    if "min_iter" not in given:
        raise ConfigError(f"{_PLACE} needs min_iter, or both max_iter and s")
    for key in ("max_iter", "s"):
        if key in given:
            warn(f"{_PLACE}.{key} is not used: it counts only where max_iter and s are both given")
    return _forwards(given["min_iter"], eta, epochs)


def _forwards(first: int, eta: float, epochs: int) -> tuple[int, ...]:
    bands, band = [first], float(first) if first < epochs else float(epochs)
    for _ in range(_MOST_BANDS - 1):
        band *= eta
        if band >= epochs:
            break
        bands.append(int(band))
    return tuple(sorted(set(bands)))


def _backwards(last: int, steps: int, eta: float) -> tuple[int, ...]:
    bands, band = [], float(last)
    for _ in range(min(steps, _MOST_BANDS)):
        band /= eta
        if band < 1:
            break
        bands.append(int(band))
    if not bands:
        raise ConfigError(f"{_PLACE}: max_iter = {last} divided by eta = {eta:g} is below 1, so that there is no band")
    return tuple(sorted(set(bands)))
