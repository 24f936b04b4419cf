"""The pairs of searcher and scheduler that are compared."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from satdet.errors import UsageError
from search_spaces.declare import (
    ASHA,
    BOHB,
    GP,
    TPE,
    Experiment,
    Hyperband,
    MedianStopping,
    QuasiRandom,
    Random,
    RunAll,
    Scheduler,
    Searcher,
)

FIRST_RUNG = 3
"""A ninth of the longest training: after one epoch, most detectors that start from random weights find nothing yet."""


def _run_all(first_rung: int) -> Scheduler:
    return RunAll()


def _median(first_rung: int) -> Scheduler:
    return MedianStopping(grace_epochs=first_rung)


def _asha(first_rung: int) -> Scheduler:
    return ASHA(grace_epochs=first_rung, reduction=3)


def _hyperband(first_rung: int) -> Scheduler:
    return Hyperband(min_epochs=first_rung, reduction=3)


@dataclass(frozen=True)
class Strategy:
    """One pair.

    Attributes
    ----------
    title : str
        For people.
    searcher : type
        Settings with a seed.
    scheduler : callable
        From the first epoch at which trials may be ended to the scheduler's settings.
    """

    title: str
    searcher: Callable[..., Searcher]
    scheduler: Callable[[int], Scheduler] = _run_all

    def experiment(self, base: Experiment, *, seed: int, trials: int, first_rung: int) -> Experiment:
        """What to search: `trials` whole trainings, or as many epochs in as many trials as the scheduler lets begin."""
        scheduler = self.scheduler(first_rung)
        many = trials if isinstance(scheduler, RunAll) else trials * base.base.training.epochs
        return dataclasses.replace(
            base, searcher=self.searcher(seed=seed), scheduler=scheduler, trials=many, first=(), stoppers=(), seeds=1
        )


REFERENCE = "random"
STRATEGIES = {
    "random": Strategy("random", Random),
    "quasi_random": Strategy("quasi-random", QuasiRandom),
    "tpe": Strategy("TPE", TPE),
    "gp": Strategy("GP", GP),
    "random_median": Strategy("random + median stopping", Random, _median),
    "random_asha": Strategy("random + ASHA", Random, _asha),
    "tpe_asha": Strategy("TPE + ASHA", TPE, _asha),
    "random_hyperband": Strategy("random + Hyperband", Random, _hyperband),
    "bohb": Strategy("BOHB", BOHB, _hyperband),
}
"""By name on the command line; all have the defaults of `search_spaces.declare`, but for the first rung."""


def named(names: list[str]) -> dict[str, Strategy]:
    """Those strategies, all for no name; the reference is always among them.

    Raises
    ------
    UsageError
        For an unknown name.
    """
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise UsageError(f"no strategy {unknown[0]!r}; there are: {', '.join(STRATEGIES)}")
    return {name: each for name, each in STRATEGIES.items() if not names or name in names or name == REFERENCE}
