"""What a check says: rules, and findings against them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from satdet.errors import UsageError

if TYPE_CHECKING:
    from cluster.check.site import Site


@dataclass(frozen=True)
class Place:
    """Where something is said: a file, relative to the project, and a line where one can be told."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        """For a message, as editors and CI understand it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """A fault: where it is, the rule it is against, what it is and what to do.

    Attributes
    ----------
    place : Place
    rule : str
        Name of the rule.
    message : str
        One line.
    """

    place: Place
    rule: str
    message: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.place}: {self.rule}: {' '.join(self.message.split())}"


Faults = Iterator[tuple[Place, str]]
"""Places with messages, as a rule's function yields them."""


@dataclass(frozen=True)
class Rule:
    """What must hold.

    Attributes
    ----------
    name : str
    promise : str
        What holds when there is no finding.
    faults : callable
        Finds where it does not.
    """

    name: str
    promise: str
    faults: Callable[["Site"], Faults]

    def check(self, site: "Site") -> list[Finding]:
        """The findings at a site, each once.

        Raises
        ------
        UsageError
            If a file has a form that the rule cannot make sense of.
        """
        try:
            return [Finding(place, self.name, message) for place, message in dict.fromkeys(self.faults(site))]
        except (AttributeError, KeyError, TypeError) as error:
            raise UsageError(
                f"rule {self.name}: a file is not of the form that its readers expect ({error})"
            ) from error
