"""The room that a search takes: the newest checkpoints of each trial, a cap on all of them, and what is left."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.paths import SearchPaths, TrialFiles
from experiments.record import Event
from experiments.state import OPEN, SearchState
from satdet.config import ConfigError

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_NEWEST = 2
_LITTLE_BYTES = 10**9
"""A few checkpoints of a ResNet50."""
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Keep:
    """How many checkpoints a running trial keeps besides its best, and the most bytes of them all; None: no cap."""

    newest: int = _NEWEST
    total_bytes: int | None = None


def parse_keep(text: str) -> Keep:
    """What ``3``, ``20GB`` or ``3,20GB`` means.

    Raises
    ------
    ConfigError
        If it means nothing of the kind.
    """
    match = re.fullmatch(r"(\d+)?(?:(?:^|,)\s*(\d+(?:\.\d+)?)\s*(MB|GB|TB))?", text.strip())
    newest = int(match[1]) if match and match[1] else _NEWEST
    total = round(float(match[2]) * UNITS[match[3]]) if match and match[2] else None
    if match is None or not text.strip() or newest < 1 or total == 0:
        raise ConfigError(f"--keep {text!r} is not like 3 (checkpoints a trial), 20GB (of the search) or 3,20GB")
    return Keep(newest, total)


class CheckpointCap:
    """Removes checkpoints of ended trials, the worst trials' first, when a search has too many bytes of them.

    What a resume needs, the checkpoints of open trials, is never touched, nor any ``model.pt``.

    Parameters
    ----------
    search : SearchPaths
    total_bytes : int or None
    say : callable
        Told once if the cap cannot be kept.
    """

    def __init__(self, search: SearchPaths, total_bytes: int | None, say: Callable[[str], None]) -> None:
        self._search = search
        self._total = total_bytes
        self._say = say
        self._said = False

    def event(self, event: Event, state: SearchState) -> None:
        """Look after what may have written a checkpoint."""
        if event["kind"] in ("result", "ended"):
            self.enforce(state)

    def enforce(self, state: SearchState) -> int:
        """Remove what is too much; returns the bytes that were freed."""
        if self._total is None:
            return 0
        files = self._search.files()
        checkpoints = _OfObjects(self._search, files) if self._search.remote is not None else _OfFolders(self._search)
        excess = sum(map(checkpoints.size, state.trials)) - self._total
        freed = 0
        for trial in reversed(state.ranking()):
            if trial.status in OPEN or "model.pt" not in files.of(trial.trial_id):  # still made from a checkpoint
                continue
            while freed < excess and (step := checkpoints.prune(trial.trial_id)):
                freed += step
        if freed < excess and not self._said:
            self._said = True
            self._say(
                f"--keep: the checkpoints of open trials alone are {size_text(excess - freed)} more than"
                f" {size_text(self._total)}; they are kept, for a resume needs them"
            )
        return freed


class _OfFolders:
    """Checkpoints of trials in folders."""

    def __init__(self, search: SearchPaths) -> None:
        self._search = search

    def size(self, trial_id: str) -> int:
        from satdet.training import checkpoint_bytes

        return checkpoint_bytes(self._search.trial(trial_id))

    def prune(self, trial_id: str) -> int:
        from satdet.training import prune_checkpoint

        return prune_checkpoint(self._search.trial(trial_id))


class _OfObjects:
    """Checkpoints of trials in an object store; ``best.pt`` is an object of its own there."""

    def __init__(self, search: SearchPaths, files: TrialFiles) -> None:
        assert search.remote is not None
        self._objects = search.remote.objects(search.name, "trials")
        self._files = files
        self._left: dict[str, list[tuple[str, int]]] = {}

    def size(self, trial_id: str) -> int:
        return sum(size for _, size in self._of(trial_id))

    def prune(self, trial_id: str) -> int:
        """Remove one, the oldest epoch first, then the best, and the newest epoch last."""
        left = self._of(trial_id)
        if not left:
            return 0
        name, size = left.pop(0)
        try:
            self._objects.remove([f"{trial_id}/{name}"])
        except OSError:
            return 0  # of a store that is away now; looked at again with the next result
        return size

    def _of(self, trial_id: str) -> list[tuple[str, int]]:
        """Names and sizes, in the order in which they are removed."""
        if trial_id not in self._left:
            there = self._files.of(trial_id)
            epochs = sorted(name for name in there if name.startswith("epoch-"))
            names = [*epochs[:-1], *(name for name in there if name == "best.pt"), *epochs[-1:]]
            self._left[trial_id] = [(name, there[name]) for name in names]
        return self._left[trial_id]


class SpaceWatch:
    """Tells when the storage is about to be full, once each time that it comes to that.

    Parameters
    ----------
    folder : Path
        On the storage.
    say : callable
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._next_look = 0.0
        self._said = False

    def look(self) -> None:
        """Look, every few seconds at most."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:  # whoever writes there will tell
            return
        if free < _LITTLE_BYTES and not self._said:
            self._say(f"only {size_text(free)} are free in {self._folder}; what does not fit will be waited for")
        self._said = free < _LITTLE_BYTES


def size_text(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"
