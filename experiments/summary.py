"""``summary.json``: a search's result for people and programs, made from its record at any time.

python -m experiments.summary SEARCH [--storage DIR]
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from experiments.commands import on_search
from experiments.paths import SearchPaths, TrialFiles
from experiments.record import read_record
from experiments.state import SearchState, TrialState
from experiments.trackers.base import TrackerState, tracker_states
from satdet._storage import write_whole
from satdet.errors import StorageError


def summarise(search: SearchPaths, state: SearchState | None = None) -> dict[str, Any]:
    """The summary of a search; `state` saves reading its record again."""
    state = state or SearchState.of(read_record(search.record))
    trackers = tracker_states(search)
    files = search.files()
    ranking = state.ranking()
    return {
        "search": search.name,
        "search_id": state.search_id,
        "status": state.status,
        "metric": state.metric,
        "mode": state.mode,
        "objectives": [list(each) for each in state.objectives],
        "best": ranking[0].trial_id if ranking else None,
        "seconds": round(state.seconds, 3),
        "pareto": pareto_front(state),
        "skipped": state.skipped,
        "data": state.header["data"],
        "declaration": state.header["digest"],
        "trials": [_trial(search, state, trial, trackers, files) for trial in state.trials.values()],
    }


def pareto_front(state: SearchState) -> list[str]:
    """The trials that no other one beats in an objective without losing in another; none with a single objective."""
    objectives = state.objectives
    if len(objectives) < 2:
        return []
    scores = {}
    for trial in state.trials.values():
        best = trial.best(state.metric, state.mode)
        if best:
            scores[trial.trial_id] = [best[name] if mode == "max" else -best[name] for name, mode in objectives]
    return [one for one, mine in scores.items() if not any(_dominates(other, mine) for other in scores.values())]


def _dominates(one: list[float], other: list[float]) -> bool:
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other, strict=True))


def write_summary(search: SearchPaths, state: SearchState | None = None) -> dict[str, Any]:
    """Write the summary into the search's folder, replacing the old one in one step, and return it."""
    try:
        summary = summarise(search, state)
        content = (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode()
        write_whole(search.summary, content)
        if search.remote is not None:
            search.remote.objects(search.name).write(search.summary.name, content)
    except PermissionError as error:
        raise StorageError(f"{error.filename}: cannot be used ({error.strerror})") from None
    return summary


def _trial(
    search: SearchPaths, state: SearchState, trial: TrialState, trackers: dict[str, TrackerState], files: TrialFiles
) -> dict[str, Any]:
    run_ids = {name: tracker.run_ids.get(trial.trial_id) for name, tracker in trackers.items()}
    address = search.address(trial.trial_id)
    return {
        "id": trial.trial_id,
        "status": "pending" if trial.status == "paused" else trial.status,
        "stop_reason": trial.stop_reason,
        "config": trial.config,
        "values": trial.values,
        "seed": trial.seed,
        "best": trial.best(state.metric, state.mode),
        "last": trial.last,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 3),
        "gpu_seconds": round(trial.gpu_seconds, 3),
        "checkpoint": f"{address}/model.pt" if "model.pt" in files.of(trial.trial_id) else None,
        "directory": address,
        "mlflow_run_id": run_ids.get("mlflow"),
        "wandb_run_id": run_ids.get("wandb"),
        "error": trial.error,
        "stop_detail": trial.detail,
        "remarks": trial.remarks,
        "losses": trial.losses,
        "suggested": trial.why,
        "decisions": [{"epoch": epoch, **decision} for epoch, decision in trial.decisions],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the summary of a search anew and print it; returns the exit status."""
    return on_search(
        "experiments.summary", __doc__ or "", lambda search: json.dumps(write_summary(search), indent=1), arguments
    )


if __name__ == "__main__":
    sys.exit(main())
