"""What the small commands on one search do alike: its name, its storage, one line for an error."""

import argparse
import sys
from collections.abc import Callable, Sequence

from experiments.copies import bring_record
from experiments.paths import SearchPaths, StoragePaths, storage_paths
from satdet._cli import run_command
from satdet.errors import UsageError


def on_search(prog: str, description: str, act: Callable[[SearchPaths], str], arguments: Sequence[str] | None) -> int:
    """Run a command line that does one thing to one search and prints what `act` returns; returns its exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description.splitlines()[0])
    parser.add_argument("search", metavar="SEARCH")
    parser.add_argument("--storage", default="runs", help="folder or address of the searches (default: runs)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)

    def command() -> None:
        storage = storage_paths(options.storage)
        search = storage.search(options.search)
        bring_record(search)
        if not search.record.is_file():
            raise no_search(search)
        sys.stdout.write(act(search) + "\n")

    return run_command(command, debug=options.debug)


def no_search(search: SearchPaths) -> UsageError:
    """The error of a name under which there is no search, with those that there are."""
    storage = StoragePaths(search.root.parent, search.remote)
    known = ", ".join(storage.searches()) or "none"
    return UsageError(f"{storage}/{search.name}: no search of that name here; searches in {storage}: {known}")
