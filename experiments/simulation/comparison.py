"""How good each strategy is after how many epochs, and how sure that is over seeds."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from experiments.simulation.recordings import Recordings
from experiments.simulation.strategies import REFERENCE, Strategy
from experiments.simulation.virtual import Clock, Replay, replay
from satdet._parallel import map_in_processes

_RESAMPLES = 2000
_LEVEL = 0.95
FRACTIONS = (1 / 9, 1 / 3, 2 / 3, 1.0)
TARGET_RATIO = 1 / 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Of a comparison.

    Attributes
    ----------
    seeds : int
        Searches of each strategy, with the seeds 0, 1, …
    trials : int
        Whole trainings of the reference; every strategy may spend as many epochs.
    workers : int
        Trials at a time.
    first_rung : int
        The first epoch at which a scheduler may end a trial.
    clock : str
        What an epoch takes: ``equal`` time or that ``recorded``.
    """

    seeds: int
    trials: int
    workers: int
    first_rung: int
    clock: Clock


@dataclass(frozen=True)
class Interval:
    """A median over seeds with its 95 % bootstrap interval; infinite where a median search does not come so far."""

    middle: float
    low: float
    high: float

    def to_json(self) -> list[float | None]:
        """Middle, low, high; None for what is infinite."""
        return [value if np.isfinite(value) else None for value in (self.middle, self.low, self.high)]


@dataclass(frozen=True)
class Standing:
    """What is known of a strategy.

    Attributes
    ----------
    title : str
    best : array
        (seeds, epochs): the best value after each epoch spent.
    trials : float
        Median number of trials begun.
    ratio : Interval
        Epochs until the target is reached, as a share of the reference's epochs.
    reached : float
        Share of the searches that reach the target within `TARGET_RATIO` of those epochs.
    """

    title: str
    best: Floats
    trials: float
    ratio: Interval
    reached: float

    def at(self, epochs: int) -> Interval:
        """The best value after so many epochs."""
        return _interval(self.best[:, epochs - 1])

    @property
    def verdict(self) -> str:
        """Whether the target is reached in a third of the epochs: yes, no, or what the interval leaves open."""
        if self.ratio.high <= TARGET_RATIO:
            return "yes"
        if self.ratio.low > TARGET_RATIO:
            return "no"
        return "not shown: the interval holds 1/3"


@dataclass(frozen=True)
class Comparison:
    """All strategies on the same recordings with the same budget.

    Attributes
    ----------
    settings : Settings
    epochs : int
        That each search could spend.
    target : float
        The median of what the reference finds with all of them.
    standings : mapping
        By the strategy's name.
    """

    settings: Settings
    epochs: int
    target: float
    standings: Mapping[str, Standing]


def compare_strategies(
    recordings: Recordings,
    strategies: Mapping[str, Strategy],
    settings: Settings,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Replay every strategy with every seed.

    Parameters
    ----------
    recordings : Recordings
    strategies : mapping
        By name, the reference among them.
    settings : Settings
    processes : int
        Searches are replayed in so many; the result does not depend on it.
    progress : callable, optional
        Called with (searches done, searches in all).
    """
    tasks = [(strategy, seed) for strategy in strategies.values() for seed in range(settings.seeds)]
    epochs = settings.trials * recordings.experiment.base.training.epochs
    if processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes to come; each has a processor for itself
    search = partial(_search, recordings=recordings, settings=settings, epochs=epochs)
    found: list[Replay] = []
    for done, each in enumerate(map_in_processes(search, tasks, processes), start=1):
        found.append(each)
        if progress is not None:
            progress(done, len(tasks))
    replays = {
        name: found[place * settings.seeds : (place + 1) * settings.seeds] for place, name in enumerate(strategies)
    }
    return _compared(settings, epochs, strategies, replays, recordings.experiment.objective.mode)


def _search(task: tuple[Strategy, int], *, recordings: Recordings, settings: Settings, epochs: int) -> Replay:
    strategy, seed = task
    experiment = strategy.experiment(
        recordings.experiment, seed=seed, trials=settings.trials, first_rung=settings.first_rung
    )
    return replay(experiment, recordings, epochs=epochs, workers=settings.workers, clock=settings.clock)


def _compared(
    settings: Settings,
    epochs: int,
    strategies: Mapping[str, Strategy],
    replays: Mapping[str, Sequence[Replay]],
    mode: str,
) -> Comparison:
    best = {name: np.array([_padded(each.best, epochs) for each in found]) for name, found in replays.items()}
    reference = best[REFERENCE][:, -1]
    standings = {}
    for name, strategy in strategies.items():
        ratio = _ratio(best[name], reference, mode)
        first = _first_epochs(best[name], float(np.median(reference)), mode)
        standings[name] = Standing(
            title=strategy.title,
            best=best[name],
            trials=float(np.median([each.trials for each in replays[name]])),
            ratio=ratio,
            reached=float(np.mean(first <= TARGET_RATIO * epochs)),
        )
    return Comparison(settings, epochs, float(np.median(reference)), standings)


def _padded(best: Sequence[float], epochs: int) -> list[float]:
    """A search that has run out of trials keeps what it found."""
    return [*best, *[best[-1]] * (epochs - len(best))]


def _first_epochs(best: Floats, target: float, mode: str) -> Floats:
    """Epochs spent when each search reaches `target`; infinite for those that do not."""
    reached = best >= target if mode == "max" else best <= target
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)


def _ratio(best: Floats, reference: Floats, mode: str) -> Interval:
    """Seeds are drawn again for the strategy and the reference alike: the target is itself an estimate."""
    rng = np.random.default_rng(0)
    epochs = best.shape[1]
    ratios = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(len(best), size=len(best))
        target = float(np.median(reference[rng.integers(len(reference), size=len(reference))]))
        ratios.append(_upper_median(_first_epochs(best[drawn], target, mode)) / epochs)
    middle = _upper_median(_first_epochs(best, float(np.median(reference)), mode)) / epochs
    return _quantiles(middle, ratios)


def _interval(values: Floats) -> Interval:
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))]
    return _quantiles(float(np.median(values)), np.median(drawn, axis=1).tolist())


def _upper_median(values: Floats) -> float:
    """Of an even number the upper middle one: the mean with an infinite value would say nothing."""
    return float(np.sort(values)[len(values) // 2])


def _quantiles(middle: float, values: Sequence[float]) -> Interval:
    ordered = np.sort(np.asarray(values))
    tail = (1 - _LEVEL) / 2
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (tail, 1 - tail))
    return Interval(middle, low, high)
