"""YAML files as plain data, with the line of everything in them."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.check.model import Place

Keys = tuple[str | int, ...]
"""The way to a value: keys of mappings and positions in lists."""


@dataclass(frozen=True)
class Document:
    """One document of a YAML file.

    Attributes
    ----------
    file : str
        Relative to the project.
    data : Any
        Plain values.
    lines : dict
        The line of each value, by its keys.
    """

    file: str
    data: Any
    lines: dict[Keys, int]

    def place(self, *keys: str | int) -> Place:
        """Where the value with those keys is, or what is there of the way to it."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.lines:
                return Place(self.file, self.lines[keys[:length]])
        return Place(self.file)

    def get(self, *keys: str | int) -> Any:
        """The value with those keys; None if there is none."""
        value = self.data
        for key in keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    @property
    def kind(self) -> str | None:
        """Of a Kubernetes manifest."""
        return self.data.get("kind") if isinstance(self.data, dict) and "apiVersion" in self.data else None


class DocumentError(Exception):
    """A file that is not YAML, or says something twice."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


def read_documents(path: Path, file: str) -> list[Document]:
    """All documents of a YAML file; empty ones are left out.

    Raises
    ------
    DocumentError
        If it cannot be parsed, or a mapping has a key twice.
    """
    try:
        nodes = list(yaml.compose_all(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        return [_document(node, file) for node in nodes if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise DocumentError(Place(file, line), f"not YAML: {error.problem or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentError(Place(file), f"not YAML: {error}") from error


def _document(node: yaml.Node, file: str) -> Document:
    lines: dict[Keys, int] = {}
    for keys, line in _lines(node, (), file):
        lines[keys] = line
    constructor = yaml.SafeLoader("")
    return Document(file, constructor.construct_document(node), lines)


def _lines(node: yaml.Node, keys: Keys, file: str) -> Iterator[tuple[Keys, int]]:
    yield keys, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            if key.value in seen:
                raise DocumentError(Place(file, key.start_mark.line + 1), f"{key.value} is said twice; keep one")
            seen.add(key.value)
            for inner, line in _lines(value, (*keys, key.value), file):
                # A value on lines of its own belongs to the line of its key, where a reader looks for it.
                yield inner, key.start_mark.line + 1 if len(inner) == len(keys) + 1 else line
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield from _lines(value, (*keys, position), file)
