"""How a search stands, running or ended, from any terminal.

python -m experiments.status SEARCH [--follow] [--json] [--storage DIR]
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from experiments.commands import no_search
from experiments.copies import bring_record
from experiments.lock import Driver, who_runs
from experiments.paths import SearchPaths, storage_paths
from experiments.progress import Outlook, clock, end_text, overview, running_table
from experiments.record import RecordReader
from experiments.state import SearchState
from experiments.stoppers import Budget
from satdet._cli import run_command
from satdet.errors import StorageError

_LOOK_SECONDS = 1.0
_LATEST = 5
"""Trials that have ended last, which are named."""


@dataclass(frozen=True)
class Standing:
    """A search as it is known now.

    Attributes
    ----------
    name : str
    state : SearchState
    driver : Driver or None
        Who runs it.
    """

    name: str
    state: SearchState
    driver: Driver | None

    @property
    def status(self) -> str:
        """``running`` while there is a driver, else what the record says."""
        return "running" if self.driver is not None else self.state.status

    def outlook(self) -> Outlook:
        """What the whole search will be, by its record."""
        state = self.state
        gone = state.seconds - state.seconds_before
        if self.driver is not None:
            gone += max(0.0, time.time() - state.updated_at)
        return Outlook(
            self.name,
            state.planned or len(state.trials),
            state.concurrency,
            lambda trial: 1 if state.task == "evaluate" else int(trial.config["training.epochs"]),
            _budget(state),
            began=time.monotonic() - gone,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data, for programs."""
        state, outlook = self.state, self.outlook()
        ranking = state.ranking()
        return {
            "search": self.name,
            "status": self.status,
            "driver": None if self.driver is None else {"host": self.driver.host, "process": self.driver.process},
            "trials": dict(Counter(trial.status for trial in state.trials.values())),
            "planned": outlook.trials,
            "epochs": sum(trial.epochs for trial in state.trials.values()),
            "metric": state.metric,
            "best": ranking[0].best(state.metric, state.mode)[state.metric] if ranking else None,
            "best_trial": ranking[0].trial_id if ranking else None,
            "seconds": round(state.seconds, 1),
            "seconds_left": outlook.seconds_left(state) if self.driver is not None else None,
            "seconds_since_last_event": round(max(0.0, time.time() - state.updated_at), 1),
        }

    def shown(self) -> Group:
        """For a terminal: one line of all, the trials that run, those that have ended last."""
        outlook = self.outlook()
        who = f" ({self.driver})" if self.driver is not None else ""
        parts: list[Any] = [Text(f"{self.name}: {self.status}{who}, {overview(self.state, outlook)}")]
        if any(trial.status == "running" for trial in self.state.trials.values()):
            parts.append(running_table(self.state, outlook))
        ended = sorted((t for t in self.state.trials.values() if t.ended_at), key=lambda t: t.ended_at or 0.0)
        parts += [Text(end_text(trial, self.state)) for trial in ended[-_LATEST:]]
        since = clock(time.time() - self.state.updated_at)
        parts.append(Text(f"last recorded {since} ago"))
        return Group(*parts)


class Watch:
    """Reads on in a record from where it was.

    Parameters
    ----------
    search : SearchPaths
    """

    def __init__(self, search: SearchPaths) -> None:
        self._search = search
        self._reader = RecordReader(search.record)
        self._state = SearchState()

    def look(self) -> Standing:
        """How the search stands now.

        Raises
        ------
        StorageError
            If the storage cannot be read, or the record is damaged.
        """
        remote = self._search.remote
        objects = remote.objects(self._search.name) if remote is not None else None
        try:
            bring_record(self._search)
            for event in self._reader.new_events():
                self._state.apply(event)
            driver = who_runs(self._search.lock, objects)
        except OSError as error:
            raise StorageError(f"{self._search.root}: cannot be read ({error.strerror})") from None
        return Standing(self._search.name, self._state, driver)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.status", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("search", metavar="SEARCH")
    parser.add_argument("--storage", default="runs", help="folder or address of the searches (default: runs)")
    parser.add_argument("--follow", action="store_true", help="until the search has ended; Ctrl-C only stops looking")
    parser.add_argument("--json", action="store_true", help="plain data")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)

    def command() -> None:
        search = storage_paths(options.storage).search(options.search)
        bring_record(search)
        if not search.record.is_file():
            raise no_search(search)
        watch = Watch(search)
        standing = watch.look()
        if options.json:
            sys.stdout.write(json.dumps(standing.to_json(), indent=1) + "\n")
            return
        console = Console(highlight=False, no_color="NO_COLOR" in os.environ)
        if options.follow and standing.driver is not None:
            standing = _follow(watch, standing, console)
        console.print(standing.shown(), soft_wrap=not console.is_terminal)

    return run_command(command, debug=options.debug)


def _follow(watch: Watch, standing: Standing, console: Console) -> Standing:
    """Show what changes until nobody runs the search any more; returns how it stands then."""
    with Live(standing.shown(), console=console, auto_refresh=False, transient=True) as live:
        while standing.driver is not None:
            time.sleep(_LOOK_SECONDS)
            standing = watch.look()
            live.update(standing.shown(), refresh=True)
    return standing


def _budget(state: SearchState) -> Budget | None:
    """What was given on the command line, else in the declaration."""
    said = state.options.get("budget")
    if said:
        return Budget(**said)
    for stopper in state.header["declaration"].get("stoppers", []):
        if stopper.get("kind") == "BudgetCap":
            return Budget(stopper["seconds"], stopper["gpu_seconds"], stopper["epochs"])
    return None


if __name__ == "__main__":
    sys.exit(main())
