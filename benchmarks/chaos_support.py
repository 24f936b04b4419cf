"""Small searches, sessions of them that can be killed in several ways, and what the benchmarks with faults share."""

import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.record import Event, RecordReader
from satdet.errors import StorageError
from tests.site import ROOT, Site

MARK = "SATDET_CHAOS"
"""Every process of a session inherits this variable, and is found by it."""
_LOOK_SECONDS = 0.001

_DECLARATION = """
from search_spaces.declare import *

EXPERIMENT = Experiment(
    name="{name}",
    question="Does it survive?",
    base=REPORT_PROTOCOL,
    space=SearchSpace({space}),
    objective=Maximise("map_50"),
    searcher={searcher},
    scheduler={scheduler},
    trials={trials},
    smoke=smoke_of(
        {{"tiles.size": 64, "detector.backbone": "resnet18", "optimizer.name": "sgd", "training.epochs": {epochs},
          "training.batch_size": 4, "training.tiles_per_epoch": 8, "detector.max_detections": 60}},
        frames=3, size=256,
    ),
)
"""
_SAMPLED = '{"optimizer.learning_rate": LogUniform(3e-4, 3e-2), "optimizer.momentum": Uniform(0.5, 0.95)}'
KINDS = ("grid", "asha", "tpe", "hyperband")
"""The searches there are."""


@dataclass(frozen=True)
class SmallSearch:
    """A search of real, tiny trainings: ResNet18 on 8 tiles of 64 px an epoch.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        Another search of the same kind.
    trials : int
        Of all but the grid, which has four.
    epochs : int
    """

    kind: str
    seed: int = 0
    trials: int = 4
    epochs: int = 3

    @property
    def declaration(self) -> str:
        """What a user would write into a file."""
        rates = f"{3e-3 * (1 + self.seed)}, {1e-3 * (1 + self.seed)}"
        grid = f'{{"optimizer.learning_rate": Choice({rates}), "optimizer.momentum": Choice(0.5, 0.9)}}'
        space, searcher, scheduler = {
            "grid": (grid, "Grid()", "RunAll()"),
            "asha": (_SAMPLED, f"Random(seed={self.seed})", "ASHA(grace_epochs=1, reduction=2)"),
            "tpe": (_SAMPLED, f"TPE(seed={self.seed}, startup=2)", "MedianStopping(grace_epochs=1)"),
            "hyperband": (_SAMPLED, f"Random(seed={self.seed})", "Hyperband(reduction=2)"),
        }[self.kind]
        return _DECLARATION.format(
            name=self.kind,
            space=space,
            searcher=searcher,
            scheduler=scheduler,
            trials=None if self.kind == "grid" else self.trials,
            epochs=self.epochs,
        )

    def site(self, folder: Path) -> Site:
        """A storage for it in `folder`."""
        return Site(folder, self.declaration, f"{self.kind}.py")


class Journal:
    """Follows a record from outside, from where it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = RecordReader(path)
        self._size = -1
        self.events: list[Event] = []
        """Those written since."""
        self.before = self._read()

    def look(self) -> list[Event]:
        """What was written since the last look; cheap while nothing was."""
        new = self._read()
        self.events += new
        return new

    def _read(self) -> list[Event]:
        try:
            size = self._path.stat().st_size
            if size == self._size:
                return []
            self._size = size
            return self._reader.new_events()
        except (OSError, StorageError):
            return []


class Session:
    """One run of a search's command, in a process group of its own.

    Parameters
    ----------
    site : Site
    flags : sequence of str
    environment : mapping, optional
        Besides that of a user.
    """

    def __init__(self, site: Site, flags: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.site = site
        self.mark = secrets.token_hex(8)
        self.log: Path = site.folder / "session.log"
        self.journal = Journal(site.search / "record.jsonl")
        self._started = time.monotonic()
        self.began = time.time()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                site.command(*flags),
                cwd=ROOT,
                env=site.environment() | dict(environment or {}) | {MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def said(self) -> str:
        """What it has written on its terminal."""
        return self.log.read_text(errors="replace")

    def wait(self, until: Callable[[], bool], limit: float = 900.0) -> bool:
        """Wait until something is so, or the command has ended; whether the former.

        Raises
        ------
        TimeoutError
            After `limit` seconds.
        """
        while not until():
            if self.process.poll() is not None:
                self.journal.look()
                return False
            if self.seconds > limit:
                raise TimeoutError(f"{self.site.search}: no end after {limit:.0f} s: {self.said()[-500:]}")
            time.sleep(_LOOK_SECONDS)
        return True

    def to_the_end(self, limit: float = 900.0) -> int:
        """Wait until the command has ended; returns its exit status."""
        self.wait(lambda: False, limit)
        return self.process.wait()

    def kill(self, whom: str) -> None:
        """SIGKILL for the ``driver`` alone, its process ``group`` (with Ray's), or ``all`` that it has started."""
        if whom == "driver":
            self.process.kill()
        else:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if whom == "all":
            kill_marked(self.mark)
        self.process.wait()
        self.journal.look()

    def left_behind(self, grace: float) -> list[str]:
        """Processes that it has started and that are still there so many seconds after it has ended: what they run."""
        deadline = time.monotonic() + grace
        while (left := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [_command(process) for process in left]


def marked(mark: str) -> list[int]:
    """Living processes that were started by the session of that mark, whoever their parent is now."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _command(process: int) -> str:
    """The beginning of a process's command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    except OSError:
        return "gone meanwhile"


def kill_marked(mark: str) -> None:
    """SIGKILL for all of them, also those that begin meanwhile."""
    while left := marked(mark):
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


@contextmanager
def scratch() -> Iterator[dict[str, str]]:
    """A folder for what Ray and others leave behind when they are killed, as environment of a session."""
    # Not in the storage: the paths of Ray's sockets have to be short.
    folder = Path(tempfile.mkdtemp(prefix="sd-"))
    try:
        yield {"TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def spread(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """How many there are, their median, 95th percentile and maximum."""
    if not seconds:
        return {"count": 0, "p50": None, "p95": None, "max": None}
    ordered = sorted(seconds)
    nearest = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    values = {"p50": statistics.median(ordered), "p95": nearest, "max": ordered[-1]}
    return {"count": len(ordered)} | {name: round(value, 2) for name, value in values.items()}


def chances(seed: int, *what: object) -> random.Random:
    """Random numbers of their own for each use."""
    return random.Random(f"{seed}/{'/'.join(map(str, what))}")
