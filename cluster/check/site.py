"""The files that are checked, read once."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from cluster.check.documents import Document, DocumentError, read_documents
from cluster.check.model import Place
from satdet.errors import UsageError

_PACKAGE = Path("cluster")
_MADE = {"secrets", "data", "__pycache__"}
"""Folders in `cluster` that scripts make."""


@dataclass(frozen=True)
class Script:
    """A shell script, or a file that scripts source."""

    file: str
    path: Path

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def sourced(self) -> bool:
        """Whether others source it, rather than run it."""
        return not self.text.startswith("#!")

    def commands(self) -> list[tuple[Place, str]]:
        """Its lines with what continues them, without comments."""
        return [(Place(self.file, line), text) for line, text in joined_lines(self.text)]


def joined_lines(text: str) -> list[tuple[int, str]]:
    """Lines joined at their backslashes, with the number of the first; comments and empty lines left out."""
    joined: list[tuple[int, str]] = []
    pending = ""
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not pending:
            first = number
            if line.lstrip().startswith("#"):
                continue
        pending += line.rstrip().removesuffix("\\")
        if not line.rstrip().endswith("\\"):
            if pending.strip():
                joined.append((first, pending.strip()))
            pending = ""
    if pending.strip():
        joined.append((first, pending.strip()))
    return joined


class Site:
    """A project folder whose `cluster` is checked.

    Parameters
    ----------
    root : Path
    crds : Path, optional
        Folder with KubeRay's CustomResourceDefinitions.

    Raises
    ------
    UsageError
        If there is no `cluster` folder in it, or no definitions in `crds`.
    """

    def __init__(self, root: Path, crds: Path | None = None) -> None:
        self.root = root
        self.folder = root / _PACKAGE
        if not self.folder.is_dir():
            raise UsageError(f"{self.folder}: no such folder; name the project's with --root")
        if crds is not None and not list(crds.glob("*.yaml")):
            raise UsageError(f"--crds {crds}: no CustomResourceDefinition (*.yaml) is there")
        self.crds = crds
        self.unreadable: list[tuple[Place, str]] = []

    @cached_property
    def files(self) -> list[Path]:
        """All files of `cluster` but the check's own and what scripts made."""
        inside = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [path for path in inside if not _MADE & set(path.relative_to(self.folder).parts) and not self._own(path)]

    def _own(self, path: Path) -> bool:
        return path.is_relative_to(self.folder / "check")

    def name(self, path: Path) -> str:
        """Relative to the project, for messages."""
        return path.relative_to(self.root).as_posix()

    @cached_property
    def documents(self) -> list[Document]:
        """Of all YAML files that can be read; the others are in `unreadable`."""
        found: list[Document] = []
        for path in self.files:
            if path.suffix in (".yaml", ".yml"):
                try:
                    found += read_documents(path, self.name(path))
                except DocumentError as error:
                    self.unreadable.append((error.place, str(error)))
        return found

    @cached_property
    def dashboards(self) -> list[tuple[str, str, Any]]:
        """JSON files that can be read: name, text and data; the others are in `unreadable`."""
        found = []
        for path in self.files:
            if path.suffix == ".json":
                text = path.read_text(encoding="utf-8")
                try:
                    found.append((self.name(path), text, json.loads(text)))
                except json.JSONDecodeError as error:
                    self.unreadable.append((Place(self.name(path), error.lineno), f"not JSON: {error.msg}"))
        return found

    @cached_property
    def ray_files(self) -> list[Document]:
        """Cluster files of ``ray up``."""
        return [each for each in self.documents if isinstance(each.data, dict) and "cluster_name" in each.data]

    @cached_property
    def manifests(self) -> list[Document]:
        """Of Kubernetes."""
        return [each for each in self.documents if each.kind]

    @cached_property
    def compose_files(self) -> list[Document]:
        """Of Docker."""
        return [each for each in self.documents if isinstance(each.data, dict) and "services" in each.data]

    @cached_property
    def scripts(self) -> list[Script]:
        """Shell scripts, and what they source."""
        return [Script(self.name(path), path) for path in self.files if path.suffix in (".sh", ".sbatch")]

    @cached_property
    def dockerfiles(self) -> list[Path]:
        """Recipes of images."""
        return [path for path in self.files if path.name == "Dockerfile"]

    def pins(self, lock: str) -> dict[str, tuple[str, Place]]:
        """Versions that a lock file pins, by name, and where."""
        found = {}
        path = self.root / lock
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), 1):
            if pin := re.match(r"([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", line):
                found[pin[1]] = (pin[2], Place(lock, number))
        return found


def ray_folder() -> Path:
    """Where Ray is installed; found without importing it.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    spec = find_spec("ray")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("Ray is not installed here, and its schema for cluster files comes with it: make env")
    return Path(next(iter(spec.submodule_search_locations)))


def ray_schema() -> dict[str, Any]:
    """Ray's own JSON schema for cluster files."""
    schema: dict[str, Any] = json.loads((ray_folder() / "autoscaler" / "ray-schema.json").read_text())
    return schema


def with_ray_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A cluster file with what Ray fills in where it says nothing."""
    provider = config.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    path = ray_folder() / "autoscaler" / str(kind) / "defaults.yaml"
    defaults: dict[str, Any] = yaml.safe_load(path.read_text()) if path.is_file() else {}
    return defaults | config
