"""Opening a search: what a record of that name says already, and whether a new command may go on from there."""

import secrets
from collections.abc import Mapping
from typing import Any

from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths
from experiments.record import Record, read_record
from experiments.remote import move_objects
from experiments.state import OPEN, SearchState
from experiments.stoppers import SearchEnds
from experiments.trackers.base import tracker_states
from satdet.config import unknown_name
from satdet.errors import StorageError, UsageError
from search_spaces.declare import Experiment


def earlier_state(search: SearchPaths, *, fresh: bool = False) -> SearchState:
    """What a record of that name says already; an empty state if there is none.

    Parameters
    ----------
    search : SearchPaths
    fresh : bool
        A record that cannot be read is as good as none: the search will be moved away.

    Raises
    ------
    StorageError
        If the record is damaged, or trials are there without one: that is not a search to begin silently anew.
    """
    try:
        state = SearchState.of(read_record(search.record)) if search.record.is_file() else SearchState()
    except StorageError:
        if fresh:
            return SearchState()
        raise
    if not state.header and not fresh and search.files():
        raise StorageError(
            f"{search.root}: there are trials but the beginning of their record ({search.record.name}) is lost;"
            " restore it from a backup, or begin with --fresh, which moves them away"
        )
    return state


def check_in_the_way(search: SearchPaths, earlier: SearchState, options: RunOptions) -> None:
    """Refuse to overwrite a search silently, and to resume one that is not there.

    Raises
    ------
    StorageError
        Saying which of ``--resume`` and ``--fresh`` is needed.
    """
    if options.resume and not earlier.header:
        raise StorageError(f"{search.root}: there is no search to resume")
    if not earlier.header or options.resume or options.fresh:
        return
    ended = len(earlier.trials) - len(earlier.open_trials())
    if earlier.status == "finished":
        raise StorageError(
            f"{search.root}: this search is finished; see it with python -m experiments.compare {search.name},"
            " or begin anew with --fresh"
        )
    raise StorageError(
        f"{search.root}: an unfinished search ({ended} of {len(earlier.trials)} trials ended) is there;"
        " go on with --resume, or begin anew with --fresh"
    )


def check_unchanged(earlier: SearchState, experiment: Experiment) -> None:
    """Refuse to go on with another declaration than the search began with.

    Raises
    ------
    UsageError
        With the first differences.
    """
    if earlier.header["digest"] == experiment.digest():
        return
    before, now = _flat(earlier.header["declaration"]), _flat(experiment.to_json())
    differences = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(("question", "resources"))
    ]
    what = "; ".join(differences[:8]) or "the order of its paths, which numbers the cells"
    raise UsageError(
        f"{experiment.name}: the declaration has changed since the search began ({what});"
        " change it back, or begin with --fresh"
    )


def check_ends(earlier: SearchState, ends: SearchEnds, *, asked: bool) -> None:
    """Refuse to give more trials or epochs to a search whose budget is spent: they would end at once.

    Raises
    ------
    UsageError
        Saying how to give it more.
    """
    if asked and earlier.status == "finished" and ends.reason(earlier) == "budget":
        raise UsageError(
            f"the budget of the search is spent ({earlier.seconds / 3600:.2f} h,"
            f" {sum(trial.epochs for trial in earlier.trials.values())} epochs); say a larger one with --budget"
        )


def check_same_file(earlier: SearchState, now: Mapping[str, str]) -> None:
    """Refuse to go on measuring another checkpoint than the search began with.

    Raises
    ------
    UsageError
    """
    before = earlier.header["checkpoint"]
    if before["sha256"] != now["sha256"]:
        raise UsageError(
            f"{now['path']} is not the checkpoint that the search began with ({before['path']}, sha256"
            f" {before['sha256'][:12]}…); name that one, or begin with --fresh"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def archive(storage: StoragePaths, search: SearchPaths, earlier: SearchState) -> None:
    """Move an earlier search out of the way; nothing is ever deleted."""
    identity = earlier.search_id if earlier.header else f"damaged-{secrets.token_hex(4)}"
    name = f"{search.name}-{identity}"
    if storage.remote is not None:
        for part in ("trials", "evaluation", "record"):  # the record last: what is left of a move is moved again
            move_objects(storage.remote.objects(), f"{search.name}/{part}", f"{storage.archive.name}/{name}/{part}")
        storage.remote.objects(search.name).remove([search.summary.name])  # which is made from the record
    if search.root.exists():
        storage.archive.mkdir(exist_ok=True)
        search.root.rename(storage.archive / name)


def lost_lines(search: SearchPaths, record: Record) -> list[str]:
    """What the record has visibly lost, for people: a torn end, or events that a tracker was sent already."""
    lines = []
    if record.dropped:
        lines.append(f"the record ended in a torn line; its {record.dropped} bytes were dropped")
    sent = max((state.sequence for state in tracker_states(search).values()), default=0)
    if sent > len(record.events):
        lines.append(
            f"the record ends with event {len(record.events)}, but a tracker was sent event {sent}: lines were lost"
            " with the disk; what they told is done again, from the trials' checkpoints where these have it"
        )
    return lines


def reopened(search: SearchPaths, earlier: SearchState, options: RunOptions) -> list[dict[str, Any]]:
    """The ended trials that a command has go on: for each what is recorded, its changed configuration above all.

    Raises
    ------
    UsageError
        If there is no such trial, it has not ended, its checkpoints are gone, or it is not said how far it should go.
    """
    if options.continued and earlier.task != "train":
        raise UsageError("--continue: an evaluation has no epochs to go on with")
    changes = []
    files = search.files() if options.continued else None
    for trial_id in dict.fromkeys(options.continued):
        if trial_id not in earlier.trials:
            raise UsageError(f"--continue {unknown_name('trial', trial_id, earlier.trials)}")
        trial = earlier.trials[trial_id]
        if trial.status in OPEN:
            raise UsageError(f"--continue {trial_id}: it has not ended ({trial.status}); --resume goes on with it")
        if options.more_epochs is None and trial.status != "failed":
            raise UsageError(f"--continue {trial_id}: it has {trial.epochs} epochs; how many more? --epochs +20")
        there = files.of(trial_id) if files is not None else {}
        if trial.epochs and not any(name.startswith("epoch-") for name in there):
            raise UsageError(
                f"--continue {trial_id}: {search.address(trial_id)} has no checkpoint to go on from (--keep)"
            )
        more = options.more_epochs
        config = {} if more is None else {"training.epochs": trial.epochs + more}
        after = trial.continued_after if more is None else trial.epochs
        ended = {"status": trial.status, "stop_reason": trial.stop_reason}
        changes.append({"trial": trial_id, "config": config, "after": after, "ended": ended})
    return changes
