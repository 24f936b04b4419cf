"""Go on from what a damaged record still says; and whether a record is whole.

    python -m experiments.repair SEARCH [--storage DIR]

A record that is damaged in the middle is never gone on from silently. This command keeps the events before the damage,
moves the damaged file aside, and says what is given up. Trials whose results were behind the damage are trained again,
as far as their checkpoints do not have it already, and arrive at the same results.
"""

import os
import secrets
import sys
from collections.abc import Sequence

from experiments.commands import on_search
from experiments.lock import sole_driver
from experiments.paths import SearchPaths
from experiments.record import read_record, whole_prefix
from experiments.state import SearchState
from experiments.summary import write_summary
from satdet.errors import StorageError


def repair(search: SearchPaths) -> str:
    """Repair the record of `search` if it needs it; returns what was done, in words.

    Raises
    ------
    StorageError
        If there is nothing whole in it to go on from.
    """
    if search.remote is not None:
        raise StorageError(
            f"{search.remote.uri}/{search.name}/record: its objects are written once and whole; restore one that is"
            " missing or damaged from the store's versions"
        )
    content = search.record.read_bytes()
    events, length = whole_prefix(content, search.record)
    if events and length == len(content):
        return f"{search.record}: whole, {len(events)} events"
    if not events or events[0]["kind"] != "search":
        raise StorageError(
            f"{search.record}: its first line is damaged or lost; restore it from a backup, or begin with --fresh"
        )
    aside = search.record.with_name(f"{search.record.name}.damaged-{secrets.token_hex(4)}")
    partial = search.record.with_name(f".{search.record.name}.tmp")
    with partial.open("wb") as file:
        file.write(content[:length])
        file.flush()
        os.fsync(file.fileno())
    search.record.rename(aside)
    partial.replace(search.record)
    write_summary(search)
    state = SearchState.of(read_record(search.record))
    return (
        f"{search.record}: {len(events)} events kept, {len(content) - length} bytes after them given up"
        f" ({_behind(content[length:])}); the damaged file is {aside}\n"
        f"{len(state.trials) - len(state.open_trials())} of {len(state.trials)} trials have ended; go on with --resume"
    )


def _behind(rest: bytes) -> str:
    lines = rest.count(b"\n")
    return f"about {lines} events" if lines != 1 else "one event"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def act(search: SearchPaths) -> str:
        with sole_driver(search.lock):
            return repair(search)

    return on_search("experiments.repair", __doc__ or "", act, arguments)


if __name__ == "__main__":
    sys.exit(main())
