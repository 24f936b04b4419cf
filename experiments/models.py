"""The models that trials leave, and what is done where a trial's process died before it could."""

import contextlib

from experiments.paths import SearchPaths
from experiments.state import SearchState, TrialState
from satdet.errors import SatdetError


def lost_models(state: SearchState, search: SearchPaths) -> list[TrialState]:
    """Trials that were stopped while their last checkpoint was being written, by a process that then died."""
    if state.task != "train":
        return []
    return [trial for trial in state.trials.values() if trial.status == "stopped" and _is_behind(trial, search)]


def export_missing_models(state: SearchState, search: SearchPaths) -> None:
    """Write the model of a trial that a scheduler ended after the process that could have written it was gone."""
    for trial in state.trials.values():
        folder = search.trial(trial.trial_id)
        if state.task == "train" and trial.status == "stopped" and trial.epochs and not (folder / "model.pt").exists():
            from satdet.training import export_model

            with contextlib.suppress(SatdetError):  # without a whole checkpoint there is nothing to export
                export_model(folder)


def _is_behind(trial: TrialState, search: SearchPaths) -> bool:
    folder = search.trial(trial.trial_id)
    on_disk = [int(path.name.split("-")[1]) for path in folder.glob("epoch-*-*.pt")]
    if not on_disk:  # removed once the model was there, or never written
        return trial.epochs > 0 and not (folder / "model.pt").exists()
    return max(on_disk) < trial.epochs
