"""How a scheduler and the stoppers decide inside Ray Tune, and how they get back their memory on a resume."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from experiments.record import Event
from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore
from experiments.stopping import EpochStopper
from experiments.trial_run import STORAGE_LOST

TIME_ATTRIBUTE = "epoch"
_LEG = "-"
"""A trial that was paused goes on in Ray as ``t0003-2``."""


def own_id(ray_trial_id: str) -> str:
    """Our trial's id from that of one of its legs in Ray."""
    return ray_trial_id.partition(_LEG)[0]


def leg_id(trial_id: str, leg: int) -> str:
    """Ray's id for the `leg`-th part (from 1) of a trial."""
    return trial_id if leg == 1 else f"{trial_id}{_LEG}{leg}"


@dataclass(frozen=True)
class Verdict:
    """What was decided on an epoch of a trial.

    Attributes
    ----------
    decision : Decision
    by : str
        ``scheduler`` or ``stopper``.
    reason : str, optional
        The stop reason, if the trial is to end.
    """

    decision: Decision
    by: str = "scheduler"
    reason: str | None = None

    def end(self) -> dict[str, Any] | None:
        """How the trial ends, as it is recorded; None if it does not."""
        if self.reason is None:
            return None
        why = self.decision.why or None
        return {"status": "stopped", "stop_reason": self.reason, "error": None, "by": self.by, "why": why}


@dataclass(frozen=True)
class Released:
    """The end of a pause; `no_more`: it was decided because nothing else was left to wait for."""

    trial_id: str
    verdict: Verdict
    no_more: bool


