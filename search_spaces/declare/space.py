"""The search space: a domain for each searched path of the trial's configuration."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from satdet.config import ConfigError, leaf
from search_spaces.declare.domains import Choice, Domain, Value


@dataclass(frozen=True)
class SearchSpace:
    """Domains by path (``detector.backbone``); an empty space is one trial of the base configuration.

    Raises
    ------
    ConfigError
        For a path that the configuration does not have, or a value that it cannot hold.
    """

    domains: Mapping[str, Domain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, domain in self.domains.items():
            searched = leaf(path)
            if not isinstance(domain, Choice):
                raise ConfigError(f"{path} = {domain!r} is not a domain; write Choice(...)")
            for value in domain.values:
                searched.check(value, path)

    def cells(self) -> Iterator[dict[str, Value]]:
        """Every combination of values, the last path varying fastest."""
        for values in itertools.product(*(domain.values for domain in self.domains.values())):
            yield dict(zip(self.domains, values, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain data, by path."""
        return {path: domain.to_json() for path, domain in self.domains.items()}
