"""What a search has left in its record, its models and its trackers, and how two searches differ in that.

Whatever measures time is left out: it is never the same twice.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from experiments.record import read_record
from experiments.state import SearchState
from tests.site import Site

TIMED = frozenset({"seconds", "seconds_training", "seconds_evaluation", "images_per_second"})
"""Metrics that measure time."""
History = dict[str, list[tuple[int, float | None]]]
"""Steps and values by metric; of one that measures time, steps alone."""
Differences = dict[str, list[str]]
"""What differs, in words, by kind."""


@dataclass(frozen=True)
class TrackedRun:
    """One trial's run in a tracker."""

    status: str
    stop_reason: str
    history: History


@dataclass(frozen=True)
class Outcome:
    """All that a search has left.

    Attributes
    ----------
    status : str
        Of the search.
    best : str or None
        Its best trial.
    numbers : list of int
        Numbers of the record's events, in their order.
    trials : dict
        Values, seed, status, stop reason and epochs of each trial.
    suggested : list of str
        Trials in the order in which they were suggested.
    results : list of (str, int)
        Trial and epoch of each result.
    metrics : dict
        Metrics of each result.
    decisions : dict
        Of each trial, in their order.
    models : dict
        Digest of each trial's ``model.pt``, but for what measures time.
    parents : list of str
        Status of each parent run in MLflow.
    mlflow, wandb : dict
        Runs of each trial, of which there should be one.
    """

    status: str
    best: str | None
    numbers: list[int]
    trials: dict[str, dict[str, Any]]
    suggested: list[str]
    results: list[tuple[str, int]]
    metrics: dict[tuple[str, int], dict[str, float]]
    decisions: dict[str, list[Any]]
    models: dict[str, str]
    parents: list[str] = field(default_factory=list)
    mlflow: dict[str, list[TrackedRun]] = field(default_factory=dict)
    wandb: dict[str, list[TrackedRun]] = field(default_factory=dict)

    @classmethod
    def of(cls, site: Site, *, trackers: bool = True) -> "Outcome":
        """Read it from the storage; without `trackers`, what they have is not looked at."""
        events = read_record(site.search / "record.jsonl")
        state = SearchState.of(events)
        results = [event for event in events if event["kind"] == "result"]
        ranking = state.ranking()
        parents, mlflow = _mlflow(site) if trackers else ([], {})
        return cls(
            status=state.status,
            best=ranking[0].trial_id if ranking else None,
            numbers=[event["n"] for event in events],
            trials={
                trial.trial_id: {
                    "values": trial.values,
                    "seed": trial.seed,
                    "status": trial.status,
                    "stop_reason": trial.stop_reason,
                    "epochs": trial.epochs,
                }
                for trial in state.trials.values()
            },
            suggested=[event["trial"] for event in events if event["kind"] == "suggested"],
            results=[(event["trial"], event["epoch"]) for event in results],
            metrics={(event["trial"], event["epoch"]): _untimed(event["metrics"]) for event in results},
            decisions={trial.trial_id: [list(each) for each in trial.decisions] for trial in state.trials.values()},
            models={
                path.parent.name: _model_digest(torch.load(path, weights_only=True, map_location="cpu"))
                for path in sorted(site.search.glob("trials/*/model.pt"))
            },
            parents=parents,
            mlflow=mlflow,
            wandb=_wandb(site) if trackers else {},
        )

    def points(self, tracker: str) -> int:
        """How many points ``mlflow`` or ``wandb`` has."""
        runs: dict[str, list[TrackedRun]] = getattr(self, tracker)
        return sum(len(history) for each in runs.values() for run in each for history in run.history.values())


