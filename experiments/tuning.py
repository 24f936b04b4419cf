"""How Ray Tune and the record work together: trials go out, and what comes back is recorded before it counts."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm

from experiments.live import LiveSearch
from experiments.resources import TrialResources
from experiments.schedulers.ray_scheduler import DecidingScheduler, leg_id, own_id
from experiments.searchers import Searcher
from experiments.searchers.history import observations
from experiments.state import OPEN, TrialState
from experiments.stoppers import SearchEnds
from experiments.trial_run import STORAGE_LOST, TrialOrder
from search_spaces.declare import reported_metrics

MAX_RETRIES = 3
"""Times that a trial is begun again after its process or node was lost, with no new epoch in between."""
_FINISHED = ("completed", "early_stopping")


class RecordedSearch(SearchAlgorithm):  # type: ignore[misc]
    """Hands trials to Tune: those that the record has open, those whose pause is over, then new ones of the searcher.

    Trials carry our own ids, so that what Ray calls a trial is the same trial before and after an interruption.

    Parameters
    ----------
    live : LiveSearch
    searcher : Searcher
    scheduler : DecidingScheduler
        Knows which paused trials go on.
    order : callable
        From a trial's state and what it is given to what the worker is told.
    resources : TrialResources
        What each trial is given.
    place : callable
        From what a trial is given to what is asked of Ray.
    grow : callable, optional
        From the number of trials that are left at a time, and the most workers, to what a trial is given then.
    limit : int
        The most trials of the search.
    concurrency : int
        The most trials at a time.
    interrupt : AsksToLeave
        Once it asks, no other trial begins.
    restored : sequence of TrialState
        Ended trials whose checkpoint was lost with their process: trained again, and nothing more is recorded of them.
    """

    def __init__(
        self,
        live: LiveSearch,
        searcher: Searcher,
        scheduler: DecidingScheduler,
        order: Callable[[TrialState, TrialResources], TrialOrder],
        *,
        resources: TrialResources,
        place: Callable[[TrialResources], PlacementGroupFactory],
        grow: Callable[[int, int], TrialResources] | None = None,
        limit: int,
        concurrency: int,
        interrupt: "AsksToLeave",
        restored: Sequence[TrialState] = (),
    ) -> None:
        self._live = live
        self._searcher = searcher
        self._scheduler = scheduler
        self._objectives = searcher.experiment.objectives
        self._order = order
        self._resources = resources
        self._place = place
        self._grow = grow
        self._limit = limit
        self._concurrency = concurrency
        self._interrupt = interrupt
        self._waiting = [*_in_turn(live), *restored]
        for trial in restored:
            scheduler.set_apart(trial.trial_id)
        self._legs: dict[str, int] = {}
        self._running: set[str] = set()
        self._finished = False
        self._spec: dict[str, Any] = {}

    @property
    def total_samples(self) -> int:
        """The most trials of the search."""
        return self._limit

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Nothing to learn from Tune: the declaration has said it."""
        return True

    def add_configurations(self, experiments: Any) -> None:
        """Take Tune's settings of a trial: trainable and storage."""
        self._spec = experiments[0].spec

    def next_trial(self) -> Trial | None:
        """The next trial, or None while enough are running and when there are no more."""
        if self._finished or len(self._running) >= self._concurrency or self._interrupt.asked:
            return None
        state = self._next()
        if state is None:
            self._finished = not self._running and not self._paused()
            return None
        self._running.add(state.trial_id)
        self._legs[state.trial_id] = leg = self._legs.get(state.trial_id, 0) + 1
        given = self._given(state)
        return Trial(
            self._spec["run"],
            trial_id=leg_id(state.trial_id, leg),
            config={"trial": self._order(state, given).to_json()},
            storage=self._spec["storage"],
            placement_group_factory=self._place(given),
            max_failures=MAX_RETRIES,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        )

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room for the next trial."""
        self._running.discard(own_id(trial_id))

    def is_finished(self) -> bool:
        """Whether no trial will follow."""
        return self._finished

    def set_finished(self) -> None:
        """Suggest no more."""
        self._finished = True

    def has_checkpoint(self, dirpath: str) -> bool:
        """Never: the record is what survives."""
        return False

    def save_to_dir(self, dirpath: str, **kwargs: Any) -> None:
        """Nothing to save: the record has it."""

    def _next(self) -> TrialState | None:
        """An open trial, a promoted one or a new one; None while there is none, or nothing but waiting is left."""
        self._release(no_more=False)
        if self._waiting:
            return self._waiting.pop(0)
        suggested = self._suggest()
        if suggested is None and not self._running and self._paused():
            self._release(no_more=True)
            return self._waiting.pop(0) if self._waiting else None
        return suggested

    def _given(self, state: TrialState) -> TrialResources:
        """What a trial that begins is given."""
        to_come = max(0, self._limit - len(self._live.state.trials))
        left = min(self._concurrency, len(self._running) + len(self._waiting) + to_come)
        if self._grow is None or left >= self._concurrency:
            return self._resources
        return self._grow(left, int(state.config["training.batch_size"]))

    def _paused(self) -> bool:
        return any(trial.status == "paused" for trial in self._live.state.trials.values())

    def _release(self, *, no_more: bool) -> None:
        """Record what has become of paused trials; those that go on wait for their turn."""
        for released in self._scheduler.release(no_more=no_more):
            end = released.verdict.end()
            said = {"decision": released.verdict.decision.to_json(), "no_more": released.no_more}
            if end is not None:
                self._live.note("ended", trial=released.trial_id, end=end, **said)
            else:
                self._live.note("promoted", trial=released.trial_id, **said)
                self._waiting.append(self._live.trial(released.trial_id))

    def _suggest(self) -> TrialState | None:
        number = len(self._live.state.trials)
        if number >= self._limit:
            return None
        suggestion = self._searcher.suggest(number, lambda: observations(self._live.state, self._objectives))
        if suggestion is None:
            return None
        trial_id = f"t{number:04d}"
        self._live.note(
            "suggested",
            trial=trial_id,
            values=plain(suggestion.values),
            config=plain(self._searcher.space.expand(suggestion.values)),
            seed=suggestion.seed,
            why={"searcher": type(self._searcher.experiment.searcher).__name__, **suggestion.why},
            skipped=len(suggestion.skipped),
            because=list(dict.fromkeys(each.reason for each in suggestion.skipped)),
        )
        self._scheduler.added(trial_id, suggestion.why)
        return self._live.trial(trial_id)


def _in_turn(live: LiveSearch) -> list[TrialState]:
    """The open trials of an earlier session: those that ran, then those that waited, as long as they have waited."""
    turns = {
        event["trial"]: turn
        for turn, event in enumerate(live.record.events)
        if event["kind"] in ("suggested", "promoted")
    }
    waiting = [trial for trial in live.state.open_trials() if trial.status != "paused"]
    return sorted(waiting, key=lambda trial: (trial.status != "running", turns[trial.trial_id]))


class RecordingCallback(tune.Callback):  # type: ignore[misc]
    """Writes down what happens to trials before Tune acts on it, and keeps the screen moving.

    Parameters
    ----------
    live : LiveSearch
    scheduler : DecidingScheduler
        Has decided on each epoch before it comes here.
    tick : callable
        Called at each turn of Tune's loop.
    leave : callable
        Told why, when a trial's process has lost the storage.
    say : callable
        Told what is not recorded: that an ended trial could not be restored.
    """

    def __init__(
        self,
        live: LiveSearch,
        scheduler: DecidingScheduler,
        tick: Callable[[], None],
        leave: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._live = live
        self._scheduler = scheduler
        self._tick = tick
        self._leave = leave
        self._say = say

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """One turn of the loop is over."""
        self._tick()

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A trial begins, or begins again after a fault."""
        if not self._has_ended(trial):
            order = trial.config["trial"]
            given = {"workers": order["workers"], "gpus": order["gpus"] * order["workers"]}
            self._live.note("started", trial=own_id(trial.trial_id), **given)

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record an epoch once, however often it is reported, and the end that comes with it."""
        state = self._live.trial(own_id(trial.trial_id))
        if result["stop_reason"] == STORAGE_LOST:
            self._leave(result["error"])
            return
        if self._has_ended(trial):
            if result["stop_reason"] == "error":
                self._say(f"{state.trial_id}: its model cannot be made again ({result['error']})")
            return
        verdict = self._scheduler.verdict(state.trial_id)
        end = self._end_of(result) or (verdict and verdict.end())
        besides = {"decision": verdict.decision.to_json()} if verdict else {}
        besides |= {"remarks": result["remarks"]} if result.get("remarks") else {}
        if not state.results or result["epoch"] > state.epochs:
            trial.run_metadata.num_failures = 0
            metrics = {name: float(result[name]) for name in reported_metrics(state.config, self._live.state.task)}
            self._live.note(
                "result",
                trial=state.trial_id,
                epoch=result["epoch"],
                metrics=metrics,
                end=end,
                hardware=result.get("hardware"),
                **besides,
            )
        elif end is not None:
            self._live.note("ended", trial=state.trial_id, end=end, **besides)

    def on_trial_recover(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A process or node was lost, and the trial will be begun again."""
        if not self._has_ended(trial):
            self._live.note("retried", trial=own_id(trial.trial_id), error=_last_error(trial))

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """A process or node was lost too often."""
        if self._has_ended(trial):
            return
        end = {"status": "failed", "stop_reason": "error", "error": _last_error(trial), "by": "ray"}
        self._live.note("ended", trial=own_id(trial.trial_id), end=end)
        self._scheduler.given_up(own_id(trial.trial_id))

    def _has_ended(self, trial: Trial) -> bool:
        """Whether the record knows how it ended: then it is only being restored."""
        return self._live.trial(own_id(trial.trial_id)).status not in OPEN

    def _end_of(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """How the trial ends with this result, and by whose decision; None while it goes on."""
        if reason := result["stop_reason"]:
            status = "failed" if reason == "error" else "finished" if reason in _FINISHED else "stopped"
            why = result.get("stop_detail") or None
            return {"status": status, "stop_reason": reason, "error": result.get("error"), "by": "trial", "why": why}
        return None


class AsksToLeave(Protocol):
    """Somebody who may want the search to end early."""

    @property
    def asked(self) -> bool:
        """Whether they do."""


class SearchStopper(tune.Stopper):  # type: ignore[misc]
    """Ends the search when its budget is spent, its target is reached, or when somebody asks."""

    def __init__(self, live: LiveSearch, ends: SearchEnds, interrupt: AsksToLeave) -> None:
        self._live = live
        self._ends = ends
        self._interrupt = interrupt

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is singled out."""
        return False

    def stop_all(self) -> bool:
        """Whether the search should end now."""
        return self._ends.reason(self._live.state) is not None or self._interrupt.asked

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the snapshots that Tune takes of its controller: the record is what survives."""
        return {}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them: lists for tuples."""
    return {path: list(value) if isinstance(value, tuple) else value for path, value in values.items()}


def _last_error(trial: Trial) -> str:
    """The newest failure that Ray has noted for a trial, in one line."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    _, _, newest = text.rpartition("\nFailure # ") if "\nFailure # " in text else text.rpartition("Failure # ")
    lines = [line.strip() for line in newest.splitlines()[1:] if line.strip()]
    if not lines:
        return "lost for an unknown reason"
    traced = any("Traceback" in line or "ray::" in line for line in lines)
    return re.sub(r"^(\w+\.)+(?=\w+: )", "", lines[-1 if traced else 0])[:500]
