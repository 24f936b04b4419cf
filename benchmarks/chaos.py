"""Does anything get lost or doubled when a search is killed again and again?

    python -m benchmarks.chaos [--kills 50] [--seed 1] [--storage DIR] [--searches grid asha tpe hyperband]

Searches of real, tiny trainings run undisturbed once, and then with SIGKILL at random and at chosen moments, each
followed by ``--resume``, until they finish. What they leave, in the record, in MLflow, in W&B's files and as models, is
compared with what the undisturbed one has left: every value of every epoch, bit for bit. A third of the kills hits the
driver alone, a third its process group, Ray included, and a third every process, that of the trackers too. Writes
``benchmarks/results/chaos.json`` after each search; exit status 1 if anything was lost, doubled or differs.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos_support import KINDS, Session, SmallSearch, chances, kill_marked, scratch, spread
from benchmarks.machine import machine, versions
from benchmarks.outcomes import Differences, Outcome, compare
from tests.site import ROOT, Site

RESULTS = Path("benchmarks/results/chaos.json")
AIMED = ("start", "result", "checkpoint", "trackers", "last_result", "session_end")
_AT_THE_END = ("last_result", "session_end")
TARGETS = ("driver", "group", "all")
_FIRST = ("--smoke", "--concurrency", "1")
_AGAIN = ("--resume", "--concurrency", "1")
_STATES = ("mlflow", "wandb", "optuna")
_SEEDS = 2
"""Different searches of a kind, each with a twin."""
_GRACE_SECONDS = 45.0
"""What outlives a killed driver: its trackers' process, which sends the rest, and Ray's, which notice its death."""


@dataclass(frozen=True)
class Twin:
    """An undisturbed search.

    Attributes
    ----------
    outcome : Outcome
    startup : float
        Seconds from the command to the first training.
    epoch : float
        Seconds an epoch.
    """

    outcome: Outcome
    startup: float
    epoch: float


@dataclass
class Chaos:
    """What became of a search that was killed.

    Attributes
    ----------
    search : SmallSearch
    kills : list of (str, str)
        Moment and target of each kill.
    sessions : int
    resumes : list of float
        Seconds from each resume to the first training.
    sent_later : bool
        Whether ``experiments.sync`` was run in the end, for the search had said that something was left, or that it had
        finished before.
    left_behind : list of str
        What those processes of any session run that were still there in the end.
    differences : dict
        From the twin.
    """

    search: SmallSearch
    kills: list[tuple[str, str]] = field(default_factory=list)
    sessions: int = 0
    resumes: list[float] = field(default_factory=list)
    sent_later: bool = False
    left_behind: list[str] = field(default_factory=list)
    differences: Differences = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the searches and write what became of them; 1 if anything was lost, doubled or differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the moments and targets")
    parser.add_argument("--storage", type=Path, help="folder for the searches, emptied (default: a temporary one)")
    parser.add_argument("--searches", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--trials", type=int, default=4, help="of each search")
    parser.add_argument("--epochs", type=int, default=3, help="of each trial")
    parser.add_argument("--shared", action="store_true", help="note that the machine had other work meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.storage is not None:
        options.storage.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=options.storage))
    searches: list[Chaos] = []
    twins: dict[SmallSearch, Twin] = {}
    missed: list[str] = []
    try:
        for number, kind in enumerate(options.searches):
            kills = options.kills // len(options.searches) + (number < options.kills % len(options.searches))
            moments = deque(planned(kills, chances(options.seed, kind)))
            while moments:
                seed = sum(each.search.kind == kind for each in searches) % _SEEDS
                search = SmallSearch(kind, seed, options.trials, options.epochs)
                if search not in twins:
                    twins[search] = undisturbed(search, folder / f"twin-{kind}-{seed}")
                chance = chances(options.seed, kind, len(searches))
                chaos = torment(search, twins[search], folder / f"{kind}-{len(searches)}", moments, chance)
                searches.append(chaos)
                if moments and not chaos.kills:
                    missed.append(moments.popleft())
                    moments.append("result")  # which does come: as many kills as were asked for
                sys.stderr.write(_line(chaos))
                result = report(searches, twins, missed, shared=options.shared)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        if any(folder.glob("*.differing")):
            sys.stderr.write(f"what differs is kept in {folder}\n")
        else:
            shutil.rmtree(folder)
    return 1 if any(each.differences or each.left_behind for each in searches) else 0


def planned(kills: int, chance: random.Random) -> list[str]:
    """Moments of so many kills, half of them aimed and half anywhere; those at the end of a search come together."""
    aimed = [AIMED[number % len(AIMED)] for number in range(kills // 2)]
    others = [moment for moment in aimed if moment not in _AT_THE_END] + ["anywhere"] * (kills - len(aimed))
    chance.shuffle(others)
    searches = max(1, aimed.count(_AT_THE_END[0]))
    each = -(-len(others) // searches)
    moments: list[str] = []
    for number in range(searches):
        moments += others[number * each : (number + 1) * each] + [moment for moment in _AT_THE_END if moment in aimed]
    return moments[:kills]


def undisturbed(search: SmallSearch, folder: Path) -> Twin:
    """Run the search to its end."""
    with _storage(search, folder) as (site, environment):
        session = Session(site, _FIRST, environment)
        if (status := session.to_the_end()) != 0:
            raise SystemExit(f"{search.kind}: the undisturbed search has ended with {status}: {session.said()[-1000:]}")
        _send_rest(site, session)
        outcome = Outcome.of(site)
    first = next(event for event in session.journal.events if event["kind"] == "started")
    last = [event for event in session.journal.events if event["kind"] == "result"][-1]
    return Twin(outcome, first["time"] - session.began, (last["time"] - first["time"]) / len(outcome.results))


def torment(search: SmallSearch, twin: Twin, folder: Path, moments: deque[str], chance: random.Random) -> Chaos:
    """Run the search, killing it at the next `moments`, until it has finished; those that did not come are left."""
    chaos = Chaos(search)
    sessions: list[Session] = []
    with _storage(search, folder) as (site, environment):
        while not sessions or sessions[-1].process.returncode == -signal.SIGKILL:
            begun = bool(sessions and (sessions[-1].journal.before or sessions[-1].journal.events))
            session = Session(site, _AGAIN if begun else _FIRST, environment)
            sessions.append(session)
            if session.wait(_moment(moments[0], session, twin, chance) if moments else lambda: False):
                target = "all" if moments[0] == "trackers" else chance.choice(TARGETS)
                session.kill(target)
                chaos.kills.append((moments.popleft(), target))
            chaos.resumes += _until_training(session) if begun else []
        chaos.sessions = len(sessions)
        chaos.left_behind = [command for each in sessions for command in each.left_behind(_GRACE_SECONDS)]
        for each in sessions:
            kill_marked(each.mark)
        _judge(chaos, site, twin, sessions[-1])
        if chaos.differences:
            folder.rename(folder.with_suffix(".differing"))
    return chaos


def report(
    searches: Sequence[Chaos], twins: Mapping[SmallSearch, Twin], missed: Sequence[str], *, shared: bool
) -> dict[str, Any]:
    """The result as it is written down."""
    kills = [kill for search in searches for kill in search.kills]
    wanted = [twins[each.search].outcome for each in searches]
    differences = Counter(dict.fromkeys(("trials lost", "trials doubled", "epochs lost", "epochs doubled"), 0))
    for search in searches:
        differences.update({kind: len(each) for kind, each in search.differences.items()})
    return {
        "command": "python -m benchmarks.chaos",
        "machine": machine(),
        "versions": versions(),
        "shared": shared,
        "kills": len(kills),
        "kills_by_moment": dict(Counter(moment for moment, _ in kills)),
        "kills_by_target": dict(Counter(target for _, target in kills)),
        "moments_that_never_came": list(missed),
        "sessions": sum(search.sessions for search in searches),
        "compared": {
            "searches": len(searches),
            "trials": sum(len(outcome.trials) for outcome in wanted),
            "epochs": sum(len(outcome.results) for outcome in wanted),
            "decisions": sum(len(each) for outcome in wanted for each in outcome.decisions.values()),
            "models": sum(len(outcome.models) for outcome in wanted),
            "mlflow_runs": sum(len(outcome.mlflow) for outcome in wanted),
            "mlflow_points": sum(outcome.points("mlflow") for outcome in wanted),
            "wandb_runs": sum(len(outcome.wandb) for outcome in wanted),
            "wandb_points": sum(outcome.points("wandb") for outcome in wanted),
        },
        "differences": dict(differences),
        "processes_left_behind": sum(len(search.left_behind) for search in searches),
        "searches_with_trackers_sent_later": sum(search.sent_later for search in searches),
        "seconds_from_resume_to_training": spread([second for search in searches for second in search.resumes]),
        "searches": [asdict(search) for search in searches],
    }


def _moment(moment: str, session: Session, twin: Twin, chance: random.Random) -> Callable[[], bool]:
    """Whether it is time to kill; asked every millisecond."""
    journal, search = session.journal, session.site.search
    recorded = sum(event["kind"] == "result" for event in journal.before)
    total = len(twin.outcome.results)
    late = chance.uniform(0.0, 0.9 * (twin.startup + (total - recorded) * twin.epoch))

    early, sent = chance.uniform(0.0, 0.9 * twin.startup), _sent(session)

    def after(kind: str) -> bool:
        return any(event["kind"] == kind for event in journal.look())

    def after_the_last_result() -> bool:
        return after("result") and recorded + sum(each["kind"] == "result" for each in journal.events) == total

    def at_the_start() -> bool:
        return session.seconds > early or any(event["kind"] in ("suggested", "started") for event in journal.look())

    def while_sending() -> bool:
        nonlocal sent
        before, sent = sent, _sent(session)
        return session.seconds > late and before != sent

    return {
        "anywhere": lambda: session.seconds > late,
        "start": at_the_start,
        "result": lambda: after("result"),
        "checkpoint": lambda: any(True for _ in search.glob("trials/*/.epoch-*.tmp")),
        "trackers": while_sending,
        "last_result": after_the_last_result,
        "session_end": lambda: after("session_end"),
    }[moment]


def _sent(session: Session) -> list[int]:
    """When the trackers' files were last written."""
    site, times = session.site, []
    for path in (site.storage / "mlflow.db-journal", *(site.search / "trackers" / f"{each}.json" for each in _STATES)):
        with suppress(OSError):
            times.append(path.stat().st_mtime_ns)
    return times


