"""A trial's patience with its storage: what fails because of that is tried again, until it is given up."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from satdet._storage import keep_trying
from satdet.errors import StorageError, StorageLostError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class StoragePatience:
    """Reads and writes that are tried again about every second while the storage is full, read-only or out of reach.

    When the storage did not come back for one of them, those that follow are tried once.

    Parameters
    ----------
    seconds : float
        How long each of them is tried after it failed; 0: not at all.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Let what is being tried, in whatever thread, and all that follows fail at its next error."""
        self._given_up.set()

    def read(self, path: Path, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, which reads `path`.

        Raises
        ------
        StorageLostError
            If the storage did not come back in time.
        StorageError
            If `path` cannot be read for another reason, to which waiting is no help.
        """
        return self._keep_trying(path, "read", attempt)

    def write(self, path: Path, attempt: Callable[[], T]) -> T:
        """As `read`, of an `attempt` that writes `path`, from the beginning each time."""
        return self._keep_trying(path, "written", attempt)

    def _keep_trying(self, path: Path, done: str, attempt: Callable[[], T]) -> T:
        told = not self._seconds

        def pause(seconds: float, error: OSError) -> bool:
            nonlocal told
            if not told:
                told = True
                logger.warning("%s: cannot be %s now (%s); trying again", path, done, error.strerror)
            return self._given_up.wait(seconds)

        try:
            return keep_trying(attempt, path, seconds=self._seconds, pause=pause)
        except StorageLostError:
            self.give_up()
            raise
        except OSError as error:
            raise StorageError(f"{path}: cannot be {done} ({error.strerror or error}); mend that and resume") from error


ONCE = StoragePatience()
"""No patience: everything is tried once."""
