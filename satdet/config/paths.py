"""Paths: the one spelling of a hyperparameter, from ``--set`` and search spaces to the trackers."""

import dataclasses
import functools
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from satdet._fields import check_range, coerce, unknown_name
from satdet.config.trial import TrialConfig
from satdet.errors import ConfigError


def flatten(config: Any) -> dict[str, Any]:
    """All values of a configuration by path, in the order of declaration; tuples become lists (JSON's types)."""
    return dict(_flat_items(config, ""))


def unflatten(values: Mapping[str, Any]) -> TrialConfig:
    """The configuration that `values` (by path) describes; what is not named keeps its default.

    Raises
    ------
    ConfigError
        For an unknown path, or a value outside its type or range.
    """
    return with_values(TrialConfig(), values)


def with_values(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """A copy of `config` with the values of some paths replaced, each checked.

    Raises
    ------
    ConfigError
        For an unknown path (the known ones are listed), or a value outside its type or range.
    """
    for path, value in values.items():
        leaf(path).check(value, path)
    return typing.cast(TrialConfig, _replaced(config, values))


def parse_value(path: str, text: str) -> Any:
    """The value that `text` (of ``--set path=text``) means for `path`; ``1e-3`` is a number, ``null`` is None.

    Raises
    ------
    ConfigError
        For an unknown path, or a value outside its type or range.
    """
    known = leaf(path)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{path} = {text!r} cannot be read as a value") from None
    if isinstance(value, str):
        value = _number(value)
    return known.check(value, path)


def digest(config: Any, length: int = 12) -> str:
    """A stable hexadecimal digest of a configuration (or any sub-tree of one)."""
    text = json.dumps(flatten(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Leaf:
    """What one path may hold."""

    hint: Any
    limits: Mapping[str, Any]

    def check(self, value: Any, label: str) -> Any:
        """Return `value` in the leaf's type, or raise ConfigError naming `label`."""
        value = coerce(value, self.hint, label)
        check_range(value, dict(self.limits), label)
        return value


def leaf(path: str) -> Leaf:
    """What `path` may hold.

    Raises
    ------
    ConfigError
        For an unknown path: with the nearest known one, and the known ones of its section.
    """
    known = leaf_paths()
    if path in known:
        return known[path]
    section = [key for key in known if key.startswith(path.partition(".")[0] + ".")]
    raise ConfigError(unknown_name("key", path, section or known))


@functools.cache
def leaf_paths(root: type = TrialConfig, prefix: str = "") -> Mapping[str, Leaf]:
    """Every legal path with its type and range."""
    leaves: dict[str, Leaf] = {}
    hints = typing.get_type_hints(root)
    for entry in dataclasses.fields(root):
        hint = hints[entry.name]
        if dataclasses.is_dataclass(hint):
            leaves |= dict(leaf_paths(typing.cast(type, hint), f"{prefix}{entry.name}."))
        else:
            leaves[prefix + entry.name] = Leaf(hint, entry.metadata)
    return leaves


def _flat_items(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _flat_items(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, list(value) if isinstance(value, tuple) else value


def _replaced(config: Any, values: Mapping[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for entry in dataclasses.fields(config):
        inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(entry.name + ".")}
        if inner:
            changes[entry.name] = _replaced(getattr(config, entry.name), inner)
        elif entry.name in values:
            changes[entry.name] = values[entry.name]
    return dataclasses.replace(config, **changes)


def _number(text: str) -> Any:
    """YAML 1.1 reads ``1e-3`` as text because it has no dot; everybody means a number."""
    try:
        return float(text)
    except ValueError:
        return text
