"""From a scheduler's settings to Ray's scheduler, and the wrapper that gives it back its memory on a resume."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from experiments.record import Event
from search_spaces.declare import ASHA, Objective, RunAll, Scheduler

TIME_ATTRIBUTE = "epoch"


def build_scheduler(settings: Scheduler, objective: Objective, epochs: int) -> TrialScheduler:
    """Ray's scheduler for `settings`; `epochs` is the most that a trial runs."""
    match settings:
        case RunAll():
            return FIFOScheduler()
        case ASHA(grace_epochs=grace, reduction=reduction):
            return AsyncHyperBandScheduler(
                time_attr=TIME_ATTRIBUTE,
                metric=objective.metric,
                mode=objective.mode,
                max_t=max(epochs, grace),
                grace_period=grace,
                reduction_factor=reduction,
            )


@dataclass(frozen=True)
class _ReplayedTrial:
    """As much of a Ray trial as a scheduler's memory needs."""

    trial_id: str


class RecordedScheduler(TrialScheduler):  # type: ignore[misc]
    """Ray's scheduler, told on a resume all that it had been told, and told every epoch once.

    Parameters
    ----------
    inner : TrialScheduler
        Fresh from `build_scheduler`.
    """

    def __init__(self, inner: TrialScheduler) -> None:
        super().__init__()
        self._inner = inner
        self._added: set[str] = set()
        self._last: dict[str, dict[str, Any]] = {}

    def replay(self, events: Sequence[Event]) -> None:
        """Rebuild `inner`'s memory: what the record says, in its order."""
        for event in events:
            if event["kind"] not in ("suggested", "result", "ended"):
                continue
            trial = _ReplayedTrial(event["trial"])
            if event["kind"] == "suggested":
                self.on_trial_add(None, trial)
                continue
            end = event["end"]
            if event["kind"] == "result":
                self._last[trial.trial_id] = result = {TIME_ATTRIBUTE: event["epoch"], **event["metrics"]}
                if end is None or end["by"] == "scheduler":
                    self._inner.on_trial_result(None, trial, result)
            if end is not None and end["by"] != "driver":
                self.on_trial_complete(None, trial, self._last.get(trial.trial_id, {}) | end)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Nothing to learn from Tune: the declaration has said it."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Pass a trial on to the scheduler, unless the replay has done so."""
        if trial.trial_id not in self._added:
            self._added.add(trial.trial_id)
            self._inner.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide on an epoch; one that was decided on before the interruption goes on."""
        if result[TIME_ATTRIBUTE] <= self._last.get(trial.trial_id, {TIME_ATTRIBUTE: -1})[TIME_ATTRIBUTE]:
            return str(TrialScheduler.CONTINUE)
        self._last[trial.trial_id] = result
        return str(self._inner.on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Pass a trial's end on; a trial that failed leaves no metric in the scheduler's memory."""
        if result.get("stop_reason") == "error":
            self._inner.on_trial_error(tune_controller, trial)
        else:
            self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Pass a trial's failure on; a retried trial is still the same trial."""
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Pass a trial's removal on."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Let the scheduler choose."""
        return self._inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """The scheduler's own description."""
        return str(self._inner.debug_string())
