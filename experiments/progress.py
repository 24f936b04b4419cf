"""What is seen while a search runs: a live table on a terminal, a line an event elsewhere."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.record import Event
from experiments.state import SearchState, TrialState
from experiments.stoppers import Budget
from experiments.wording import value_text

_REFRESH_SECONDS = 0.5


@dataclass(frozen=True)
class Outlook:
    """What the whole search will be, as far as it is known at its start."""

    name: str
    trials: int
    concurrency: int
    epochs: Callable[[TrialState], int]
    budget: Budget | None = None
    began: float = field(default_factory=time.monotonic)

    def seconds_left(self, state: SearchState) -> float | None:
        """Epochs left times the mean seconds of the epochs so far, over the trials at a time; None before any epoch."""
        spent = sum(trial.seconds for trial in state.trials.values())
        done = sum(trial.epochs for trial in state.trials.values())
        if not done:
            return None
        open_epochs = sum(self.epochs(trial) - trial.epochs for trial in state.open_trials())
        typical = max((self.epochs(trial) for trial in state.trials.values()), default=0)
        unseen = typical * max(0, self.trials - len(state.trials))
        at_a_time = max(1, min(self.concurrency, len(state.open_trials()) + max(0, self.trials - len(state.trials))))
        return (open_epochs + unseen) * spent / done / at_a_time


class Screen(Protocol):
    """The contract of both screens."""

    def event(self, event: Event, state: SearchState) -> None:
        """Something was recorded."""

    def tick(self, state: SearchState) -> None:
        """Time has passed."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def close(self) -> None:
        """The search is over."""


class PlainScreen:
    """A line an event, for logs and pipes."""

    def __init__(self, console: Console, outlook: Outlook) -> None:
        self._console = console
        self._outlook = outlook

    def event(self, event: Event, state: SearchState) -> None:
        """Print what happened to a trial."""
        if event.get("skipped"):
            self.say(skipped_text(event))
        if event["kind"] not in ("started", "result", "ended", "retried", "promoted"):
            return
        trial = state.trials[event["trial"]]
        title = f"{trial.trial_id} {cell_text(trial)}"
        for remark in event.get("remarks", []):
            self.say(f"{title}: {remark}")
        if event["kind"] == "started":
            self.say(f"{title}: " + (f"goes on after epoch {trial.epochs}" if trial.attempts > 1 else "started"))
        elif event["kind"] == "promoted":
            self.say(f"{title}: {event['decision'].get('why', 'goes on')}")
        elif event["kind"] == "retried":
            self.say(f"{title}: lost ({event['error']}); beginning again from its checkpoint")
        elif event["kind"] == "result":
            self.say(f"{title}: {epoch_text(trial, state, self._outlook)}; {overview(state, self._outlook)}")
            if trial.status == "paused":
                self.say(f"{title}: waits; {event['decision'].get('why', '')}")
        if event.get("end"):
            self.say(end_text(trial, state))

    def tick(self, state: SearchState) -> None:
        """Nothing moves in a log."""

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Nothing is open."""


class LiveScreen:
    """One calm table that stays in place."""

    def __init__(self, console: Console, outlook: Outlook) -> None:
        self._outlook = outlook
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()
        self._drawn = 0.0

    def event(self, event: Event, state: SearchState) -> None:
        """Draw at once; what happened to a trial stays above the table."""
        if event.get("skipped"):
            self.say(skipped_text(event))
        for remark in event.get("remarks", []):
            self.say(f"{event['trial']}: {remark}")
        if event["kind"] == "retried":
            self.say(f"{event['trial']}: lost ({event['error']}); beginning again from its checkpoint")
        if event.get("end"):
            self.say(end_text(state.trials[event["trial"]], state))
        self._draw(state)

    def tick(self, state: SearchState) -> None:
        """Draw again now and then, for the clock."""
        if time.monotonic() - self._drawn >= _REFRESH_SECONDS:
            self._draw(state)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._live.console.print(Text(text))

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()

    def _draw(self, state: SearchState) -> None:
        self._drawn = time.monotonic()
        heading = Text(f"{self._outlook.name}  {overview(state, self._outlook)}")
        self._live.update(Group(heading, running_table(state, self._outlook)), refresh=True)


def build_screen(outlook: Outlook) -> Screen:
    """A live screen on a terminal, plain lines in a pipe or with ``NO_COLOR``; on standard error."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal and "NO_COLOR" not in os.environ:
        return LiveScreen(console, outlook)
    return PlainScreen(console, outlook)


