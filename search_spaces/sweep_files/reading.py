"""A sweep file's YAML as plain values: small, of one document, and without a key that is given twice."""

import itertools
from pathlib import Path
from typing import Any

import yaml

from satdet.config import ConfigError
from search_spaces.sweep_files.checks import shown

_MOST_BYTES = 100_000
_MOST_VALUES = 20_000
_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + kind for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")}


class _Loader(yaml.SafeLoader):
    """A safe loader that leaves dates as text."""


def _as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor(f"{_TAG}timestamp", _as_text)


def read_document(path: Path) -> dict[str, Any]:
    """The mapping that a sweep file holds, its keys text.

    Raises
    ------
    ConfigError
        In one line, without the file's name: for a file that cannot be read, is too large, is no YAML, holds anything
        but one mapping, or repeats a key.
    """
    text = _text(path)
    try:
        documents = list(itertools.islice(yaml.compose_all(text, _Loader), 2))
        if len(documents) > 1:
            raise ConfigError("holds several YAML documents; a sweep is one")
        if not documents:
            raise ConfigError("is empty; a sweep needs at least method and parameters")
        _expanded(documents[0], {})
        document = _Loader("").construct_document(documents[0])
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{_line(error.problem_mark)}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(str(error).partition("\n")[0]) from None
    except RecursionError:
        raise ConfigError("is nested too deeply") from None
    except OverflowError as error:
        raise ConfigError(f"holds a value that cannot be read: {error}") from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"holds a value that cannot be read: {error}") from None
    if document is None:
        raise ConfigError("is empty; a sweep needs at least method and parameters")
    if not isinstance(document, dict):
        raise ConfigError(f"holds {shown(document)}, not a mapping with method and parameters")
    return document


def _text(path: Path) -> str:
    if not path.exists():
        raise ConfigError("no such file")
    if not path.is_file():
        raise ConfigError("is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"is larger than {_MOST_BYTES} bytes; no sweep is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text") from None


def _expanded(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """The number of values of a node with its aliases written out; what makes no sense in a sweep is refused."""
    known = sizes.get(id(node), 0)
    if known is None:
        raise ConfigError(f"{_line(node.start_mark)}an alias holds itself")
    if known:
        return known
    if node.tag not in _TAGS:
        raise ConfigError(f"{_line(node.start_mark)}the tag {node.tag.replace(_TAG, '!!')} has no place in a sweep")
    sizes[id(node)] = None
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    size = 1 + sum(_expanded(child, sizes) for child in children)
    if size > _MOST_VALUES:
        raise ConfigError(f"holds more than {_MOST_VALUES} values when its aliases are written out; no sweep does")
    sizes[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
            raise ConfigError(f"{_line(key.start_mark)}the key {shown(key.value)} is not text; put it in quotes")
        line = key.start_mark.line + 1
        if key.value in first:
            raise ConfigError(f"line {line}: the key {shown(key.value)} was given before, in line {first[key.value]}")
        first[key.value] = line


def _line(mark: Any) -> str:
    return "" if mark is None else f"line {mark.line + 1}: "
