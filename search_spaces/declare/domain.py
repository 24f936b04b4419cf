"""What every domain of a hyperparameter is: frozen values with a quantile function."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from search_spaces.declare.plain import Setting

Value = str | int | float | bool | None | tuple[Any, ...]
Check = Callable[[Any], Any]
"""Returns a value in the type of its path, or raises ConfigError."""


@dataclass(frozen=True, kw_only=True)
class Domain(Setting, ABC):
    """Base of all domains."""

    @property
    def values(self) -> Sequence[Value] | None:
        """All values in order, if they are finitely many."""
        return None

    @abstractmethod
    def quantile(self, share: float) -> Value:
        """The value below which (or at which) a `share` in [0, 1) of the distribution lies."""

    @abstractmethod
    def share(self, value: Any) -> float | None:
        """A share whose quantile is `value`; None if the domain does not hold it."""

    def checked(self, check: Check) -> Self:
        """The domain with its values in the type of its path.

        Raises
        ------
        ConfigError
            If `check` refuses one of them.
        """
        return self


def set_fields(domain: Any, **values: Any) -> None:
    """Set the fields of a frozen domain, checked against their types and ranges."""
    for name, value in values.items():
        object.__setattr__(domain, name, value)
    Setting.__post_init__(domain)


def as_tuples(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    """Equality that does not take True for 1."""
    return bool(as_tuples(one) == as_tuples(other)) and isinstance(one, bool) == isinstance(other, bool)
