"""MLflow: one experiment a search, a parent run for the search, one child run a trial for its whole life.

Events are collected and sent together, at most once a second, so that a slow server gets few large requests. No request
is repeated by the client: after any error the tracker is made anew and first reads what the server has.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.credentials import HIDDEN, masked
from experiments.paths import SHOWN
from experiments.record import Event
from experiments.state import SearchState, TrialState
from experiments.trackers.base import Tracker, TrackerSettings, TrackerState, cell_name, suggestion
from experiments.trackers.database import dispose, make_database
from experiments.trackers.outage import Unreachable, ask
from experiments.trackers.outbox import Outbox, Outgoing, Point
from experiments.trackers.registry import register_best
from experiments.wording import short_names, value_text
from satdet._storage import sync_tree

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run, RunTag

_CLIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",  # of a server that hangs one wants to know soon
    # A request that the server took and whose answer was lost must not be sent again before we have looked.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_LONGEST_UPLOAD = 120
"""Seconds that the answer to an upload may take in the end; at first as long as any other."""
_RUN_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_REGISTERED = "registered_trial"
_DECLARATION = "declaration.json"
_DATASET = "dataset"
_LONGEST_DIGEST = 36
_FLUSH_SECONDS = 1.0
_ENTITIES_A_CALL = 1000
_ENTITIES_A_KIND = 100
"""Params, and tags, in a call."""
_LONGEST_VALUE = 500
_LONGEST_TAG = 5000


@dataclass
class _Run:
    """A run as the server has it, as far as we know."""

    run_id: str
    status: str
    end: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """The newest value of each."""
    found: bool = True
    """Whether it was there before this tracker was made."""

    @classmethod
    def of(cls, run: "Run") -> "_Run":
        """A run that the server has told."""
        data = run.data
        return cls(
            run.info.run_id, run.info.status, run.info.end_time, dict(data.tags), dict(data.params), dict(data.metrics)
        )

    @property
    def epoch(self) -> int:
        """The last epoch that it has; all before it were sent with it or earlier."""
        return int(self.metrics.get("epoch", -1))


class MlflowTracker(Tracker):
    """Runs are found by their tags ``search_id`` and ``trial_id``, so none is ever opened twice."""

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        super().__init__(settings, state)
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        if settings.tracking_uri == settings.storage.mlflow_uri:
            make_database(settings.storage.mlflow_database, settings.storage.mlflow_artifacts)
        self._client = MlflowClient(tracking_uri=settings.tracking_uri)
        self._outbox = Outbox()
        self._search: SearchState | None = None
        self._experiment = ""
        self._parent: _Run | None = None
        self._runs: dict[str, _Run] = {}
        self._uploads: dict[str, TrialState] = {}
        self._next_flush = 0.0

    @staticmethod
    def address(settings: TrackerSettings) -> str:
        """The tracking URI, without credentials."""
        return masked(settings.tracking_uri)

    @staticmethod
    def probe(settings: TrackerSettings, seconds: float) -> None:
        """Ask a server for its health; a database has no such question."""
        uri = settings.tracking_uri
        if HIDDEN in uri:
            raise Unreachable("its credentials are not kept; give it with --tracking-uri or MLFLOW_TRACKING_URI")
        if uri.startswith(("http://", "https://")):
            ask(f"{uri.rstrip('/')}/health", seconds)

    def connect(self) -> None:
        """Ask for something that needs the server's database and, where there are any, the right credentials."""
        self.probe(self.settings, float(os.environ[_TIMEOUT]))
        self._client.search_experiments(max_results=1)

    def apply(self, event: Event, search: SearchState) -> None:
        """Take note of one event."""
        self._search = search
        if event["kind"] == "session":
            self._outbox.touch([trial.trial_id for trial in search.open_trials()])
        elif event.get("trial"):
            self._outbox.add(event, search.trials[event["trial"]].epochs)
        self.pending = True

    def settle(self, *, final: bool) -> bool:
        """Send what has changed and is due, then the artifacts of ended trials whose files are there."""
        search = self._search
        if search is None:
            return True
        if final:
            self._outbox.touch([trial.trial_id for trial in search.open_trials()])
        if final or (self.pending and time.monotonic() >= self._next_flush):
            self._flush(search, rests=final)
            self._next_flush = time.monotonic() + _FLUSH_SECONDS
            self.pending = False
        for trial_id, trial in list(self._uploads.items()):
            model = self.settings.search.trial_here(trial_id) / "model.pt"
            ready = search.task != "train" or trial.status == "failed" or not trial.epochs or model.exists()
            if final or ready:
                self._upload(trial, whole=ready)
        return not self._uploads

    def finish(self, search: SearchState) -> None:
        """Close the parent, with what the search has come to."""
        parent = self._parent
        if parent is None:
            return
        for trial_id in self._runs.keys() - search.trials.keys():
            self._set_aside(self._runs.pop(trial_id), search.updated_at)
        ranking = search.ranking()
        tags, metrics = {}, []
        if ranking:
            best = ranking[0].best(search.metric, search.mode)[search.metric]
            tags["best_trial"] = ranking[0].trial_id
            epochs = sum(len(trial.results) for trial in search.trials.values())
            metrics = self._news(parent, {f"best/{search.metric}": best}, search.updated_at, epochs)
        self._log(parent, metrics, {}, tags)
        self._close(parent, _RUN_STATUS.get(search.status, "KILLED"), search.updated_at)
        if ranking and search.status == "finished" and search.task == "train":
            self._register(parent, ranking[0], search)
        if self.state.tally.failures:
            self._found(search)

    def close(self) -> None:
        """Let go of the database, where there is one: a storage that was away is not the one that is open."""
        if self.settings.tracking_uri == self.settings.storage.mlflow_uri:
            dispose(self._client.tracking_uri)

    def _flush(self, search: SearchState, *, rests: bool) -> None:
        """Bring the server's runs to what the record says; `rests`: no driver is at work."""
        parent = self._parent or self._open(search)
        if not rests:
            self._revive(parent)
        for trial_id, outgoing in list(self._outbox.changed.items()):
            trial = search.trials[trial_id]
            if trial.ended_at is None or self.state.complete.get(trial_id) != trial.ended_at:
                self.state.complete.pop(trial_id, None)
                self._send(trial, outgoing, search, rests=rests)
            self._outbox.sent(trial_id)

    def _send(self, trial: TrialState, outgoing: Outgoing, search: SearchState, *, rests: bool) -> None:
        if not trial.attempts and trial.ended_at is None:
            return
        run = self._run_of(trial, outgoing, search)
        lacking = [point for point in outgoing.points if self._lacks(run, point, outgoing)]
        metrics = [metric for point in lacking for metric in _metrics(point)]
        if trial.ended_at is not None:
            best = {f"best/{name}": value for name, value in trial.best(search.metric, search.mode).items()}
            metrics += self._news(run, best, trial.ended_at, trial.epochs)
        params = {**trial.config, "seed": trial.seed}
        tags = {"stop_reason": trial.stop_reason, "status": trial.status, "hardware": trial.hardware}
        tags |= {"stop_detail": trial.detail, "error": trial.error, "remarks": "\n".join(trial.remarks)}
        tags["continued"] = json.dumps(outgoing.continued) if outgoing.continued else None
        tags |= _value_tags(trial) | {_DATASET: self._log_dataset(run, search)}
        changed = self._log(run, metrics, params, tags)
        if trial.ended_at is not None:
            changed |= self._close(run, _RUN_STATUS[trial.status], trial.ended_at)
            self._uploads[trial.trial_id] = trial
        elif rests:
            changed |= self._close(run, "KILLED", search.updated_at)
        else:
            changed |= self._revive(run)
        if changed:
            self.state.sent(trial.trial_id, points=len(lacking))

    def _log_dataset(self, run: _Run, search: SearchState) -> str:
        """Tell what the trial was trained on, once; returns the digest, which is then a tag of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data, name = search.header["data"], str(search.header["declaration"]["name"])
        digest = str(data["digest"])
        if run.tags.get(_DATASET) != digest:  # MLflow knows the same one by its digest, and keeps it once
            source = json.dumps({"uri": str(data.get("source", ""))})
            dataset = Dataset(f"{name} frames", digest[:_LONGEST_DIGEST], "local", source)
            tags = [InputTag("mlflow.data.context", "training")]
            self._client.log_inputs(run.run_id, [DatasetInput(dataset, tags)])
        return digest

    def _lacks(self, run: _Run, point: Point, outgoing: Outgoing) -> bool:
        """Whether the server does not have a point; of epochs it has one a step, even if the record has lost lines."""
        if point.epoch:
            return point.step > run.epoch
        if not run.found or "rung_rank" not in run.metrics:
            return True
        stamps = [
            each.timestamp
            for each in self._client.get_metric_history(run.run_id, "rung_rank")
            if each.step == point.step
        ]
        ours = {_milliseconds(each) for each in outgoing.times}
        return _milliseconds(point.time) not in stamps and ours.issuperset(stamps)

    def _news(self, run: _Run, values: dict[str, float], at: float, step: int) -> "list[Metric]":
        """Those of `values` that are not the run's newest already."""
        fresh = {name: value for name, value in values.items() if run.metrics.get(name) != value}
        return _metrics(Point(step, at, fresh, epoch=False))

    def _log(self, run: _Run, metrics: "list[Metric]", params: dict[str, Any], tags: dict[str, Any]) -> bool:
        """Send what the run lacks in as few requests as the server allows; whether there was any."""
        from mlflow.entities import Param, RunTag

        lacking = {name: str(value)[:_LONGEST_VALUE] for name, value in params.items() if name not in run.params}
        wanted = {name: str(value or "")[:_LONGEST_TAG] for name, value in tags.items()}
        differing = {name: value for name, value in wanted.items() if value != run.tags.get(name, "")}
        left = [Param(*each) for each in lacking.items()]
        labels = [RunTag(*each) for each in differing.items()]
        for batch in _batches(metrics, left, labels):
            self._client.log_batch(run.run_id, *batch)
        run.params |= lacking
        run.tags |= differing
        run.metrics |= {metric.key: metric.value for metric in metrics}
        return bool(metrics or left or labels)

    def _close(self, run: _Run, status: str, at: float) -> bool:
        end = _milliseconds(at)
        if (run.status, run.end) == (status, end):
            return False
        self._client.set_terminated(run.run_id, status, end)
        run.status, run.end = status, end
        return True

    def _revive(self, run: _Run) -> bool:
        if run.status == "RUNNING":
            return False
        self._client.update_run(run.run_id, status="RUNNING")
        run.status = "RUNNING"
        return True

    def _open(self, search: SearchState) -> _Run:
        """Find the search's runs, and make the parent if there is none."""
        header = search.header
        name = str(header["declaration"]["name"])
        self._experiment = self._experiment_id(name)
        self._runs = self._found(search)
        parent = self._runs.pop("", None)
        if parent is None:
            tags = {"search_id": search.search_id, "question": header["declaration"]["question"]}
            tags |= {"declaration": header["digest"], "data": header["data"]["digest"], "satdet.role": "search"}
            tags |= {kind: header["declaration"][kind]["kind"] for kind in ("searcher", "scheduler")}
            parent = self._create(name, tags, header["time"])
        if "declared_in" not in parent.tags:
            self._client.log_dict(parent.run_id, header["declaration"], _DECLARATION)
            self._log(parent, [], {}, {"declared_in": _DECLARATION})
        self.state.parent_run_id = parent.run_id
        self._parent = parent
        return parent

    def _run_of(self, trial: TrialState, outgoing: Outgoing, search: SearchState) -> _Run:
        run = self._runs.get(trial.trial_id)
        cell = cell_name(trial)
        same = run is None or (run.tags.get("cell"), run.tags.get("seed")) == (cell, str(trial.seed))
        if run is not None and not same and not outgoing.continued:
            self._set_aside(run, search.updated_at)
            run = None
        if run is None:
            tags = {"search_id": search.search_id, "trial_id": trial.trial_id, "seed": str(trial.seed)}
            tags |= {"mlflow.parentRunId": str(self.state.parent_run_id), "satdet.role": "trial"}
            tags |= {"cell": cell, "stop_reason": "", **suggestion(trial)}
            tags = {name: value[:_LONGEST_TAG] for name, value in tags.items()}
            run = self._create(f"{trial.trial_id} {cell}"[:_LONGEST_VALUE], tags, outgoing.began)
            self._runs[trial.trial_id] = run
        self.state.run_ids[trial.trial_id] = run.run_id
        return run

    def _create(self, name: str, tags: dict[str, str], at: float) -> _Run:
        run = self._client.create_run(self._experiment, start_time=_milliseconds(at), tags=tags, run_name=name)
        return _Run(run.info.run_id, "RUNNING", tags=tags, found=False)

    def _found(self, search: SearchState) -> dict[str, _Run]:
        """The search's runs by trial, the parent under the empty name.

        A request that was given up and yet carried out later may have made a run twice: the one that is further stays.
        """
        known = {self.state.parent_run_id, *self.state.run_ids.values()}
        runs: dict[str, _Run] = {}
        for run in sorted(self._all_runs(search.search_id), key=lambda run: (run.run_id in known, run.epoch)):
            trial_id = run.tags.get("trial_id", "")
            if trial_id in runs:
                self._client.delete_run(runs[trial_id].run_id)
            runs[trial_id] = run
        return runs

    def _all_runs(self, search_id: str) -> Iterator[_Run]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment], f"tags.search_id = '{search_id}'", page_token=token)
            yield from (run for each in page if "lost_trial_id" not in (run := _Run.of(each)).tags)
            token = page.token
            if not token:
                return

    def _set_aside(self, run: _Run, at: float) -> None:
        """Keep the run of a trial that the record has lost, under no trial's name."""
        self._log(run, [], {}, {"lost_trial_id": run.tags["trial_id"], "satdet.role": "lost", "stop_reason": "lost"})
        self._client.delete_tag(run.run_id, "trial_id")
        self._close(run, "KILLED", at)

    def _experiment_id(self, name: str) -> str:
        existing = self._client.get_experiment_by_name(name)
        if existing is not None:
            return str(existing.experiment_id)
        local = self.settings.tracking_uri == self.settings.storage.mlflow_uri
        location = (self.settings.storage.mlflow_artifacts / name).as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _upload(self, trial: TrialState, *, whole: bool) -> None:
        """Send the files of an ended trial; unless it is `whole`, a resume will make more of them."""
        folder = self.settings.search.trial_here(trial.trial_id)
        run_id = self.state.run_ids[trial.trial_id]
        for file in (folder / name for name in SHOWN):
            if file.exists():
                with self._patience():
                    self._client.log_artifact(run_id, str(file))
                self.state.sent(trial.trial_id, files=1)
        own = self.settings.storage.mlflow_artifacts / self.settings.search.name / run_id
        if own.is_dir():  # files that MLflow has only copied: a storage that breaks off must not lose them
            sync_tree(own)
        if trial.ended_at is not None and whole:
            self.state.complete[trial.trial_id] = trial.ended_at
        del self._uploads[trial.trial_id]

    def _register(self, parent: _Run, trial: TrialState, search: SearchState) -> None:
        """Put the best trial's model into the registry, once."""
        model = self.settings.search.trial_here(trial.trial_id) / "model.pt"
        if parent.tags.get(_REGISTERED) == trial.trial_id or not model.exists():
            return
        tags = {"search_id": search.search_id, "trial_id": trial.trial_id, "seed": str(trial.seed)}
        name = str(search.header["declaration"]["name"])
        with self._patience():
            version = register_best(self._client, name, self.state.run_ids[trial.trial_id], model, tags)
        self._log(parent, [], {}, {"registered_version": version, _REGISTERED: trial.trial_id})

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait longer for the answer to an upload each time that one was given up."""
        tally, usual = self.state.tally, os.environ[_TIMEOUT]
        os.environ[_TIMEOUT] = str(max(tally.patience, int(usual)))
        try:
            yield
        except Exception:
            tally.patience = min(2 * int(os.environ[_TIMEOUT]), _LONGEST_UPLOAD)
            raise
        finally:
            os.environ[_TIMEOUT] = usual


def _value_tags(trial: TrialState) -> dict[str, str]:
    """The searched values by their short names, to filter and to colour by."""
    names = short_names(list(trial.values))
    return {name: value_text(value) for name, value in zip(names, trial.values.values(), strict=True)}


def _metrics(point: Point) -> "list[Metric]":
    """A point that the server has already, with its time and step, is the same point."""
    from mlflow.entities import Metric

    return [Metric(name, value, _milliseconds(point.time), point.step) for name, value in point.metrics.items()]


def _batches(
    metrics: "list[Metric]", params: "list[Param]", tags: "list[RunTag]"
) -> "Iterator[tuple[list[Metric], list[Param], list[RunTag]]]":
    """As few calls as hold all, in the order given."""
    while metrics or params or tags:
        some = params[:_ENTITIES_A_KIND], tags[:_ENTITIES_A_KIND]
        room = _ENTITIES_A_CALL - len(some[0]) - len(some[1])
        yield metrics[:room], *some
        metrics, params, tags = metrics[room:], params[_ENTITIES_A_KIND:], tags[_ENTITIES_A_KIND:]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
