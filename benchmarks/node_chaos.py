"""How long does a trial stand still when its process or its node is lost, and what does it train again?

    python -m benchmarks.node_chaos [--losses 12] [--storage DIR]

Two nodes on this machine, started by ``cluster/local/start.sh``: a head without CPUs and one that trains. While a
search of real, tiny trainings runs on them, things are lost in turn: a training process, the raylet of the node that
trains, that whole node, and the connection to it; each time ten seconds after a trial trains again, and not before it
has a new epoch. The node is replaced by a new one, and one that was cut off comes back when the trial trains elsewhere.

From the record: how long it takes until a trial trains again, and how many recorded epochs it has to train again. What
the search leaves is compared with one that was not disturbed. Writes ``benchmarks/results/node_chaos.json``; exit
status 1 if a trial failed, or if anything was lost or differs.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos_support import MARK, Session, SmallSearch, kill_marked, marked, scratch, spread
from benchmarks.machine import machine, versions
from benchmarks.outcomes import Outcome, compare
from experiments.record import Event
from tests.site import ROOT

RESULTS = Path("benchmarks/results/node_chaos.json")
WHAT = ("worker", "raylet", "node", "connection")
_PAUSE_SECONDS = 10.0
_LIMIT_SECONDS = 180.0
"""How long a node may take to start, and a lost trial to train again."""


class Node:
    """A node of a cluster, started by the script for that.

    Parameters
    ----------
    environment : mapping
        Token and temporary folder.
    port : int
        Of the head.
    head : str, optional
        Its address; without one, this is the head.
    cpus : int
    """

    def __init__(self, environment: Mapping[str, str], port: int, head: str | None = None, cpus: int = 0) -> None:
        self.mark = secrets.token_hex(8)
        self.environment = dict(environment) | {"PORT": str(port), "CPUS": str(cpus), MARK: self.mark}
        log = Path(environment["TMPDIR"]) / f"{self.mark}.log"
        command = [str(ROOT / "cluster" / "local" / "start.sh"), "--block"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *(("--head-address", head) if head else ())],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + _LIMIT_SECONDS
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"a node did not start: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.1)

    def lose(self, what: str) -> None:
        """SIGKILL for a training process, the raylet, or the whole node; a lost connection stops all of it."""
        if what == "node":
            self.end()
            return
        if what == "connection":
            self._signal(signal.SIGSTOP)
            return
        wanted = b"ray::TrialTrainable" if what == "worker" else b"/raylet/raylet"
        for process in marked(self.mark):
            with suppress(OSError):
                command = Path("/proc", str(process), "cmdline").read_bytes()
                if wanted in command.split(b"\0")[0]:
                    os.kill(process, signal.SIGKILL)

    def reconnect(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Take it away."""
        kill_marked(self.mark)
        self.process.wait()

    def _signal(self, number: int) -> None:
        for process in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(process, number)


