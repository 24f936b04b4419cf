"""What there is to report of a search: its record, folded and counted."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.compare import Row, compare
from experiments.paths import SearchPaths
from experiments.record import Event, read_record
from experiments.state import SearchState, TrialState
from experiments.summary import summarise
from experiments.wording import values_text


@dataclass(frozen=True)
class Curve:
    """A metric of a cell by epoch, over its seeds: arrays of one length, an entry for each epoch that any seed has."""

    label: str
    epochs: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Spending:
    """Where the time of all places for trials went [s].

    Attributes
    ----------
    training, evaluation : float
        Of the trials' epochs, by their own clocks.
    starting : float
        From the beginning of a trial, or its beginning again, to its first epoch.
    other : float
        Of epochs besides: reports, checkpoints that were waited for.
    waiting : float
        While a place had no trial.
    """

    training: float
    evaluation: float
    starting: float
    other: float
    waiting: float


class Evidence:
    """A search as a report needs it.

    Parameters
    ----------
    search : SearchPaths
    baseline : str, optional
        The cell that others are compared with.
    """

    def __init__(self, search: SearchPaths, baseline: str | None = None) -> None:
        self.search = search
        self.events: list[Event] = read_record(search.record)
        self.state = SearchState.of(self.events)
        self.summary: Mapping[str, Any] = summarise(search, self.state)
        self.baseline = baseline

    @property
    def name(self) -> str:
        """The search's name."""
        return self.search.name

    @property
    def declaration(self) -> Mapping[str, Any]:
        """The declaration, as it was recorded."""
        declaration: Mapping[str, Any] = self.state.header["declaration"]
        return declaration

    @cached_property
    def rows(self) -> list[Row]:
        """The comparison of its cells."""
        return compare([self.summary], baseline=self.baseline)

    @cached_property
    def trials(self) -> dict[str, list[TrialState]]:
        """Trials by their cell's label, in the order of the rows."""
        cells: dict[str, list[TrialState]] = {row.label: [] for row in self.rows}
        labels = {row.cell: row.label for row in self.rows}
        for trial in self.state.trials.values():
            cells[labels[values_text(trial.values) or "base"]].append(trial)
        return cells

    def curves(self, metric: str) -> list[Curve]:
        """A metric by epoch, for each cell that has it."""
        curves = []
        for label, trials in self.trials.items():
            by_epoch: dict[int, list[float]] = {}
            for trial in trials:
                for epoch, _, metrics in trial.results:
                    if epoch and metric in metrics:
                        by_epoch.setdefault(epoch, []).append(metrics[metric])
            epochs = sorted(by_epoch)
            if epochs:
                values = [by_epoch[epoch] for epoch in epochs]
                mean = [statistics.fmean(each) for each in values]
                curves.append(
                    Curve(label, epochs, mean, [min(each) for each in values], [max(each) for each in values])
                )
        return curves

    def best_so_far(self) -> tuple[list[float], list[int], list[float]]:
        """Hours of search, epochs of all trials, and the best value up to then, at each result."""
        hours, epochs, best = [], [], []
        state, count, found = SearchState(), 0, None
        better = max if self.state.mode == "max" else min
        for event in self.events:
            state.apply(event)
            if event["kind"] != "result" or not event["epoch"]:
                continue
            count += 1
            value = event["metrics"][self.state.metric]
            found = value if found is None else better(found, value)
            hours.append(state.seconds / 3600)
            epochs.append(count)
            best.append(found)
        return hours, epochs, best

    def spending(self) -> Spending:
        """Where the time went."""
        metrics = [each for trial in self.state.trials.values() for _, _, each in trial.results]
        training = sum(each.get("seconds_training", 0.0) for each in metrics)
        evaluation = sum(each.get("seconds_evaluation", 0.0) for each in metrics)
        epochs = sum(each["seconds"] for each in metrics)
        starting, busy = self._starting_and_busy()
        places = self.state.seconds * max(1, self.state.concurrency)
        other = max(0.0, min(busy, places) - starting - training - evaluation)
        if not training:  # of an evaluation, whose trials share one pass
            other, evaluation = 0.0, max(evaluation, epochs)
        return Spending(training, evaluation, starting, other, max(0.0, places - busy))

    def _starting_and_busy(self) -> tuple[float, float]:
        """Seconds from the trials' beginnings to their first epochs, and from there to their ends or rests."""
        starting = busy = 0.0
        begun: dict[str, float] = {}
        first: set[str] = set()
        for event in self.events:
            trial, now = str(event.get("trial", "")), float(event["t"] if "t" in event else event["time"])
            if event["kind"] == "session":
                begun.clear()
            elif event["kind"] == "started":
                begun[trial] = now
                first.add(trial)
            elif event["kind"] == "result" and trial in begun:
                passed = now - begun[trial]
                busy += passed
                if trial in first:
                    starting += max(0.0, passed - event["metrics"]["seconds"])
                    first.discard(trial)
                begun[trial] = now
            if event.get("end") or (event.get("decision") or {}).get("action") == "pause":
                begun.pop(trial, None)
        return starting, busy
