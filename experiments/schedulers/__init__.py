"""From a scheduler's settings to the code that decides; `core` says what that is."""

from experiments.schedulers.asha import AshaCore
from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore
from experiments.schedulers.hyperband import HyperbandCore
from experiments.schedulers.hyperband_stopping import HyperbandStoppingCore
from experiments.schedulers.median import MedianStoppingCore
from experiments.schedulers.pasha import PashaCore
from experiments.schedulers.run_all import RunAllCore
from experiments.schedulers.rungs import Mode
from search_spaces.declare import ASHA, PASHA, Hyperband, HyperbandStopping, MedianStopping, RunAll, Scheduler

__all__ = ["CONTINUE", "Decision", "SchedulerCore", "build_scheduler"]


def build_scheduler(settings: Scheduler, mode: Mode, epochs: int) -> SchedulerCore:
    """The scheduler that `settings` describe, with an empty memory.

    Parameters
    ----------
    settings : Scheduler
    mode : str
        ``max`` or ``min``: which values of the objective are better.
    epochs : int
        The most that a trial runs.
    """
    match settings:
        case RunAll():
            return RunAllCore(mode)
        case ASHA():
            return AshaCore(settings, mode, epochs)
        case PASHA():
            return PashaCore(settings, mode, epochs)
        case Hyperband():
            return HyperbandCore(settings, mode, epochs)
        case HyperbandStopping():
            return HyperbandStoppingCore(settings, mode)
        case MedianStopping():
            return MedianStoppingCore(settings, mode)
    raise AssertionError(f"no scheduler for {settings!r}")
