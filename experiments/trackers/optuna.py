"""Optuna: one study a search in the storage's own SQLite file, for ``optuna-dashboard``; nothing is read from it.

The study is called as the search; a later search of that name (``--fresh``) gets ``<search>-<search_id>``, for Optuna
has no renaming. Trials have our numbers. Optuna knows no pause: a trial that waits, or whose search was interrupted,
is shown as running, with its status as an attribute, and goes on as the same trial.
"""

import contextlib
import fcntl
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.record import Event
from experiments.state import SearchState
from experiments.trackers.base import Tracker, TrackerSettings, TrackerState

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial

    from experiments.trackers.study import StudyView

_LOCKED_SECONDS = 30
"""How long to wait for a dashboard that reads, or for another search that writes."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class OptunaTracker(Tracker):
    """Writes what differs between the record's trials and the study's, so that a trial of the past is one commit.

    The file is made with the first epoch, since that takes a second. One that is damaged is set aside, and one that
    was taken away is made again.
    """

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        super().__init__(settings, state)
        self._file = Path(settings.storage.optuna_uri.removeprefix("sqlite:///"))
        self._inode: int | None = None
        self._storage: RDBStorage | None = None
        self._study_id = -1
        self._written: dict[str, FrozenTrial] = {}
        self._keys: dict[str, int] = {}
        self._changed: set[str] = set()
        self._search: SearchState | None = None

    @staticmethod
    def address(settings: TrackerSettings) -> str:
        """The file, as Optuna names it."""
        return settings.storage.optuna_uri

    def apply(self, event: Event, search: SearchState) -> None:
        """Note which trial has changed."""
        self._search = search
        if event.get("trial"):
            self._changed.add(event["trial"])

    def settle(self, *, final: bool) -> bool:
        """Write what has changed."""
        search = self._search
        if search is None or not (final or self._storage or any(trial.results for trial in search.trials.values())):
            return True
        if self._storage is None or self._inode != _inode(self._file):
            self._changed = set(search.trials)
        elif not self._changed:
            return True
        self._write(search)
        return True

    def finish(self, search: SearchState) -> None:
        """Close the file; what is open can go on."""
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
            self._storage = None

    def _write(self, search: SearchState) -> None:
        from experiments.trackers.study import StudyView

        view = StudyView(search.header)
        if self._storage is None or self._inode != _inode(self._file):
            self.close()
            self._open(view)
        assert self._storage is not None
        for trial_id, trial in search.trials.items():
            if trial_id in self._changed:
                self._write_trial(self._storage, trial_id, view.trial(trial))
        self._changed.clear()

    def _open(self, view: "StudyView") -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._file.with_name(".optuna.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two searches may begin at once, and the tables are made once
            if _damaged(self._file):
                self._file.replace(self._file.with_name(f"{self._file.name}.damaged"))
            self._storage = optuna.storages.RDBStorage(
                self.settings.storage.optuna_uri, {"connect_args": {"timeout": _LOCKED_SECONDS}}
            )
            self._inode = _inode(self._file)
            self._study_id = self._study(self._storage, view)
        trials = self._storage.get_all_trials(self._study_id)
        self._written = {trial.user_attrs["trial_id"]: trial for trial in trials if "trial_id" in trial.user_attrs}
        self._keys = {
            trial_id: self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
            for trial_id, trial in self._written.items()
            if not trial.state.is_finished()
        }

    def _study(self, storage: "RDBStorage", view: "StudyView") -> int:
        """The study of the search, made if there is none; an empty one that nobody owns is what a crash has left."""
        search_id = view.attributes["search_id"]
        studies = {study.study_name: study for study in storage.get_all_studies()}
        own = [name for name, study in studies.items() if study.user_attrs.get("search_id") == search_id]
        free = view.name not in studies or self._abandoned(storage, studies[view.name], view)
        name = own[0] if own else view.name if free else f"{view.name}-{search_id}"
        if name not in studies:
            storage.create_new_study(view.directions, name)
        study_id = storage.get_study_id_from_name(name)
        for key, value in view.attributes.items():
            storage.set_study_user_attr(study_id, key, value)
        self.state.parent_run_id = name
        return study_id

    def _abandoned(self, storage: "RDBStorage", study: "FrozenStudy", view: "StudyView") -> bool:
        unowned = "search_id" not in study.user_attrs and study.directions == view.directions
        return unowned and not storage.get_all_trials(storage.get_study_id_from_name(study.study_name))

    def _write_trial(self, storage: "RDBStorage", trial_id: str, trial: "FrozenTrial") -> None:
        """Make the study's trial, or bring it up to date; one that has ended is never touched again."""
        before = self._written.get(trial_id)
        if before is None:
            self._keys[trial_id] = storage.create_new_trial(self._study_id, trial)
        elif not before.state.is_finished():
            _update(storage, self._keys[trial_id], before, trial)
        else:
            return
        self._written[trial_id] = trial
        known = len(before.intermediate_values) if before is not None else 0
        self.state.sent(trial_id, points=len(trial.intermediate_values) - known)


def _update(storage: "RDBStorage", key: int, before: "FrozenTrial", now: "FrozenTrial") -> None:
    """Write the differences; the state comes last, for Optuna closes a trial with it."""
    from optuna.trial import TrialState

    for epoch, value in now.intermediate_values.items():
        if before.intermediate_values.get(epoch) != value:
            storage.set_trial_intermediate_value(key, epoch, value)
    for name, content in now.user_attrs.items():
        if before.user_attrs.get(name) != content:
            storage.set_trial_user_attr(key, name, content)
    if before.state is TrialState.WAITING and now.state is not TrialState.WAITING:
        storage.set_trial_state_values(key, TrialState.RUNNING)
    if now.state.is_finished():
        storage.set_trial_state_values(key, now.state, now.values)


def _inode(file: Path) -> int | None:
    """Which file has that name now; None: no file has."""
    return file.stat().st_ino if file.exists() else None


def _damaged(file: Path) -> bool:
    if not file.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_LOCKED_SECONDS)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in _DAMAGED:
            return True
        raise
