"""What a record says: the state of a search and of its trials, folded from the events one by one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from experiments.record import Event

Metrics = dict[str, float]
OPEN = ("pending", "running", "paused")


@dataclass
class TrialState:
    """One trial, as far as the record goes."""

    trial_id: str
    values: dict[str, Any]
    """The searched values (the cell), by path."""
    config: dict[str, Any]
    """The whole configuration, by path."""
    seed: int
    why: dict[str, Any] = field(default_factory=dict)
    """Where the values come from, as the searcher says."""
    status: str = "pending"
    """pending, running, paused (waiting for the other trials of a rung), finished, stopped or failed."""
    stop_reason: str | None = None
    error: str | None = None
    attempts: int = 0
    losses: list[str] = field(default_factory=list)
    """Why its process or node was lost, each time that it was begun again for that."""
    results: list[tuple[int, float, Metrics]] = field(default_factory=list)
    """Epoch, time [s since 1970] and metrics of each report."""
    decisions: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Epoch of each decision of the scheduler or a stopper, and what and why."""
    detail: str | None = None
    """Why it was stopped, in one sentence."""
    hardware: str | None = None
    """What the last epoch ran on."""
    workers: int = 1
    """Processes that have trained it since it was last begun."""
    gpus: float = 0.0
    """GPUs that all of them together were given."""
    gpu_seconds: float = 0.0
    """GPUs times seconds spent in epochs, over all attempts."""
    ended_at: float | None = None
    continued_after: int | None = None
    """The epochs it had when somebody had it go on after its end: from there on only it decides when it ends."""
    remarks: list[str] = field(default_factory=list)
    """What happened besides: a damaged checkpoint, a smaller micro-batch."""

    @property
    def epochs(self) -> int:
        """Epochs reported."""
        return self.results[-1][0] if self.results else 0

    @property
    def last(self) -> Metrics:
        """Metrics of the last epoch, empty before the first."""
        return self.results[-1][2] if self.results else {}

    @property
    def seconds(self) -> float:
        """Seconds spent in epochs, over all attempts."""
        return sum(metrics["seconds"] for _, _, metrics in self.results)

    def best(self, metric: str, mode: str) -> Metrics:
        """Metrics of the best epoch by the objective (the first of equals), empty before the first whole epoch."""
        sign = 1 if mode == "max" else -1
        epochs = [metrics for epoch, _, metrics in self.results if epoch > 0]
        return max(epochs, key=lambda metrics: sign * metrics[metric], default={})


@dataclass
class SearchState:
    """One search, as far as the record goes."""

    header: dict[str, Any] = field(default_factory=dict)
    trials: dict[str, TrialState] = field(default_factory=dict)
    status: str = "interrupted"
    """finished, failed, or interrupted: a record that just ends was interrupted."""
    started_at: float = 0.0
    updated_at: float = 0.0
    """When the last event was recorded [s since 1970]."""
    seconds: float = 0.0
    """Wall clock of all sessions together."""
    session_began: float | None = None
    """When the last session began, by its own monotonic clock [s]."""
    seconds_before: float = 0.0
    """Wall clock of the sessions before it."""
    skipped: int = 0
    """Points that were drawn and could not run."""
    options: dict[str, Any] = field(default_factory=dict)
    """Flags of the command as last said."""
    cpus: int | None = None
    """CPUs, and so threads, that each trial was last given: their number decides on the last bits of a sum."""
    planned: int | None = None
    """Trials that the last session meant to have in all."""
    concurrency: int = 1
    """Trials at a time of the last session."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> "SearchState":
        """The state after all `events`."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    @property
    def metric(self) -> str:
        """Name of the objective's metric."""
        return str(self.header["declaration"]["objective"]["metric"])

    @property
    def mode(self) -> str:
        """``max`` or ``min``."""
        return str(self.header["declaration"]["objective"]["mode"])

    @property
    def objectives(self) -> list[tuple[str, str]]:
        """Metric and mode of every objective, the first one first."""
        declaration = self.header["declaration"]
        return [(each["metric"], each["mode"]) for each in (declaration["objective"], *declaration["also"])]

    @property
    def task(self) -> str:
        """``train`` or ``evaluate``."""
        return str(self.header["declaration"]["task"])

    @property
    def search_id(self) -> str:
        """Identity of this search, also among searches of the same name."""
        return str(self.header["search_id"])

    def apply(self, event: Event) -> None:
        """Fold one event in."""
        handler = getattr(self, f"_on_{event['kind']}", None)
        if handler is not None:
            handler(event)
        self.updated_at = event["time"]
        if self.session_began is not None:
            self.seconds = self.seconds_before + max(0.0, _seconds(event) - self.session_began)

    def open_trials(self) -> list[TrialState]:
        """Trials that have begun or wait, in the order of their suggestion."""
        return [trial for trial in self.trials.values() if trial.status in OPEN]

    def ranking(self) -> list[TrialState]:
        """Trials with a result, best first."""
        sign = -1 if self.mode == "max" else 1
        scored = [trial for trial in self.trials.values() if trial.epochs]
        return sorted(scored, key=lambda trial: sign * trial.best(self.metric, self.mode)[self.metric])

    def _on_search(self, event: Event) -> None:
        self.header = event
        self.options = event.get("options", {})
        self.started_at = event["time"]

    def _on_session(self, event: Event) -> None:
        self.status = "interrupted"
        self.options = event.get("options", self.options)
        self.cpus = event.get("cpus", self.cpus)
        self.planned, self.concurrency = event.get("trials", self.planned), event.get("concurrency", self.concurrency)
        self.session_began, self.seconds_before = _seconds(event), self.seconds

    def _on_suggested(self, event: Event) -> None:
        trial_id = event["trial"]
        config = self.header["declaration"]["base"] | event.get("config", event["values"])
        self.trials[trial_id] = TrialState(trial_id, event["values"], config, event["seed"], event.get("why", {}))
        self.skipped += event.get("skipped", 0)

    def _on_started(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.status = "running"
        trial.attempts += 1
        trial.workers, trial.gpus = event.get("workers", 1), event.get("gpus", 0.0)

    def _on_retried(self, event: Event) -> None:
        self.trials[event["trial"]].losses.append(event["error"])

    def _on_result(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.results.append((event["epoch"], event["time"], event["metrics"]))
        trial.gpu_seconds += trial.gpus * event["metrics"]["seconds"]
        trial.hardware = event.get("hardware", trial.hardware)
        self._decided(trial, event)
        self._on_ended(event)

    def _on_promoted(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.status = "pending"
        self._decided(trial, event)

    def _on_continued(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.status = "pending"
        trial.config = trial.config | event["config"]
        trial.stop_reason = trial.error = trial.detail = trial.ended_at = None
        trial.continued_after = event["after"]

    def _decided(self, trial: TrialState, event: Event) -> None:
        decision = event.get("decision")
        if decision is not None:
            trial.decisions.append((trial.epochs, decision))
            trial.status = "paused" if decision["action"] == "pause" else trial.status

    def _on_ended(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.remarks += event.get("remarks", [])
        if event["end"] is None:
            return
        if event["kind"] == "ended":
            self._decided(trial, event)
        trial.status = event["end"]["status"]
        trial.stop_reason = event["end"]["stop_reason"]
        trial.error = event["end"]["error"]
        trial.detail = event["end"].get("why")
        trial.ended_at = event["time"]

    def _on_session_end(self, event: Event) -> None:
        self.status = event["status"]


def _seconds(event: Event) -> float:
    """The clock of a session: monotonic, or in records of before it was noted, that of the day."""
    return float(event["t"] if "t" in event else event["time"])
