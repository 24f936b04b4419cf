"""What does a search do whose storage becomes full, freezes, breaks off or is read-only?

    python -m benchmarks.storage_faults [--storage DIR] [--scenarios full_for_a_while …]

The storage is a small ext4 of its own (root only), made to fail while a search of real, tiny trainings runs on it. The
search has to wait and go on when the storage is back, or leave with status 130 and say what to do, and then to finish
when it is resumed. What it leaves is compared with an undisturbed one. Writes
``benchmarks/results/storage_faults.json``; exit status 1 if a search did anything else.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.chaos_support import Session, SmallSearch, kill_marked, scratch
from benchmarks.machine import machine, versions
from benchmarks.outcomes import Differences, Outcome, compare
from benchmarks.volume import Volume
from tests.site import Site

RESULTS = Path("benchmarks/results/storage_faults.json")
_MEGABYTES = 2200
"""Room for the search and its trackers, three checkpoints of 230 MB and two models a trial."""
CHECKPOINT_BYTES = 250_000_000
"""Room for a checkpoint of `SmallSearch`."""
_FIRST = ("--smoke", "--concurrency", "1")
_LEAVES = 130
_USAGE = 2


@dataclass
class Faulty:
    """What a search did on a storage that failed.

    Attributes
    ----------
    scenario : str
    statuses : list of int
        Exit status of each session.
    said : list of str
        What it said about the storage.
    wrong : list of str
        What it should not have done.
    differences : dict
        From an undisturbed one.
    """

    scenario: str
    statuses: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    differences: Differences = field(default_factory=dict)


class Trouble:
    """A search on a volume that fails, as a scenario sees it.

    Parameters
    ----------
    volume : Volume
    site : Site
        With its storage on the volume.
    environment : dict
    """

    def __init__(self, volume: Volume, site: Site, environment: dict[str, str], faulty: Faulty) -> None:
        self.volume = volume
        self.site = site
        self.faulty = faulty
        self._environment = environment
        self._sessions: list[Session] = []

    def start(self, *flags: str) -> None:
        """Begin a session."""
        self._sessions.append(Session(self.site, flags, self._environment))

    def after_results(self, count: int) -> None:
        """Wait until the session has recorded so many epochs."""
        session = self._sessions[-1]

        def recorded() -> bool:
            session.journal.look()
            results = [event for event in session.journal.events if event["kind"] == "result"]
            return len(results) >= count

        if not session.wait(recorded):
            raise RuntimeError(f"{self.faulty.scenario}: the search ended too early: {session.said()[-1000:]}")

    def for_seconds(self, seconds: float) -> bool:
        """Let the session run for so long; whether it has not ended."""
        session = self._sessions[-1]
        until = session.seconds + seconds
        return session.wait(lambda: session.seconds > until)

    def ends_with(self, status: int) -> None:
        """Wait for the end of the session, which should have that status and, if it is an error, say so in one line."""
        session = self._sessions[-1]
        found = session.to_the_end()
        self.faulty.statuses.append(found)
        said = session.said()
        self.faulty.said += [line for line in said.splitlines() if any(word in line for word in _ABOUT)]
        if found != status:
            self.faulty.wrong.append(f"exit status {found}, not {status}: {said[-500:]}")
        if "Traceback" in said:
            self.faulty.wrong.append(f"a traceback: {said[-1500:]}")
        if status and not self.faulty.said:
            self.faulty.wrong.append(f"nothing said about the storage: {said[-500:]}")

    def end(self) -> None:
        """Leave nothing running."""
        for session in self._sessions:
            kill_marked(session.mark)


_ABOUT = ("the storage refuses", "free some space", "are free in", "Read-only file system", "Input/output error")
"""What a search says about its storage, and says of nothing else."""


def full_for_a_while(trouble: Trouble) -> None:
    """No room for the next checkpoint; ten seconds later there is."""
    trouble.start(*_FIRST)
    trouble.after_results(1)
    trouble.volume.fill(leave=CHECKPOINT_BYTES // 5)
    trouble.for_seconds(20)
    trouble.volume.relieve()
    trouble.ends_with(0)


def full_to_the_last_byte(trouble: Trouble) -> None:
    """As before, without room for a line of the record."""
    trouble.start(*_FIRST)
    trouble.after_results(1)
    trouble.volume.fill(leave=0)
    trouble.for_seconds(20)
    trouble.volume.relieve()
    trouble.ends_with(0)


def full_for_good(trouble: Trouble) -> None:
    """No room for longer than there is patience; resumed when there is."""
    trouble.start(*_FIRST, "--storage-patience", "10")
    trouble.after_results(1)
    trouble.volume.fill(leave=0)
    trouble.ends_with(_LEAVES)
    trouble.volume.relieve()
    trouble.start("--resume")
    trouble.ends_with(0)


def frozen_for_a_while(trouble: Trouble) -> None:
    """Every write hangs for twenty seconds."""
    trouble.start(*_FIRST)
    trouble.after_results(1)
    trouble.volume.freeze()
    try:
        trouble.for_seconds(20)
    finally:
        trouble.volume.thaw()
    trouble.ends_with(0)


def gone_for_a_while(trouble: Trouble) -> None:
    """Every access fails for twenty seconds, then it is mounted again."""
    trouble.start(*_FIRST)
    trouble.after_results(1)
    trouble.volume.break_off()
    trouble.for_seconds(20)
    trouble.volume.bring_back()
    trouble.ends_with(0)


def read_only_for_a_while(trouble: Trouble) -> None:
    """It breaks off, comes back read-only, and is writable twenty seconds later."""
    trouble.start(*_FIRST)
    trouble.after_results(1)
    trouble.volume.break_off()
    trouble.volume.bring_back(read_only=True)
    trouble.for_seconds(20)
    trouble.volume.make_writable()
    trouble.ends_with(0)


def gone_for_good(trouble: Trouble) -> None:
    """Every access fails for longer than there is patience; resumed when it is mounted again."""
    trouble.start(*_FIRST, "--storage-patience", "10")
    trouble.after_results(1)
    trouble.volume.break_off()
    trouble.ends_with(_LEAVES)
    trouble.volume.bring_back()
    trouble.start("--resume")
    trouble.ends_with(0)


def read_only_from_the_start(trouble: Trouble) -> None:
    """Nothing can be written at all; started again when that is mended."""
    trouble.volume.bring_back(read_only=True)
    trouble.start(*_FIRST)
    trouble.ends_with(_USAGE)
    trouble.volume.make_writable()
    trouble.start(*_FIRST)
    trouble.ends_with(0)


SCENARIOS: dict[str, Callable[[Trouble], None]] = {
    scenario.__name__: scenario
    for scenario in (
        full_for_a_while,
        full_to_the_last_byte,
        full_for_good,
        frozen_for_a_while,
        gone_for_a_while,
        gone_for_good,
        read_only_for_a_while,
        read_only_from_the_start,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios and write what the searches did."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storage_faults", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--storage", type=Path, help="folder for the file systems (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.storage is not None:
        options.storage.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=options.storage))
    found: list[Faulty] = []
    earlier = json.loads(options.out.read_text())["scenarios"] if options.out.exists() else {}
    try:
        twin = undisturbed(folder / "twin")
        for name in options.scenarios:
            found.append(run_scenario(name, twin, folder / name))
            sys.stderr.write(f"{name}: {found[-1].wrong or found[-1].differences or 'as it should be'}\n")
            result = {
                "command": "python -m benchmarks.storage_faults",
                "machine": machine(),
                "versions": versions(),
                "scenarios": earlier | {each.scenario: asdict(each) for each in found},
            }
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        shutil.rmtree(folder)
    return 1 if any(each.wrong or each.differences for each in found) else 0


def undisturbed(folder: Path) -> Outcome:
    """What the search leaves on a storage that works."""
    folder.mkdir(parents=True)
    site = SmallSearch("asha", trials=2).site(folder)
    with scratch() as environment:
        session = Session(site, _FIRST, environment)
        if session.to_the_end() != 0:
            raise SystemExit(session.said()[-1000:])
    outcome = Outcome.of(site)
    shutil.rmtree(folder)
    return outcome


def run_scenario(name: str, twin: Outcome, folder: Path) -> Faulty:
    """Run a search on a storage that fails, and compare what it leaves with its twin."""
    faulty = Faulty(name)
    folder.mkdir(parents=True)
    with Volume(folder, _MEGABYTES) as volume, scratch() as environment:
        site = SmallSearch("asha", trials=2).site(folder)
        site.storage.symlink_to(volume.path)
        trouble = Trouble(volume, site, environment, faulty)
        try:
            SCENARIOS[name](trouble)
            faulty.differences = compare(Outcome.of(site), twin)
        except (OSError, RuntimeError) as error:
            faulty.wrong.append(f"{type(error).__name__}: {error}")
        finally:
            trouble.end()
    shutil.rmtree(folder)
    return faulty


if __name__ == "__main__":
    sys.exit(main())
