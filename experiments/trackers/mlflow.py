"""MLflow: one experiment a search, a parent run for the search, one child run a trial for its whole life."""

import os
from pathlib import Path
from typing import Any

from experiments.record import Event
from experiments.state import SearchState, TrialState
from experiments.trackers.base import (
    Tracker,
    TrackerSettings,
    TrackerState,
    cell_name,
    end_of,
    rung_metrics,
    suggestion,
)
from experiments.trackers.registry import register_best

_RUN_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_ARTIFACTS = ("model.pt", "detections.png", "error.txt")
_REGISTERED = "registered_trial"
_PARAMS_A_CALL = 100
_LONGEST_VALUE = 500


class MlflowTracker(Tracker):
    """Runs are found by their tags ``search_id`` and ``trial_id``, so none is ever opened twice."""

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        super().__init__(settings, state)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=settings.tracking_uri)
        self._experiment = ""
        self._known: dict[str, Any] = {}
        self._sent_epoch: dict[str, int] = {}
        self._hardware: dict[str, str] = {}
        self._uploads: dict[str, TrialState] = {}
        self._trains = True

    def apply(self, event: Event, search: SearchState) -> None:
        """Send one event."""
        if event["kind"] == "search":
            self._trains = search.task == "train"
            self._open_search(event)
        elif event["kind"] == "session":
            self._revive(self.state.parent_run_id)
            self._revive_paused(search)
        elif event.get("trial") and event["trial"] not in self.state.complete:
            self._apply_trial(event, search)

    def settle(self, *, final: bool) -> bool:
        """Upload the artifacts of ended trials whose files are there."""
        for trial_id, trial in list(self._uploads.items()):
            folder = self.settings.search.trial(trial_id)
            if self._trains and not (final or trial.status == "failed" or (folder / "model.pt").exists()):
                continue
            self._upload(self.state.run_ids[trial_id], [folder / name for name in _ARTIFACTS])
            self.state.complete.append(trial_id)
            del self._uploads[trial_id]
        return not self._uploads

    def close(self) -> None:
        """Nothing is held open."""

    def _apply_trial(self, event: Event, search: SearchState) -> None:
        trial = search.trials[event["trial"]]
        if event["kind"] == "started":
            self._open_trial(trial, search, event["time"])
        elif event["kind"] == "result" and event["epoch"] > self._sent_epoch.get(trial.trial_id, -1):
            self._log(self.state.run_ids[trial.trial_id], event)
        elif event["kind"] in ("promoted", "ended") and (compared := rung_metrics(event)):
            self._log_metrics(self.state.run_ids[trial.trial_id], compared, event["time"], trial.epochs)
        if end_of(event):
            self._end_trial(trial, search, event["time"])

    def _open_search(self, header: Event) -> None:
        self._experiment = self._experiment_id(header["declaration"]["name"])
        self._known = self._runs_of(header["search_id"])
        parent = self._known.get("")
        if parent is None:
            tags = {"search_id": header["search_id"], "question": header["declaration"]["question"]}
            tags |= {"declaration": header["digest"], "data": header["data"]["digest"], "satdet.role": "search"}
            tags |= {kind: header["declaration"][kind]["kind"] for kind in ("searcher", "scheduler")}
            parent = self._create(header["declaration"]["name"], tags, header["time"])
            self._client.log_dict(parent.info.run_id, header["declaration"], "declaration.json")
        self.state.parent_run_id = parent.info.run_id

    def _open_trial(self, trial: TrialState, search: SearchState, time: float) -> None:
        run = self._known.get(trial.trial_id)
        if run is None:
            tags = {"search_id": search.search_id, "trial_id": trial.trial_id, "seed": str(trial.seed)}
            tags |= {"mlflow.parentRunId": str(self.state.parent_run_id), "satdet.role": "trial"}
            tags |= {"cell": cell_name(trial), "stop_reason": "", **suggestion(trial)}
            run = self._create(f"{trial.trial_id} {cell_name(trial)}", tags, time)
            self._log_params(run.info.run_id, {**trial.config, "seed": trial.seed})
            self._known[trial.trial_id] = run
        self.state.run_ids[trial.trial_id] = run.info.run_id
        self._sent_epoch.setdefault(trial.trial_id, int(run.data.metrics.get("epoch", -1)))
        if not trial.ended_at:
            self._revive(run.info.run_id)

    def _log(self, run_id: str, event: Event) -> None:
        if (hardware := event.get("hardware")) and hardware != self._hardware.get(run_id):
            self._client.set_tag(run_id, "hardware", hardware)
            self._hardware[run_id] = hardware
        values = {**event["metrics"], **rung_metrics(event), "epoch": float(event["epoch"])}
        self._log_metrics(run_id, values, event["time"], event["epoch"])
        self._sent_epoch[event["trial"]] = event["epoch"]

    def _log_metrics(self, run_id: str, values: dict[str, float], time: float, epoch: int) -> None:
        """A point that the server has already, with its time and step, is the same point."""
        from mlflow.entities import Metric

        stamp = _milliseconds(time)
        self._client.log_batch(run_id, [Metric(name, value, stamp, epoch) for name, value in values.items()])

    def _end_trial(self, trial: TrialState, search: SearchState, time: float) -> None:
        from mlflow.entities import Metric, RunTag

        run_id = self.state.run_ids.get(trial.trial_id)
        if run_id is None:
            self._open_trial(trial, search, time)
            run_id = self.state.run_ids[trial.trial_id]
        tags = [RunTag("stop_reason", trial.stop_reason or ""), RunTag("status", trial.status)]
        more = {"error": trial.error, "stop_detail": trial.detail}
        tags += [RunTag(name, value) for name, value in more.items() if value]
        best = trial.best(search.metric, search.mode)
        stamp = _milliseconds(time)
        self._client.log_batch(run_id, [Metric(f"best/{k}", v, stamp, trial.epochs) for k, v in best.items()], (), tags)
        self._client.set_terminated(run_id, _RUN_STATUS[trial.status], stamp)
        self._uploads[trial.trial_id] = trial

    def finish(self, search: SearchState) -> None:
        """Close the parent, and the runs of trials that a resume will take up."""
        parent = str(self.state.parent_run_id)
        stamp = _milliseconds(search.updated_at)
        ranking = search.ranking()
        if ranking:
            best = ranking[0].best(search.metric, search.mode)[search.metric]
            self._client.set_tag(parent, "best_trial", ranking[0].trial_id)
            self._client.log_metric(parent, f"best/{search.metric}", best, stamp, len(search.trials))
            if search.status == "finished" and self._trains:
                self._register(ranking[0], search)
        for trial in search.open_trials():
            if trial.trial_id in self.state.run_ids:
                self._client.set_terminated(self.state.run_ids[trial.trial_id], "KILLED", stamp)
        self._client.set_terminated(parent, _RUN_STATUS[search.status], stamp)

    def _register(self, trial: TrialState, search: SearchState) -> None:
        """Put the best trial's model into the registry, once."""
        model = self.settings.search.trial(trial.trial_id) / "model.pt"
        parent = str(self.state.parent_run_id)
        if self._client.get_run(parent).data.tags.get(_REGISTERED) == trial.trial_id or not model.exists():
            return
        tags = {"search_id": search.search_id, "trial_id": trial.trial_id, "seed": str(trial.seed)}
        name = str(search.header["declaration"]["name"])
        version = register_best(self._client, name, self.state.run_ids[trial.trial_id], model, tags)
        self._client.set_tag(parent, "registered_version", version)
        self._client.set_tag(parent, _REGISTERED, trial.trial_id)

    def _revive_paused(self, search: SearchState) -> None:
        """A trial that waits for others belongs to the search at work, though nothing of its own will start now."""
        for trial in search.open_trials():
            known = trial.trial_id in self.state.run_ids and trial.trial_id not in self.state.complete
            if trial.status == "paused" and known:
                self._revive(self.state.run_ids[trial.trial_id])

    def _revive(self, run_id: str | None) -> None:
        if run_id is not None and self._client.get_run(run_id).info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")

    def _create(self, name: str, tags: dict[str, str], time: float) -> Any:
        return self._client.create_run(self._experiment, start_time=_milliseconds(time), tags=tags, run_name=name)

    def _experiment_id(self, name: str) -> str:
        existing = self._client.get_experiment_by_name(name)
        if existing is not None:
            return str(existing.experiment_id)
        local = self.settings.tracking_uri == self.settings.storage.mlflow_uri
        location = (self.settings.storage.mlflow_artifacts / name).as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _runs_of(self, search_id: str) -> dict[str, Any]:
        """All runs of the search by trial id; the parent under the empty one."""
        runs: dict[str, Any] = {}
        token = None
        while True:
            page = self._client.search_runs([self._experiment], f"tags.search_id = '{search_id}'", page_token=token)
            runs |= {run.data.tags.get("trial_id", ""): run for run in page}
            token = page.token
            if not token:
                return runs

    def _log_params(self, run_id: str, values: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(path, str(value)[:_LONGEST_VALUE]) for path, value in values.items()]
        for start in range(0, len(params), _PARAMS_A_CALL):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_CALL])

    def _upload(self, run_id: str, files: list[Path]) -> None:
        for file in files:
            if file.exists():
                self._client.log_artifact(run_id, str(file))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