def _until_training(session: Session) -> list[float]:
    """Seconds from the command to the first training, if there was any."""
    return [event["time"] - session.began for event in session.journal.events if event["kind"] == "started"][:1]


def _judge(chaos: Chaos, site: Site, twin: Twin, last: Session) -> None:
    """Compare with the twin; what the trackers may lack is sent first, as a user would."""
    if last.process.returncode != 0:
        chaos.differences = {"sessions failed": [f"exit status {last.process.returncode}: {last.said()[-1000:]}"]}
        return
    chaos.sent_later = _send_rest(site, last)
    chaos.differences = compare(Outcome.of(site), twin.outcome)


def _send_rest(site: Site, last: Session) -> bool:
    """Send what the trackers had no time for, as the session has said; whether there was anything."""
    if "send the rest with" not in last.said():
        return False
    command = [sys.executable, "-m", "experiments.sync", site.name, "--storage", str(site.storage)]
    subprocess.run(command, cwd=ROOT, env=site.environment(), check=True, capture_output=True)
    return True


@contextmanager
def _storage(search: SmallSearch, folder: Path) -> Iterator[tuple[Site, dict[str, str]]]:
    """A storage that lasts as long as the context, and the environment for sessions on it."""
    folder.mkdir()
    try:
        with scratch() as environment:
            yield search.site(folder), environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _line(chaos: Chaos) -> str:
    what = "; ".join(f"{kind}: {', '.join(each[:3])}" for kind, each in chaos.differences.items())
    left = f"; left behind: {'; '.join(chaos.left_behind)}" if chaos.left_behind else ""
    return f"{chaos.search.kind}-{chaos.search.seed}: {len(chaos.kills)} kills, {what or 'as if undisturbed'}{left}\n"


if __name__ == "__main__":
    sys.exit(main())