def compare(outcome: Outcome, twin: Outcome) -> Differences:
    """What `outcome` has lost, doubled or changed of what its undisturbed `twin` has; empty if nothing."""
    found: dict[str, list[str]] = defaultdict(list)

    def tell(kind: str, what: Iterable[object]) -> None:
        found[kind] += [str(each) for each in what]

    if outcome.status != twin.status:
        tell("status", [f"{outcome.status}, not {twin.status}"])
    if outcome.best != twin.best:
        tell("best", [f"{outcome.best}, not {twin.best}"])
    if outcome.numbers != list(range(1, len(outcome.numbers) + 1)):
        tell("sequence", ["numbers of the record's events have gaps"])
    tell("trials lost", twin.trials.keys() - outcome.trials.keys())
    tell("trials doubled", [*(outcome.trials.keys() - twin.trials.keys()), *_doubled(outcome.suggested)])
    tell("epochs lost", set(twin.results) - set(outcome.results))
    tell("epochs doubled", [*(set(outcome.results) - set(twin.results)), *_doubled(outcome.results)])
    tell("trials differing", _differing(outcome.trials, twin.trials))
    tell("decisions differing", _differing(outcome.decisions, twin.decisions))
    tell("metrics differing", _differing(outcome.metrics, twin.metrics))
    tell("models lost", twin.models.keys() - outcome.models.keys())
    tell("models differing", _differing(outcome.models, twin.models))
    if outcome.parents != twin.parents:
        tell("mlflow parents", [f"{outcome.parents}, not {twin.parents}"])
    for tracker in ("mlflow", "wandb"):
        mine, theirs = getattr(outcome, tracker), getattr(twin, tracker)
        tell(f"{tracker} runs lost", theirs.keys() - mine.keys())
        tell(f"{tracker} runs doubled", [*(mine.keys() - theirs.keys()), *(t for t, r in mine.items() if len(r) > 1)])
        for trial in sorted(mine.keys() & theirs.keys()):
            _compare_runs(f"{tracker}", trial, mine[trial][0], theirs[trial][0], tell)
    return {kind: each for kind, each in found.items() if each}


def _compare_runs(tracker: str, trial: str, mine: TrackedRun, theirs: TrackedRun, tell: Any) -> None:
    if (mine.status, mine.stop_reason) != (theirs.status, theirs.stop_reason):
        ends = f"{mine.status} {mine.stop_reason}, not {theirs.status} {theirs.stop_reason}"
        tell(f"{tracker} ends differing", [f"{trial}: {ends}"])
    for metric in sorted(mine.history.keys() | theirs.history.keys()):
        points, wanted = mine.history.get(metric, []), theirs.history.get(metric, [])
        steps = Counter(step for step, _ in points)
        expected = Counter(step for step, _ in wanted)
        where = f"{trial} {metric}"
        tell(f"{tracker} steps lost", [f"{where} {step}" for step in (expected - steps).elements()])
        tell(f"{tracker} steps doubled", [f"{where} {step}" for step in (steps - expected).elements()])
        if steps == expected and points != wanted:
            tell(f"{tracker} values differing", [where])


def _differing(mine: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> list[Any]:
    return sorted(key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key])


def _doubled(items: Iterable[Any]) -> list[Any]:
    return [item for item, count in Counter(items).items() if count > 1]


def _untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMED}


def _point(metric: str, step: int, value: float) -> tuple[int, float | None]:
    return step, None if metric in TIMED or metric.removeprefix("best/") in TIMED else value


def _mlflow(site: Site) -> tuple[list[str], dict[str, list[TrackedRun]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{site.storage / 'mlflow.db'}")
    if site.name not in [experiment.name for experiment in client.search_experiments()]:
        return [], {}
    parents, children = site.mlflow_runs()
    runs: dict[str, list[TrackedRun]] = {}
    for child in children:
        history = {
            metric: sorted(
                _point(metric, point.step, point.value)
                for point in client.get_metric_history(child.info.run_id, metric)
            )
            for metric in child.data.metrics
        }
        run = TrackedRun(child.info.status, child.data.tags.get("stop_reason", ""), history)
        runs.setdefault(child.data.tags["trial_id"], []).append(run)
    return [parent.info.status for parent in parents], runs


def _wandb(site: Site) -> dict[str, list[TrackedRun]]:
    from tests.wandb_log import read_run

    runs: dict[str, list[TrackedRun]] = {}
    for file in sorted(site.storage.glob("wandb/offline-run-*/run-*.wandb")):
        run = read_run(file.parent)
        history: History = defaultdict(list)
        for row in run["history"]:
            for name, value in row.items():
                if not name.startswith("_") and isinstance(value, int | float):
                    history[name].append(_point(name, int(row["epoch"]), value))
        end = TrackedRun(str(run["exit_code"]), str(run["summary"].get("stop_reason")), dict(history))
        runs.setdefault(run["config"].get("trial_id", f"none, {file.parent.name}"), []).append(end)
    return runs


def _model_digest(content: Any) -> str:
    digest = hashlib.sha256()
    for path, value in _leaves(content, ""):
        digest.update(path.encode())
        digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
    return digest.hexdigest()


def _leaves(content: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key in sorted(content):
            if key not in TIMED:
                yield from _leaves(content[key], f"{path}.{key}")
    else:
        yield path, content
