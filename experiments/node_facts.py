"""What a result depends on besides its trial: the versions that are installed, and the code itself."""

import functools
import hashlib
import importlib.util
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_ENVIRONMENT = ("satdet", "ray", "optuna", "torch", "torchvision", "astropy", "albumentations", "torchmetrics",
                "mlflow", "wandb", "numpy")  # fmt: skip
"""Named in the record."""
_TRIALS_NEED = ("ray", "torch", "torchvision", "numpy", "scipy", "albumentations", "opencv-python-headless", "astropy",
                "matplotlib")  # fmt: skip
"""Imported by a trial's process, so that another version of them may give another result."""
_ROOMS = ("experiments", "satdet", "search_spaces")
_MISSING = "not installed"
_NO_FILE = "missing"


@dataclass(frozen=True)
class NodeFacts:
    """What a process can say of the place that it runs in.

    Attributes
    ----------
    versions : dict of str
        Of Python and of the packages that a trial imports.
    sources : dict of str
        SHA-256 of every source file of ours, by package and path.
    folder : str
        Where the package `experiments` was found.
    """

    versions: dict[str, str]
    sources: dict[str, str]
    folder: str

    @property
    def code(self) -> str:
        """One SHA-256 for all sources."""
        lines = (f"{path}\0{content}\n" for path, content in sorted(self.sources.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def difference(self, wanted: "NodeFacts") -> str | None:
        """The first thing that is not as `wanted`, for a message; None if all is the same."""
        version = version_difference(self.versions, wanted.versions)
        if version is not None:
            return version
        paths = sorted(
            path
            for path in self.sources.keys() | wanted.sources.keys()
            if self.sources.get(path) != wanted.sources.get(path)
        )
        if not paths:
            return None
        there, here = (_short(facts.sources.get(paths[0])) for facts in (self, wanted))
        more = f", and {len(paths) - 1} more" if len(paths) > 1 else ""
        return (
            f"the code differs: {paths[0]} in {self.folder} is {there} there, {here} here{more}; put the same checkout"
            " there"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def version_difference(there: dict[str, str], here: dict[str, str]) -> str | None:
    """The first version that differs, for a message; None if none does.

    A build's label (what follows ``+``, as in ``2.11.0+cpu``) may differ: a node without a device has another build.
    """
    for name, wanted in here.items():
        found = there.get(name, _MISSING)
        if found.partition("+")[0] != wanted.partition("+")[0]:
            return f"{name} is {found} there, {wanted} here; install the same requirements.lock there (make env)"
    return None


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Python's version and those of `packages`, nothing of which is imported."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = _MISSING
    return versions


def environment() -> dict[str, str]:
    """What a record says of the machine that a search was driven on."""
    return {"platform": platform.platform(), **versions_of(_ENVIRONMENT)}


@functools.cache
def facts_here() -> NodeFacts:
    """Those of this process; its sources as they were when it asked first, for those it has imported."""
    folders = {room: _folder(room) for room in _ROOMS}
    sources = {
        f"{room}/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for room, folder in folders.items()
        for path in sorted(folder.rglob("*.py"))
    }
    return NodeFacts(versions_of(_TRIALS_NEED), sources, str(folders["experiments"].parent))


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, package
    return Path(spec.origin).parent


def _short(content: str | None) -> str:
    return _NO_FILE if content is None else f"sha256 {content[:12]}…"
