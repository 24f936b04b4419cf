"""What one hyperparameter may be: values of the vocabulary, comparable, printable, with a round trip to JSON."""

from dataclasses import dataclass
from typing import Any

from satdet.config import ConfigError

Value = str | int | float | bool | None


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values, each as likely as the others."""

    values: tuple[Value, ...]

    def __init__(self, *values: Value) -> None:
        if not values:
            raise ConfigError("Choice() has no values")
        if len(set(map(repr, values))) < len(values):
            raise ConfigError(f"Choice{values!r} names a value twice")
        object.__setattr__(self, "values", values)

    def to_json(self) -> dict[str, Any]:
        """Plain data from which the same domain can be built again."""
        return {"kind": "choice", "values": list(self.values)}


Domain = Choice
