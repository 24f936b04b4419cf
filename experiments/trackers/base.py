"""What a tracker is given, what it does, and what it leaves behind for the summary."""

import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
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
class Tally:
    """What a process has sent to a tracker."""

    runs: set[str] = field(default_factory=set)
    """Trials whose run it has made or changed."""
    points: int = 0
    """Steps at which it has sent metrics."""
    files: int = 0
    """Files of trials."""
    failures: int = 0
    """Times that it had to begin anew, not knowing what had become of its last request."""
    patience: int = 0
    """Seconds to wait for the answer to an upload, once one was given up."""


@dataclass
class TrackerState:
    """How far a tracker has come; kept in a file of its own, rewritten whole."""

    path: Path
    address: str | None = None
    """Where it is sent to, without credentials."""
    contact: float | None = None
    """When the server first answered the process that sends [s since 1970]."""
    parent_run_id: str | None = None
    run_ids: dict[str, str] = field(default_factory=dict)
    complete: dict[str, float] = field(default_factory=dict)
    """Trials whose run has all it will ever have, and when they ended [s since 1970]."""
    local: list[str] = field(default_factory=list)
    """Trials whose run is in files of the storage and not on the server."""
    mode: WandbMode | None = None
    """How W&B was to be sent to."""
    sequence: int = 0
    """Number of the last event sent."""
    error: str | None = None
    """Why it does not get on."""
    tally: Tally = field(default_factory=Tally)
    _saved: str = ""

    @classmethod
    def load(cls, folder: Path, name: str) -> "TrackerState":
        """The state in `folder`, or a fresh one if there is none that can be read: a tracker finds out what it has."""
        path = folder / f"{name}.json"
        try:
            values = json.loads(path.read_text())
            known = {key: value for key, value in values.items() if key in _KEPT}
        except (FileNotFoundError, ValueError, AttributeError):
            return cls(path)
        if not isinstance(known.get("complete", {}), dict):
            del known["complete"]
        return cls(path, **known)

    def save(self) -> None:
        """Replace the file if anything has changed."""
        text = json.dumps({name: getattr(self, name) for name in _KEPT})
        if text == self._saved:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(text)
        partial.replace(self.path)
        self._saved = text

    def sent(self, trial: str, points: int = 0, files: int = 0) -> None:
        """Count what was sent of a trial."""
        self.tally.runs.add(trial)
        self.tally.points += points
        self.tally.files += files


_KEPT = tuple(each.name for each in fields(TrackerState) if each.name not in ("path", "tally", "_saved"))


class Tracker(ABC):
    """Sends events of the record, in order, each as often as it takes and each with one effect.

    A tracker is given the whole record from its beginning whenever it (re)starts, and finds out by itself what the
    server has already. It may raise whatever its client raises: it will be made anew and given the record again.

    Attributes
    ----------
    trouble : str or None
        What keeps a tracker that goes on nevertheless from sending, in a sentence.
    pending : bool
        Whether events that it has taken note of are still to be sent.
    """

    trouble: str | None = None
    pending = False

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        self.settings = settings
        self.state = state

    @staticmethod
    @abstractmethod
    def address(settings: TrackerSettings) -> str:
        """Where this tracker sends to, without credentials."""

    @staticmethod
    def probe(settings: TrackerSettings, seconds: float) -> None:
        """Ask in short whether the server is there; nothing to ask where there is none.

        Raises
        ------
        Unreachable
            If it does not answer within `seconds`.
        """
        return

    def connect(self) -> None:
        """Get a first answer, or raise."""
        return

    @abstractmethod
    def apply(self, event: Event, search: SearchState) -> None:
        """Take note of one event; `search` is the state right after it."""

    @abstractmethod
    def settle(self, *, final: bool) -> bool:
        """Send what was noted and is due; whether nothing is left. `final`: nothing more will be recorded."""

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
        **({"remarks": "\n".join(trial.remarks)} if trial.remarks else {}),
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