def running_table(state: SearchState, outlook: Outlook) -> Table:
    """The trials that run: epoch, metric, best so far, speed."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("trial", "", "epoch", state.metric, "best", "images/s"):
        table.add_column(heading, justify="left" if heading in ("trial", "") else "right")
    for trial in state.trials.values():
        if trial.status == "running":
            last, best = trial.last, trial.best(state.metric, state.mode)
            figures = [_figure(last, state.metric), _figure(best, state.metric), _figure(last, "images_per_second", 1)]
            table.add_row(trial.trial_id, cell_text(trial), f"{trial.epochs}/{outlook.epochs(trial)}", *figures)
    return table


def cell_text(trial: TrialState) -> str:
    """The searched values of a trial, short."""
    values = " ".join(map(value_text, trial.values.values())) or "base"
    return f"{values} seed {trial.seed}" if trial.seed else values


def epoch_text(trial: TrialState, state: SearchState, outlook: Outlook) -> str:
    """The epoch that a trial has just reported."""
    speed = trial.last.get("images_per_second", 0.0)
    metric = f"{state.metric} {trial.last[state.metric]:.3f}"
    loss = f" loss {trial.last['loss']:.3f}" if "loss" in trial.last else ""
    return f"epoch {trial.epochs}/{outlook.epochs(trial)} {metric}{loss} {speed:.1f} images/s"


def skipped_text(event: Event) -> str:
    """What was drawn for a trial before and cannot run."""
    return f"{event['trial']}: {event['skipped']} points left out before it: {'; '.join(event['because'])}"


def end_text(trial: TrialState, state: SearchState) -> str:
    """How a trial has ended."""
    best = trial.best(state.metric, state.mode)
    result = f", best {state.metric} {best[state.metric]:.3f}" if best else ""
    error = f": {trial.error or trial.detail}" if trial.error or trial.detail else ""
    return f"{trial.trial_id} {cell_text(trial)}: {trial.status} ({trial.stop_reason}){result}{error}"


def overview(state: SearchState, outlook: Outlook) -> str:
    """Trials by state, the best so far, the time gone and left."""
    counts: dict[str, int] = dict.fromkeys(("running", "finished", "stopped", "failed"), 0)
    for trial in state.trials.values():
        counts[trial.status] = counts.get(trial.status, 0) + 1
    ended = counts["finished"] + counts["stopped"] + counts["failed"]
    parts = [f"{ended}/{outlook.trials} trials ended"]
    shown = ("running", "paused", "stopped", "failed")
    parts += [f"{count} {name}" for name, count in counts.items() if count and name in shown]
    ranking = state.ranking()
    if ranking:
        best = ranking[0].best(state.metric, state.mode)[state.metric]
        parts.append(f"best {state.metric} {best:.3f} ({cell_text(ranking[0])})")
    left = outlook.seconds_left(state)
    parts.append(f"{clock(time.monotonic() - outlook.began + state.seconds_before)} gone")
    if left is not None and ended < outlook.trials:
        parts.append(f"about {clock(left)} left")
    if outlook.budget is not None and (spent := outlook.budget.spent_text(state)):
        parts.append(f"budget: {spent}")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as people read them."""
    minutes, second = divmod(round(max(0.0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02d} min" if hours else f"{minute} min {second:02d} s" if minute else f"{second} s"


def _figure(metrics: dict[str, Any], name: str, digits: int = 3) -> str:
    return f"{metrics[name]:.{digits}f}" if name in metrics else ""
