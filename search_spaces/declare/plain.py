"""The base of all declared values: checked when built, and plain data both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from satdet.config import ConfigError, check_fields, unknown_name


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A frozen value whose fields are checked when it is built."""

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> dict[str, Any]:
        """The setting's kind and values."""
        return {"kind": type(self).__name__} | {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """The setting that `to_json` described, without its kind."""
        return cls(**values)


def of_kind(data: Mapping[str, Any], kinds: Mapping[str, type[Setting]], what: str) -> Any:
    """The setting that plain `data` describe.

    Parameters
    ----------
    data : mapping
        As `Setting.to_json` gives it.
    kinds : mapping
        The legal classes by name.
    what : str
        What they are, for the message.

    Raises
    ------
    ConfigError
        For an unknown kind, or values that the class refuses.
    """
    kind = str(data.get("kind"))
    if kind not in kinds:
        raise ConfigError(unknown_name(what, kind, kinds))
    try:
        return kinds[kind].of_json({key: value for key, value in data.items() if key != "kind"})
    except TypeError as error:
        raise ConfigError(f"{what} {kind}: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.to_json() if isinstance(value, Setting) else value
