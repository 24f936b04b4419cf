"""What a tracker is given, what it does, and what it leaves behind for the summary."""

import json
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from experiments.paths import SearchPaths, StoragePaths
from experiments.record import Event
from experiments.state import SearchState, TrialState

WandbMode = Literal["online", "offline", "off"]


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """Where the trackers' servers and files are."""

    storage: StoragePaths
    search: SearchPaths
    tracking_uri: str
    wandb: WandbMode


@dataclass
class TrackerState:
    """How far a tracker has come; kept in a file of its own, rewritten whole."""

    path: Path
    parent_run_id: str | None = None
    run_ids: dict[str, str] = field(default_factory=dict)
    complete: list[str] = field(default_factory=list)
    """Trials whose run has all it will ever have."""
    sequence: int = 0
    """Number of the last event sent."""
    error: str | None = None

    @classmethod
    def load(cls, folder: Path, name: str) -> "TrackerState":
        """The state in `folder`, or a fresh one."""
        path = folder / f"{name}.json"
        try:
            return cls(path, **json.loads(path.read_text()))
        except FileNotFoundError:
            return cls(path)

    def save(self) -> None:
        """Replace the file."""
        values = {key: value for key, value in asdict(self).items() if key != "path"}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(json.dumps(values))
        partial.replace(self.path)


class Tracker(ABC):
    """Sends events of the record, in order, each as often as it takes and each with one effect.

    A tracker is given the whole record from its beginning whenever it (re)starts, and finds out by itself what the
    server has already. It may raise whatever its client raises: it will be made anew and given the record again.
    """

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        self.settings = settings
        self.state = state

    @abstractmethod
    def apply(self, event: Event, search: SearchState) -> None:
        """Send one event; `search` is the state right after it."""

    @abstractmethod
    def settle(self, *, final: bool) -> bool:
        """Do what waits for files of a trial; whether nothing is left. `final`: no such file will come any more."""

    @abstractmethod
    def finish(self, search: SearchState) -> None:
        """Leave all as the record says: no driver is at work, and a search that is not finished can be resumed."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the client after an error; what is open stays as whole as it can be."""


def tracker_states(search: SearchPaths) -> dict[str, TrackerState]:
    """The states that the trackers of a search have left, by name."""
    return {path.stem: TrackerState.load(search.trackers, path.stem) for path in search.trackers.glob("*.json")}


def end_of(event: Event) -> dict[str, Any] | None:
    """How a trial ends with `event`; None if it does not."""
    end: dict[str, Any] | None = event.get("end")
    return end


def trial_summary(trial: TrialState, search: SearchState) -> dict[str, Any]:
    """What a tracker shows of a trial at a glance."""
    best = trial.best(search.metric, search.mode)
    return {
        "stop_reason": trial.stop_reason or "",
        "stop_detail": trial.detail or "",
        "hardware": trial.hardware or "",
        "status": trial.status,
        "epochs": trial.epochs,
        **{f"best/{name}": value for name, value in best.items()},
    }


def cell_name(trial: TrialState) -> str:
    """The searched values in a line."""
    return " ".join(f"{path.rpartition('.')[2]}={value}" for path, value in trial.values.items()) or "base"


def suggestion(trial: TrialState) -> dict[str, str]:
    """Why a trial was suggested: by what, and all that the searcher says."""
    return {"suggested_by": str(trial.why.get("by", "")), "suggested": json.dumps(trial.why)}


def rung_metrics(event: Event) -> dict[str, float]:
    """Where an event's decision has placed the trial among the others, as metrics; empty if they were not compared."""
    decision = event.get("decision") or {}
    return {f"rung_{name}": float(decision[name]) for name in ("rank", "compared", "threshold") if name in decision}
