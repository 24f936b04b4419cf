"""The models that trials leave, and what is done where a trial's process died before it could."""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.paths import SearchPaths
from experiments.remote import RemoteStorage
from experiments.state import SearchState, TrialState
from satdet.errors import SatdetError, StorageError

_MODEL = "model.pt"


def lost_models(state: SearchState, search: SearchPaths) -> list[TrialState]:
    """Trials that were stopped while their last checkpoint was being written, by a process that then died."""
    if state.task != "train":
        return []
    files = search.files()
    return [
        trial
        for trial in state.trials.values()
        if trial.status == "stopped" and _is_behind(trial, files.of(trial.trial_id))
    ]


def export_missing_models(state: SearchState, search: SearchPaths) -> None:
    """Write the model of a trial that a scheduler ended after the process that could have written it was gone."""
    files = search.files()
    for trial in state.trials.values():
        ended = state.task == "train" and trial.status == "stopped" and trial.epochs
        if ended and _MODEL not in files.of(trial.trial_id):
            from satdet.training import export_model

            with contextlib.suppress(SatdetError):  # without a whole checkpoint there is nothing to export
                if search.remote is None:
                    export_model(search.trial(trial.trial_id))
                else:
                    _export_there(search.remote, search.name, trial.trial_id, export_model)


def _export_there(remote: RemoteStorage, name: str, trial_id: str, export: Callable[[Path], Path]) -> None:
    """Export a model from an object store's checkpoints, into the store."""
    with tempfile.TemporaryDirectory() as folder:
        mirror = remote.mirror(Path(folder), name, "trials", trial_id)
        try:
            mirror.fetch()
            export(Path(folder))
            mirror.send()
        except OSError as error:
            raise StorageError(f"{mirror.store}: {error.strerror}") from None


def _is_behind(trial: TrialState, there: Mapping[str, int]) -> bool:
    epochs = [int(name.split("-")[1]) for name in there if name.startswith("epoch-") and name.endswith(".pt")]
    if not epochs:  # removed once the model was there, or never written
        return trial.epochs > 0 and _MODEL not in there
    return max(epochs) < trial.epochs