class DecidingScheduler(FIFOScheduler):  # type: ignore[misc]
    """Gives every epoch to the stoppers and the scheduler, once, in the order of arrival.

    A trial that is paused ends for Ray, which frees its resources; it goes on as another trial of Ray's from its own
    checkpoint, also when the search was interrupted in between.

    Parameters
    ----------
    build : callable
        Makes a scheduler with an empty memory: one for each part of a divided search, whose trials are compared with
        each other and with no others.
    stoppers : sequence of EpochStopper
        The first that would stop a trial does.
    metric : str
        What the scheduler looks at.
    name : str
        Stop reason of a trial that the scheduler stops.
    """

    def __init__(
        self, build: Callable[[], SchedulerCore], stoppers: Sequence[EpochStopper], metric: str, name: str
    ) -> None:
        super().__init__()
        self._build = build
        self._cores: dict[int, SchedulerCore] = {}
        self._core_of: dict[str, SchedulerCore] = {}
        self._stoppers = stoppers
        self._metric = metric
        self._name = name
        self._over: set[str] = set()
        self._apart: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._values: dict[str, float] = {}
        self._released: dict[str, Released] = {}
        self._verdicts: dict[str, Verdict] = {}

    def replay(self, events: Sequence[Event]) -> None:
        """Rebuild the memory: what the record says, in its order."""
        for event in events:
            match event["kind"]:
                case "suggested":
                    self.added(event["trial"], event.get("why", {}))
                case "result":
                    self._replay_result(event)
                case "promoted":
                    self._replay_release(event)
                case "continued":
                    self.set_apart(event["trial"])
                case "ended" if event["end"]["by"] == "scheduler":
                    self._replay_release(event)
                case "ended":
                    self._ended(event["trial"], failed=event["end"]["status"] == "failed")

    def added(self, trial_id: str, why: Mapping[str, Any]) -> None:
        """A trial was suggested; one that confirms what the search has found is never shown to the scheduler."""
        if why.get("by") == "confirm":
            return
        part = int(why.get("part", 0))
        if part not in self._cores:
            self._cores[part] = self._build()
        self._core_of[trial_id] = self._cores[part]
        self._cores[part].add(trial_id)

    def set_apart(self, trial_id: str) -> None:
        """An ended trial goes on because somebody wants it: nothing here judges it any more."""
        self._apart.add(trial_id)
        self._over.add(trial_id)

    def release(self, *, no_more: bool) -> list[Released]:
        """The paused trials that go on or end now, in the order in which they must be recorded."""
        self._take_released(no_more=no_more)
        released, self._released = self._released, {}
        return list(released.values())

    def verdict(self, trial_id: str) -> Verdict | None:
        """What was decided on the epoch that a trial has just reported; given away once."""
        return self._verdicts.pop(trial_id, None)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Nothing to learn from Tune: the declaration has said it."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide on an epoch; one that was decided on before goes on."""
        trial_id, epoch = own_id(trial.trial_id), result[TIME_ATTRIBUTE]
        if epoch <= self._epochs.get(trial_id, 0):
            return str(TrialScheduler.CONTINUE)
        verdict = self._decide(trial_id, epoch, result)
        if verdict.decision is not CONTINUE:
            self._verdicts[trial_id] = verdict
        return str(TrialScheduler.CONTINUE if verdict.decision.action == "continue" else TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial has come to its own end, or a leg of it to a pause."""
        trial_id = own_id(trial.trial_id)
        if result.get("stop_reason") and result["stop_reason"] != STORAGE_LOST:
            self._note_value(trial_id, result[TIME_ATTRIBUTE], result)
            self._ended(trial_id, failed=result["stop_reason"] == "error")

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial's process was lost; only when it is given up is it told as ended, see `given_up`."""

    def given_up(self, trial_id: str) -> None:
        """A trial was lost too often."""
        self._ended(trial_id, failed=True)

    def debug_string(self) -> str:
        """For Ray's own log."""
        return self._name

    def _decide(self, trial_id: str, epoch: int, metrics: dict[str, Any]) -> Verdict:
        self._note_value(trial_id, epoch, metrics)
        if trial_id in self._apart:
            return Verdict(CONTINUE)
        evaluated = metrics.get("seconds_evaluation", 1.0) > 0
        for stopper in self._stoppers:
            if not (evaluated or stopper.every_epoch):
                continue
            stop = stopper.result(trial_id, epoch, metrics)
            if stop is not None:
                self._ended(trial_id, failed=False)
                return Verdict(Decision(action="stop", why=stop.why), "stopper", stop.reason)
        core = self._core_of.get(trial_id)
        if core is None or not evaluated:
            return Verdict(CONTINUE)
        verdict = self._verdict(core.result(trial_id, epoch, float(metrics[self._metric])))
        if verdict.reason is not None:
            self._over.add(trial_id)
        return verdict

    def _verdict(self, decision: Decision) -> Verdict:
        return Verdict(decision, reason=self._name if decision.action == "stop" else None)

    def _note_value(self, trial_id: str, epoch: int, metrics: dict[str, Any]) -> None:
        self._epochs[trial_id] = epoch
        if epoch > 0:
            self._values[trial_id] = float(metrics[self._metric])

    def _ended(self, trial_id: str, *, failed: bool) -> None:
        if trial_id in self._over:
            return
        self._over.add(trial_id)
        core = self._core_of.get(trial_id)
        if core is not None:
            value = None if failed else self._values.get(trial_id)
            core.ended(trial_id, self._epochs.get(trial_id, 0), value)

    def _replay_result(self, event: Event) -> None:
        """As `on_trial_result` or `on_trial_complete` had it; the record, not the replay, says what came of it."""
        trial_id, end = event["trial"], event["end"]
        if end is None or end["by"] in ("scheduler", "stopper"):
            self._decide(trial_id, event["epoch"], event["metrics"])
            return
        self._note_value(trial_id, event["epoch"], event["metrics"])
        self._ended(trial_id, failed=end["status"] == "failed")

    def _replay_release(self, event: Event) -> None:
        if event["trial"] not in self._released:
            self._take_released(no_more=event["no_more"])
        self._released.pop(event["trial"], None)

    def _take_released(self, *, no_more: bool) -> None:
        for core in self._cores.values():
            for trial_id, decision in core.release(no_more=no_more):
                self._released[trial_id] = Released(trial_id, self._verdict(decision), no_more)
