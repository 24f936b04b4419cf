"""The search space: a domain for each searched path of the trial's configuration, conditions and constraints."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from satdet.config import ConfigError, TrialConfig, flatten, leaf, leaf_paths, unknown_name, with_values
from search_spaces.declare.discrete import Fragments
from search_spaces.declare.domain import Domain, Value
from search_spaces.declare.domains import DOMAINS, domain_of_json
from search_spaces.declare.expressions import Expression

Values = dict[str, Value]
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class When:
    """Domains that count only where a condition holds; they take the place of an unconditional one of the same path.

    ``When("detector.backbone == 'resnet101'", {"training.batch_size": Choice(2, 4)})``
    """

    condition: str
    domains: Tree

    @property
    def reads(self) -> tuple[str, ...]:
        """The paths that the condition depends on."""
        return Expression(self.condition).paths

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"condition": self.condition, "domains": {path: each.to_json() for path, each in self.domains.items()}}


@dataclass(frozen=True)
class Forbid:
    """Cells that cannot run, or should not, are left out where a condition holds; the reason is shown.

    ``Forbid("tiles.size * training.batch_size > 8192", because="it does not fit into 8 GiB")``
    """

    condition: str
    because: str

    def __post_init__(self) -> None:
        if not self.because:
            raise ConfigError(f"Forbid({self.condition!r}) gives no reason")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"condition": self.condition, "because": self.because}


@dataclass(frozen=True)
class Parameter:
    """One domain of a space, with the condition under which it counts (None: always)."""

    path: str
    domain: Domain
    condition: str | None

    @property
    def name(self) -> str:
        """Unlike the path, different for each domain of a space."""
        return self.path if self.condition is None else f"{self.path} when {self.condition}"


@dataclass(frozen=True)
class Skipped:
    """A cell that is left out, and why."""

    values: Values
    reason: str


@dataclass(frozen=True)
class SearchSpace:
    """Domains by path (``detector.backbone``); an empty space is one trial of the base configuration.

    Groups may be nested: ``{"optimizer": {"learning_rate": …}}`` is ``{"optimizer.learning_rate": …}``. The key of
    `Fragments` is a name of its own, not a path.

    Parameters
    ----------
    domains : mapping
        Domains, or groups of them, by path.
    conditions : sequence of When
        The first that holds and has the path decides; a path without any keeps the base's value.
    constraints : sequence of Forbid

    Raises
    ------
    ConfigError
        For a path that the configuration does not have, a value that it cannot hold, or conditions in a circle.
    """

    domains: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[When, ...] = ()
    constraints: tuple[Forbid, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", _checked(self.domains))
        conditions = tuple(When(each.condition, _checked(each.domains)) for each in self.conditions)
        object.__setattr__(self, "conditions", conditions)
        object.__setattr__(self, "constraints", tuple(self.constraints))
        self._check_fragments()
        for condition in [each.condition for each in self.conditions] + [each.condition for each in self.constraints]:
            for path in Expression(condition).paths:
                if path not in self.paths and path not in leaf_paths():
                    raise ConfigError(f"condition {condition!r}: {_unknown_path(path, self.paths)}")
        _ = self._order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Every domain of the space, unconditional ones first."""
        always = [Parameter(path, domain, None) for path, domain in self.domains.items()]
        sometimes = [
            Parameter(path, each.domains[path], each.condition) for each in self.conditions for path in each.domains
        ]
        return tuple(always + sometimes)

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Every path that the space may set, in the order of declaration."""
        return tuple(dict.fromkeys(parameter.path for parameter in self.parameters))

    def resolve(self, base: TrialConfig, choose: Callable[[Parameter], Value]) -> Values:
        """The values of one point: `choose` is asked for each parameter that counts, always in the same order."""
        known: dict[str, Any] = flatten(base)
        chosen: Values = {}
        for path in self._order:
            parameter = self._counting(path, known)
            if parameter is not None:
                chosen[path] = choose(parameter)
                known |= self.expand({path: chosen[path]})
                known[path] = chosen[path]
        return {path: chosen[path] for path in self.paths if path in chosen}

    def expand(self, values: Mapping[str, Value]) -> Values:
        """The values by paths of the configuration: names of fragments give way to what they stand for."""
        expanded: Values = {}
        for path, value in values.items():
            domain = self._fragments.get(path)
            expanded |= domain.parts[str(value)] if domain is not None else {path: value}
        return expanded

    def refusal(self, base: TrialConfig, values: Mapping[str, Value]) -> str | None:
        """Why a point cannot run: a constraint's reason, or the configuration's; None if it can."""
        expanded = self.expand(values)
        try:
            with_values(base, expanded)
        except ConfigError as error:
            return str(error)
        known = {**flatten(base), **expanded, **values}
        for constraint in self.constraints:
            if Expression(constraint.condition).holds(known):
                return constraint.because
        return None

    def cells(self, base: TrialConfig | None = None) -> Iterator[Values]:
        """Every point of a finite space that can run, the last path varying fastest.

        Raises
        ------
        ConfigError
            If a domain has infinitely many values.
        """
        base = base or TrialConfig()
        return (cell for cell in self._product(base) if self.refusal(base, cell) is None)

    def skipped(self, base: TrialConfig) -> Iterator[Skipped]:
        """The points of a finite space that cannot run."""
        for cell in self._product(base):
            reason = self.refusal(base, cell)
            if reason is not None:
                yield Skipped(cell, reason)

    def least_cells(self) -> int:
        """How many points a finite space has at least, those that cannot run included; conditions only add to them."""
        conditional = {path for each in self.conditions for path in each.domains}
        return math.prod(
            len(domain.values or ()) or 1 for path, domain in self.domains.items() if path not in conditional
        )

    def endless(self) -> list[str]:
        """The names of parameters with infinitely many values, which a grid cannot have."""
        return [parameter.name for parameter in self.parameters if parameter.domain.values is None]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "domains": {path: domain.to_json() for path, domain in self.domains.items()},
            "conditions": [each.to_json() for each in self.conditions],
            "constraints": [each.to_json() for each in self.constraints],
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> "SearchSpace":
        """The space that `to_json` described."""
        return cls(
            _domains_of_json(data["domains"]),
            tuple(When(each["condition"], _domains_of_json(each["domains"])) for each in data["conditions"]),
            tuple(Forbid(each["condition"], each["because"]) for each in data["constraints"]),
        )

    def digest(self) -> str:
        """A stable hash, equal for equal spaces. The order of paths counts, for it numbers the cells of a grid."""
        text = json.dumps(self.to_json(), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def _fragments(self) -> dict[str, Fragments]:
        return {each.path: each.domain for each in self.parameters if isinstance(each.domain, Fragments)}

    @cached_property
    def _order(self) -> tuple[str, ...]:
        """Paths, each after those that its conditions depend on."""
        needs = {path: self._needs(path) for path in self.paths}
        order: list[str] = []
        while len(order) < len(needs):
            ready = [path for path in needs if path not in order and needs[path] <= set(order)]
            if not ready:
                left = ", ".join(path for path in needs if path not in order)
                raise ConfigError(f"the conditions of {left} depend on each other in a circle")
            order.append(ready[0])
        return tuple(order)

    def _needs(self, path: str) -> set[str]:
        texts = [each.condition for each in self.conditions if path in each.domains]
        read = {needed for text in texts for needed in Expression(text).paths}
        setters = {name for name, domain in self._fragments.items() if read & set(domain.paths)}
        return (read & set(self.paths)) | setters

    def _counting(self, path: str, known: Mapping[str, Any]) -> Parameter | None:
        for each in self.conditions:
            if path in each.domains and Expression(each.condition).holds(known):
                return Parameter(path, each.domains[path], each.condition)
        return Parameter(path, self.domains[path], None) if path in self.domains else None

    def _product(self, base: TrialConfig) -> Iterator[Values]:
        if endless := self.endless():
            raise ConfigError(
                f"{', '.join(endless)}: a grid needs finitely many values; use LinearGrid, LogGrid or Choice"
            )
        return _branches(self, base, {})

    def _check_fragments(self) -> None:
        for name, domain in self._fragments.items():
            taken = [path for path in domain.paths if path in self.paths or self._set_by_others(name, path)]
            if taken:
                raise ConfigError(f"{name}: {', '.join(taken)} would be set twice")
            if name in leaf_paths():
                raise ConfigError(f"{name}: fragments need a name of their own, not a path of the configuration")

    def _set_by_others(self, name: str, path: str) -> bool:
        return any(path in other.paths for key, other in self._fragments.items() if key != name)


class _Undecided(Exception):
    """Raised to ask for the values of a parameter that a branch has not chosen yet."""

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(parameter.name)
        self.parameter = parameter


def _branches(space: SearchSpace, base: TrialConfig, chosen: Values) -> Iterator[Values]:
    """Depth first through the choices that count, so that conditions are followed."""

    def choose(parameter: Parameter) -> Value:
        if parameter.path not in chosen:
            raise _Undecided(parameter)
        return chosen[parameter.path]

    try:
        yield space.resolve(base, choose)
    except _Undecided as undecided:
        parameter = undecided.parameter
        for value in parameter.domain.values or ():
            yield from _branches(space, base, {**chosen, parameter.path: value})


def _checked(tree: Tree, prefix: str = "") -> dict[str, Domain]:
    """The domains of a tree by path, each with its values in the type of its path."""
    found: dict[str, Domain] = {}
    for key, entry in tree.items():
        path = f"{prefix}{key}"
        if isinstance(entry, Mapping):
            found |= _checked(entry, f"{path}.")
        elif isinstance(entry, Fragments):
            found[path] = entry.with_checked_parts(lambda inner, value: leaf(inner).check(value, inner))
        elif isinstance(entry, Domain):
            known = leaf(path)
            found[path] = entry.checked(lambda value, known=known, path=path: known.check(value, path))  # type: ignore[misc]
        else:
            raise ConfigError(f"{path} = {entry!r} is not a domain; write Choice(...), or one of {', '.join(DOMAINS)}")
    return found


def _domains_of_json(data: Mapping[str, Any]) -> dict[str, Domain]:
    return {path: domain_of_json(each) for path, each in data.items()}


def _unknown_path(path: str, own: Sequence[str] | Iterable[str]) -> str:
    return unknown_name("path", path, {*leaf_paths(), *own})
