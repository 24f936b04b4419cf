"""The ``parameters`` of a sweep file: what is searched, what is fixed, and how many seeds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from satdet.config import ConfigError
from search_spaces.declare import Constant, Domain, Value
from search_spaces.sweep_files.checks import at, check_keys, shown
from search_spaces.sweep_files.distributions import cells_of, domain_of
from search_spaces.sweep_files.names import SEEDS, find_group, find_parameter

_SEED_PATH = "tiles.split_seed"
"""A path that holds what a seed may be; nothing of it is set."""


@dataclass
class Parameters:
    """What was found so far.

    Attributes
    ----------
    grid : bool
        Whether the sweep is a grid.
    warn : callable
        Is told what the file's author may not expect.
    searched : dict
        Domains by path.
    fixed : dict
        Constants by path: they belong to the base, where ``--set`` and ``--smoke`` can change them.
    seeds : int
        Of each cell.
    """

    grid: bool
    warn: Callable[[str], None]
    searched: dict[str, Domain] = field(default_factory=dict)
    fixed: dict[str, Value] = field(default_factory=dict)
    seeds: int = 1
    _places: dict[str, str] = field(default_factory=dict)

    def add_section(self, section: Mapping[str, Any], place: str, group: str | None = None) -> None:
        """Add the parameters of `section`, those of nested groups too.

        Raises
        ------
        ConfigError
            For a name that is not ours, two names of one path, or a parameter that cannot be searched.
        """
        if not section:
            raise ConfigError(f"{place} is empty; there is nothing to search")
        for name, entry in section.items():
            here = at(place, name)
            if not isinstance(entry, dict):
                form = "values: [...]" if isinstance(entry, list) else f"value: {shown(entry)}"
                raise ConfigError(f"{here} = {shown(entry)} is not a mapping; write {form} below it")
            if "parameters" in entry:
                self._add_group(name, entry, here, group)
            elif name.replace("-", "_") in SEEDS:
                self._add_seed(entry, here)
            else:
                self._add(name, entry, here, group)

    def _add_group(self, name: str, entry: Mapping[str, Any], place: str, group: str | None) -> None:
        check_keys(entry, ["parameters"], place)
        inside, here = entry["parameters"], at(place, "parameters")
        if not isinstance(inside, dict):
            raise ConfigError(f"{here} = {shown(inside)} is not a mapping of names to parameters")
        self.add_section(inside, here, find_group(name, group, place))

    def _add(self, name: str, entry: Mapping[str, Any], place: str, group: str | None) -> None:
        found = find_parameter(name, group, place)
        if found.warning:
            self.warn(found.warning)
        self._take(found.name, place)
        domain = domain_of(entry, found.name, place, grid=self.grid, warn=self.warn)
        if isinstance(domain, Constant):
            self.fixed[found.name] = domain.value
        else:
            self.searched[found.name] = domain

    def _add_seed(self, entry: Mapping[str, Any], place: str) -> None:
        """A grid over seeds is so many seeds a cell; any other seed is the search's own affair."""
        self._take("seed", place)
        domain = domain_of(entry, _SEED_PATH, place, grid=self.grid, warn=self.warn)
        if self.grid and not isinstance(domain, Constant):
            self.seeds = cells_of([domain])
            self.warn(f"{place}: every cell is trained with {self.seeds} seeds, which the search numbers itself")
        else:
            self.warn(f"{place} is not used: the search numbers its seeds itself; --seeds N replicates every cell")

    def _take(self, path: str, place: str) -> None:
        if path in self._places:
            raise ConfigError(f"{place} and {self._places[path]} are both {path}; keep one")
        self._places[path] = place