@dataclass(frozen=True)
class Loss:
    """What became of the trial that trained where something was lost.

    Attributes
    ----------
    what : str
        A worker, a raylet, a node or the connection to one.
    trial : str
    noticed : float
        Seconds until the search knew.
    trains_again : float
        Seconds until the trial trained again, from the loss.
    epochs_again : int
        Recorded epochs behind the newest checkpoint, which had to be trained again; besides the one that was running.
    """

    what: str
    trial: str
    noticed: float
    trains_again: float
    epochs_again: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search, lose what there is to lose, and write what it cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--losses", type=int, default=12)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT), help="what is lost in turn")
    parser.add_argument("--epochs", type=int, default=40, help="of each of the four trials")
    parser.add_argument("--storage", type=Path, help="folder for the searches, emptied (default: a temporary one)")
    parser.add_argument("--shared", action="store_true", help="note that the machine had other work meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.storage is not None:
        options.storage.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir=options.storage))
    try:
        losses, disturbed = lose(options.losses, options.what, options.epochs, folder / "disturbed")
        wanted = undisturbed(options.epochs, folder / "undisturbed")
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a process may still be ending there
    differences = compare(disturbed, wanted)
    result: dict[str, Any] = {
        "command": "python -m benchmarks.node_chaos",
        "machine": machine(),
        "versions": versions(),
        "shared": options.shared,
        "trials": {trial: state["status"] for trial, state in disturbed.trials.items()},
        "losses": len(losses),
        "seconds_until_training_again": {
            what: spread([loss.trains_again for loss in losses if what in ("all", loss.what)])
            for what in ("all", *WHAT)
        },
        "seconds_until_noticed": {
            what: spread([loss.noticed for loss in losses if loss.what == what]) for what in WHAT
        },
        "most_recorded_epochs_trained_again": max((loss.epochs_again for loss in losses), default=0),
        "differences": {kind: len(each) for kind, each in differences.items()},
        "each": [asdict(loss) for loss in losses],
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 1 if differences or len(losses) < options.losses else 0


def undisturbed(epochs: int, folder: Path) -> Outcome:
    """What the search leaves on this machine without a cluster and without losses."""
    folder.mkdir()
    site = SmallSearch("grid", epochs=epochs).site(folder)
    with scratch() as environment:
        session = Session(site, ("--smoke", "--concurrency", "1", "--cpus-per-trial", "2"), environment)
        if session.to_the_end() != 0:
            raise SystemExit(session.said()[-1000:])
    return Outcome.of(site)


def lose(losses: int, things: Sequence[str], epochs: int, folder: Path) -> tuple[list[Loss], Outcome]:
    """Run the search on two nodes while things are lost; what each loss cost, and what the search has left."""
    folder.mkdir()
    site = SmallSearch("grid", epochs=epochs).site(folder)
    found: list[Loss] = []
    with ExitStack() as stack:
        port = _free_port()
        temporary = stack.enter_context(scratch())
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{temporary['TMPDIR']}/token"}
        head = Node(temporary | access, port)
        stack.callback(head.end)
        address = f"127.0.0.1:{port}"

        def replacement() -> Node:
            node = Node(stack.enter_context(scratch()) | access, port, head=address, cpus=2)
            stack.callback(node.end)
            return node

        node = replacement()
        flags = ("--smoke", "--concurrency", "1", "--cpus-per-trial", "2", "--address", address)
        session = Session(site, flags, temporary | access)
        stack.callback(kill_marked, session.mark)
        while len(found) < losses and _trains_on(session):
            what = things[len(found) % len(things)]
            at = time.time()
            session.journal.look()
            seen = len(session.journal.events)
            lost = node
            lost.lose(what)
            if what != "worker":
                node = replacement()
            if loss := _loss(session, what, at, seen):
                sys.stderr.write(f"{loss}\n")
                found.append(loss)
            if what == "connection":
                lost.reconnect()
        if (status := session.to_the_end()) != 0:
            raise SystemExit(f"the search has ended with {status}: {session.said()[-2000:]}")
        return found, Outcome.of(site)


def _trains_on(session: Session) -> bool:
    """Wait until a trial has trained a new epoch and then for a while; False when the search has ended before."""
    since = len(session.journal.events)
    if not session.wait(lambda: _new(session, since, "result") is not None, session.seconds + _LIMIT_SECONDS):
        return False
    until = session.seconds + _PAUSE_SECONDS
    return session.wait(lambda: session.seconds > until)


def _loss(session: Session, what: str, at: float, since: int) -> Loss | None:
    """What a loss at that time has cost; None if no trial was running where something was lost."""
    begun = _follow(session, since, ("retried", "started"))
    if begun["kind"] == "started":
        return None
    trial = begun["trial"]
    again = _follow(session, session.journal.events.index(begun) + 1, ("started",))
    recorded = [
        event["epoch"] for event in session.journal.events if event["kind"] == "result" and event["trial"] == trial
    ]
    kept = [int(path.name.split("-")[1]) for path in session.site.search.glob(f"trials/{trial}/epoch-*.pt")]
    behind = max(recorded, default=0) - max(kept, default=0)
    return Loss(what, trial, round(begun["time"] - at, 2), round(again["time"] - at, 2), max(0, behind))


def _follow(session: Session, since: int, kinds: tuple[str, ...]) -> Event:
    """Wait for the first of such events after the first `since` of the session.

    Raises
    ------
    SystemExit
        If the search ends before it comes.
    """
    if session.wait(lambda: _new(session, since, *kinds) is not None, session.seconds + _LIMIT_SECONDS):
        event = _new(session, since, *kinds)
        assert event is not None
        return event
    raise SystemExit(f"the search has ended where a trial should have begun again: {session.said()[-2000:]}")


def _new(session: Session, since: int, *kinds: str) -> Event | None:
    session.journal.look()
    return next((event for event in session.journal.events[since:] if event["kind"] in kinds), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
