"""Opening a search: what a record of that name says already, and whether a new command may go on from there."""

from collections.abc import Mapping
from typing import Any

from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths
from experiments.record import read_record
from experiments.state import SearchState
from satdet.errors import StorageError, UsageError
from search_spaces.declare import Experiment


def earlier_state(search: SearchPaths) -> SearchState:
    """What a record of that name says already; an empty state if there is none."""
    return SearchState.of(read_record(search.record)) if search.record.is_file() else SearchState()


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
    storage.archive.mkdir(exist_ok=True)
    search.root.rename(storage.archive / f"{search.name}-{earlier.search_id}")
