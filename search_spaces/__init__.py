"""What is searched: one file an experiment, each with one ``EXPERIMENT``; listing them imports no torch and no ray."""

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from pathlib import Path

from satdet.config import ConfigError, unknown_name
from search_spaces.declare import Experiment


def names() -> list[str]:
    """The declared experiments: every module of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


@dataclass(frozen=True)
class Declaration:
    """An experiment, and what its file says that has no effect here."""

    experiment: Experiment
    warnings: tuple[str, ...] = ()


def load(name: str) -> Experiment:
    """The experiment of `declaration`, where nothing in a file can be without effect."""
    return declaration(name).experiment


def declaration(name: str) -> Declaration:
    """The experiment of that name, or the one that a ``.py`` file or a W&B sweep file (``.yaml``) declares.

    Raises
    ------
    ConfigError
        For an unknown name (the known ones are listed), a file without ``EXPERIMENT``, or a bad declaration.
    """
    if name.endswith(".py"):
        return Declaration(_load_file(Path(name)))
    if name.endswith((".yaml", ".yml")):
        from search_spaces.sweep_files import load_sweep

        sweep = load_sweep(Path(name))
        return Declaration(sweep.experiment, sweep.warnings)
    if name not in names():
        raise ConfigError(unknown_name("experiment", name, names()))
    return Declaration(_declared(importlib.import_module(f"{__name__}.{name}"), name))


def _load_file(path: Path) -> Experiment:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return _declared(module, str(path))


def _declared(module: object, source: str) -> Experiment:
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"{source}: declares no EXPERIMENT = Experiment(...)")
    return experiment
