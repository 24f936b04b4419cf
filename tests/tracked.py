"""Made-up searches in which everything happens that a tracker must show, and what each tracker has of them."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from optuna import load_study
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

import search_spaces
from experiments.paths import storage_paths
from experiments.record import Record
from experiments.sync import Projection
from experiments.trackers import TrackerSettings
from satdet.config import flatten
from search_spaces.declare import (
    Choice,
    Experiment,
    LogUniform,
    Maximise,
    Random,
    RunAll,
    SearchSpace,
    reported_metrics,
)
from tests.searches import COMPLETED, FAILED
from tests.wandb_log import read_run

Script = list[tuple[str, dict[str, Any]]]
RATIOS = Choice((0.5, 1.0, 2.0), (1.0,))
TRAINING = dataclasses.replace(
    search_spaces.load("backbone_ablation").scaled_down(),
    space=SearchSpace({"detector.aspect_ratios": RATIOS, "optimizer.learning_rate": LogUniform(1e-4, 1e-2)}),
    also=(Maximise("images_per_second"),),
    searcher=Random(seed=1),
    trials=8,
    scheduler=RunAll(),
)
EVALUATION = search_spaces.load("nms_grid")
SLOW = {"status": "stopped", "stop_reason": "slow_speed_global", "error": None, "by": "trial", "why": "3 of 9 images/s"}
HALVED = {"status": "stopped", "stop_reason": "hyperband", "error": None, "by": "scheduler", "why": "rank 2 of 2"}
PAUSE = {"action": "pause", "why": "waits at epoch 2", "rung": 2}
UP = {"action": "continue", "why": "rank 1 of 2", "rung": 2, "rank": 1, "compared": 2, "threshold": 0.2}
OUT = {"action": "stop", "why": "rank 2 of 2", "rung": 2, "rank": 2, "compared": 2, "threshold": 0.3}


def training() -> Script:
    """Pauses, a promotion, an interruption, three ways to be stopped, a failure, and trials that are left open."""
    metrics = reported_metrics(flatten(TRAINING.base), "train")
    script = _head(TRAINING)
    for number, rate in enumerate((0.5, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3)):
        why = {"by": "declared"} if rate == 0.5 else {"by": "model", "known": number}
        values = {"detector.aspect_ratios": [1.0], "optimizer.learning_rate": rate}
        script += _begin(number, values, why)

    def epoch(number: int, at: int, score: float, end: Any = None, decision: Any = None) -> None:
        script.append(_result(number, at, {**dict.fromkeys(metrics, 0.5), "map_50": score}, end, decision))

    epoch(0, 1, 0.3)
    epoch(1, 1, 0.2)
    epoch(1, 2, 0.3, decision=PAUSE)
    epoch(2, 1, 0.1)
    epoch(2, 2, 0.2, decision=PAUSE)
    epoch(3, 1, 0.2, end=SLOW)
    script.append(("session_end", {"status": "interrupted"}))
    script.append(("session", {"host": "h", "process": 2}))
    script.append(("started", {"trial": "t0000"}))
    epoch(0, 2, 0.4, end=COMPLETED)
    script.append(("promoted", {"trial": "t0001", "decision": UP, "no_more": False}))
    script.append(("ended", {"trial": "t0002", "end": HALVED, "decision": OUT, "no_more": False}))
    script.append(("started", {"trial": "t0001"}))
    epoch(1, 3, 0.25, end=COMPLETED)
    epoch(4, 1, 0.1)
    epoch(4, 2, 0.15, end=HALVED, decision=OUT)
    script.append(("ended", {"trial": "t0005", "end": FAILED}))
    script += _begin(6, {"detector.aspect_ratios": [1.0], "optimizer.learning_rate": 6e-3}, {"by": "random"})
    epoch(6, 1, 0.2, decision=PAUSE)
    script += _begin(7, {"detector.aspect_ratios": [0.5, 1.0, 2.0], "optimizer.learning_rate": 7e-3}, {})[:1]
    script.append(("session_end", {"status": "interrupted"}))
    return script


def evaluation() -> Script:
    """Trials that measure a model, and report no loss; one fails."""
    metrics = dict.fromkeys(reported_metrics(flatten(EVALUATION.base), "evaluate"), 0.5)
    script = _head(EVALUATION)
    for number, threshold in enumerate((0.3, 0.4, 0.5)):
        script += _begin(number, {"detector.nms_threshold": threshold}, {"by": "grid"})
        end = FAILED if threshold == 0.5 else COMPLETED
        script.append(_result(number, 0 if end is FAILED else 1, {**metrics, "map_50": threshold}, end, None))
    script.append(("session_end", {"status": "finished"}))
    return script


class Tracked:
    """A storage with one search, and what a tracker has of it."""

    def __init__(self, root: Path, script: Script, mlflow: Path | None = None) -> None:
        self.storage = storage_paths(root)
        self.storage.make()
        self.script = script
        self.search = self.storage.search(script[0][1]["declaration"]["name"])
        self.settings = TrackerSettings(
            storage=self.storage, search=self.search, tracking_uri=self.storage.mlflow_uri, wandb="offline"
        )
        if mlflow is not None:
            shutil.copyfile(mlflow, root / "mlflow.db")

    def record(self, count: int | None = None) -> None:
        """Write the record up to its first `count` events."""
        with Record(self.search.record) as record:
            for kind, values in self.script[len(record.events) : count]:
                record.append(kind, **values)

    def send(self, name: str) -> Projection:
        """Send what there is, to one tracker; whether it came through is the projection's `done`."""
        projection = Projection(name, self.settings, driver_gone=_Gone(), last_pauses=())
        projection.run()
        return projection

    def shown(self, name: str) -> dict[str, Any]:
        """All that matters of every trial."""
        return {"mlflow": self._mlflow, "wandb": self._wandb, "optuna": self._optuna}[name]()

    def study(self, name: str | None = None) -> list[FrozenTrial]:
        """The trials of the search's study."""
        storage = RDBStorage(self.storage.optuna_uri)
        try:
            return load_study(study_name=name or self.search.name, storage=storage).trials
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def _mlflow(self) -> dict[str, Any]:
        client = MlflowClient(self.storage.mlflow_uri)
        runs = client.search_runs([client.get_experiment_by_name(self.search.name).experiment_id])
        children = [run for run in runs if "trial_id" in run.data.tags]
        assert len(children) == len({run.data.tags["trial_id"] for run in children}) == len(runs) - 1
        shown = {}
        for run in children:
            tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
            points = {
                name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
            shown[tags["trial_id"]] = {"status": run.info.status, "tags": tags, "points": points}
        return shown

    def _wandb(self) -> dict[str, Any]:
        runs = [read_run(folder) for folder in self.storage.wandb.glob("offline-run-*")]
        assert len({run["id"] for run in runs}) == len(runs)
        shown = {}
        for run in runs:
            rows = [{key: row[key] for key in row if not key.startswith("_")} for row in run["history"]]
            summary = {key: value for key, value in run["summary"].items() if not key.startswith("_")}
            shown[run["config"]["trial_id"]] = {"rows": rows, "summary": summary, "status": run["exit_code"]}
            shown[run["config"]["trial_id"]]["config"] = run["config"]
        return shown

    def _optuna(self) -> dict[str, Any]:
        return {
            trial.user_attrs["trial_id"]: {
                "number": trial.number,
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "points": trial.intermediate_values,
                "attributes": trial.user_attrs,
            }
            for trial in self.study()
        }


class _Gone:
    """No driver is at work."""

    def is_set(self) -> bool:
        return True

    def wait(self, seconds: float) -> bool:
        return True


def _head(experiment: Experiment, search_id: str = "5ea2c4") -> Script:
    header = {"version": 1, "search_id": search_id, "declaration": experiment.to_json(), "digest": experiment.digest()}
    return [("search", {**header, "data": {"digest": "da7a"}}), ("session", {"host": "h", "process": 1})]


def _begin(number: int, values: dict[str, Any], why: dict[str, Any]) -> Script:
    trial = f"t{number:04d}"
    suggested = {"trial": trial, "values": values, "config": values, "seed": number, "why": why}
    return [("suggested", suggested), ("started", {"trial": trial})]


def _result(number: int, epoch: int, metrics: dict[str, float], end: Any, decision: Any) -> tuple[str, dict[str, Any]]:
    values = {"trial": f"t{number:04d}", "epoch": epoch, "metrics": metrics, "end": end, "hardware": "cpu"}
    return "result", values if decision is None else {**values, "decision": decision}
