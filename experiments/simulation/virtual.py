"""A search in which no time passes: real searcher, real scheduler, recorded epochs."""

import heapq
from dataclasses import dataclass
from typing import Literal

from experiments.schedulers import build_scheduler
from experiments.searchers import build_searcher
from experiments.searchers.history import observations
from experiments.simulation.recordings import Recording, Recordings
from experiments.state import SearchState, TrialState
from search_spaces.declare import Experiment

Clock = Literal["equal", "recorded"]


@dataclass(frozen=True)
class Replay:
    """What came of a search.

    Attributes
    ----------
    best : tuple of float
        The best value of the objective after each epoch spent, whichever trial spent it.
    trials : int
        Trials begun.
    seconds : float
        On the search's own clock; with equal epochs, in epochs.
    """

    best: tuple[float, ...]
    trials: int
    seconds: float


def replay(
    experiment: Experiment, recordings: Recordings, *, epochs: int, workers: int = 4, clock: Clock = "equal"
) -> Replay:
    """Search as `experiment` declares until so many `epochs` are spent or its trials are done.

    Parameters
    ----------
    experiment : Experiment
        With the space of the recordings; its searcher, scheduler and number of trials decide.
    recordings : Recordings
        Instead of training. Where a point was recorded with several seeds, trials take them in turn by their number.
    epochs : int
        The most to spend.
    workers : int
        Trials at a time. A paused trial frees its worker.
    clock : str
        All epochs take ``equal`` time, or each its ``recorded`` seconds.
    """
    return _VirtualSearch(experiment, recordings, epochs=epochs, workers=workers, clock=clock).run()


class _VirtualSearch:
    """The order of calls is that of `experiments.tuning.RecordedSearch`."""

    def __init__(
        self, experiment: Experiment, recordings: Recordings, *, epochs: int, workers: int, clock: Clock
    ) -> None:
        self._searcher = build_searcher(experiment)
        self._objective = experiment.objective
        self._longest = experiment.base.training.epochs
        self._core = build_scheduler(experiment.scheduler, self._objective.mode, self._longest)
        self._stop_reason = type(experiment.scheduler).__name__
        self._recordings = recordings
        self._budget = epochs
        self._workers = workers
        self._clock = clock
        self._state = SearchState()
        self._replayed: dict[str, Recording] = {}
        self._waiting: list[TrialState] = []
        self._running: list[tuple[float, int, str]] = []
        self._now = 0.0
        self._begun = 0
        self._best: list[float] = []

    def run(self) -> Replay:
        """Spend the budget."""
        while len(self._best) < self._budget:
            while len(self._running) < self._workers and (trial := self._next()) is not None:
                self._begin_epoch(trial)
            if not self._running:
                break
            self._now, _, trial_id = heapq.heappop(self._running)
            self._end_epoch(self._state.trials[trial_id])
        return Replay(tuple(self._best), len(self._state.trials), self._now)

    def _next(self) -> TrialState | None:
        """A promoted trial or a new one; None while nothing but waiting is left."""
        self._release(no_more=False)
        if self._waiting:
            return self._waiting.pop(0)
        suggested = self._suggest()
        if suggested is None and not self._running:
            self._release(no_more=True)
            return self._waiting.pop(0) if self._waiting else None
        return suggested

    def _release(self, *, no_more: bool) -> None:
        for trial_id, decision in self._core.release(no_more=no_more):
            trial = self._state.trials[trial_id]
            if decision.action == "stop":
                self._end(trial, "stopped", self._stop_reason)
            else:
                trial.status = "pending"
                self._waiting.append(trial)

    def _suggest(self) -> TrialState | None:
        number = len(self._state.trials)
        if number >= self._searcher.total:
            return None
        suggestion = self._searcher.suggest(number, lambda: observations(self._state, [self._objective]))
        if suggestion is None:
            return None
        trial_id = f"t{number:04d}"
        trial = TrialState(trial_id, suggestion.values, {}, suggestion.seed, suggestion.why)
        self._state.trials[trial_id] = trial
        found = self._recordings.nearest(suggestion.values)
        self._replayed[trial_id] = found[number % len(found)]
        self._core.add(trial_id)
        return trial

    def _begin_epoch(self, trial: TrialState) -> None:
        """An epoch that fails takes the time of the one before."""
        trial.status = "running"
        seconds = self._replayed[trial.trial_id].seconds
        takes = 1.0 if self._clock == "equal" or not seconds else seconds[min(trial.epochs, len(seconds) - 1)]
        self._begun += 1
        heapq.heappush(self._running, (self._now + takes, self._begun, trial.trial_id))

    def _end_epoch(self, trial: TrialState) -> None:
        curve, epoch = self._replayed[trial.trial_id].curve, trial.epochs + 1
        if epoch > len(curve):
            self._core.ended(trial.trial_id, trial.epochs, None)
            self._end(trial, "failed", "error")
            return
        value = curve[epoch - 1]
        trial.results.append((epoch, self._now, {self._objective.metric: value}))
        self._best.append(value if not self._best or self._core.better(value, self._best[-1]) else self._best[-1])
        if epoch == self._longest:
            self._core.ended(trial.trial_id, epoch, value)
            self._end(trial, "finished", "completed")
            return
        decision = self._core.result(trial.trial_id, epoch, value)
        if decision.action == "continue":
            self._begin_epoch(trial)
        elif decision.action == "pause":
            trial.status = "paused"
        else:
            self._end(trial, "stopped", self._stop_reason)

    def _end(self, trial: TrialState, status: str, reason: str) -> None:
        trial.status, trial.stop_reason = status, reason
