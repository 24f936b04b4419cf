"""Settings of a search as plain values; `experiments` builds the searcher, scheduler and stoppers they describe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from satdet.config import ConfigError, bounded
from search_spaces.declare.plain import Setting, of_kind


@dataclass(frozen=True, kw_only=True)
class Objective(Setting):
    """A metric that decides which trial is better."""

    metric: str
    mode: Literal["max", "min"]


def Maximise(metric: str) -> Objective:
    """The objective of a metric that should be large."""
    return Objective(metric=metric, mode="max")


def Minimise(metric: str) -> Objective:
    """The objective of a metric that should be small."""
    return Objective(metric=metric, mode="min")


# --- searchers


@dataclass(frozen=True, kw_only=True)
class Searcher(Setting):
    """Base of all searchers: how the next trial's values are found."""

    conditional: ClassVar[bool] = True
    """Whether it can hold spaces with conditions."""
    categorical: ClassVar[bool] = True
    """Whether it can hold domains without an order."""
    most_objectives: ClassVar[int] = 1
    sampled: ClassVar[bool] = True
    """Whether it goes on for as many trials as it is asked, rather than through the cells of a finite space."""


@dataclass(frozen=True, kw_only=True)
class Grid(Searcher):
    """Every cell of the space once a seed; all cells of the first seed come first."""

    sampled: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Random(Searcher):
    """Independent draws from the declared distributions (Bergstra and Bengio 2012)."""

    most_objectives: ClassVar[int] = 8
    seed: int = bounded(0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class QuasiRandom(Searcher):
    """A scrambled Sobol sequence in the unit cube of the space: as random search, with fewer gaps and clusters."""

    most_objectives: ClassVar[int] = 8
    seed: int = bounded(0, minimum=0)


@dataclass(frozen=True, kw_only=True)
class TPE(Searcher):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate (Falkner et al. 2018).

    The first `startup` trials are random draws. Running trials count as bad ones (constant liar), so that trials at the
    same time are not all the same.
    """

    seed: int = bounded(0, minimum=0)
    startup: int = bounded(10, minimum=1)
    candidates: int = bounded(24, minimum=1)
    """Draws from the good trials' density, of which the most promising is suggested."""
    multivariate: bool = True
    constant_liar: bool = True


@dataclass(frozen=True, kw_only=True)
class GP(Searcher):
    """Bayesian optimisation with a Gaussian process and expected improvement; the first `startup` trials are random."""

    conditional: ClassVar[bool] = False
    seed: int = bounded(0, minimum=0)
    startup: int = bounded(10, minimum=1)


@dataclass(frozen=True, kw_only=True)
class CMAES(Searcher):
    """Covariance matrix adaptation (Hansen 2016, arXiv:1604.00772) in the unit cube of a space of numbers."""

    conditional: ClassVar[bool] = False
    categorical: ClassVar[bool] = False
    seed: int = bounded(0, minimum=0)
    sigma: float = bounded(0.25, above=0, maximum=1)
    """First step size, in units of the cube."""
    population: int | None = bounded(None, minimum=4)
    """Trials a generation; None: 4 + 3 ln(dimensions)."""


@dataclass(frozen=True, kw_only=True)
class NSGA2(Searcher):
    """A genetic algorithm for several objectives (Deb et al. 2002); the first `population` trials are random draws."""

    most_objectives: ClassVar[int] = 8
    seed: int = bounded(0, minimum=0)
    population: int = bounded(16, minimum=2)


@dataclass(frozen=True, kw_only=True)
class BOHB(Searcher):
    """The model of BOHB (Falkner et al. 2018, arXiv:1807.01774): TPE on the deepest rung that has enough trials.

    It belongs with `Hyperband`. Of the trials, `random_fraction` are random draws.
    """

    seed: int = bounded(0, minimum=0)
    random_fraction: float = bounded(1 / 3, minimum=0, maximum=1)
    candidates: int = bounded(64, minimum=1)
    min_points: int | None = bounded(None, minimum=2)
    """Trials that a rung needs before it is modelled; None: the parameters of the space and 1, as the paper has it."""


# --- schedulers


@dataclass(frozen=True, kw_only=True)
class Scheduler(Setting):
    """Base of all schedulers: which trials go on."""

    single_objective: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class RunAll(Scheduler):
    """No scheduler: every trial runs to its own end."""

    single_objective: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class ASHA(Scheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), counted in epochs.

    A trial that reaches a rung (``grace_epochs * reduction**k``) goes on only within the best ``1 / reduction`` so far.
    """

    grace_epochs: int = bounded(10, minimum=1)
    reduction: int = bounded(3, minimum=2)


@dataclass(frozen=True, kw_only=True)
class Hyperband(Scheduler):
    """Synchronous Hyperband (Li et al. 2018, arXiv:1603.06560), counted in epochs.

    Trials fill one bracket after another, the one with the most and shortest trials first. At a rung a trial waits for
    the others of its bracket; the best ``1 / reduction`` go on.
    """

    reduction: int = bounded(3, minimum=2)
    min_epochs: int = bounded(1, minimum=1)
    """The first rung of the bracket with the most trials."""


@dataclass(frozen=True, kw_only=True)
class HyperbandStopping(Scheduler):
    """W&B's ``early_terminate: hyperband``: whoever is outside the best ``1 / reduction`` of a rung is stopped.

    Nothing waits. Of the `n` values at the last rung behind a trial, in order and the best first, that at the place
    ``int(n / reduction)``, from 0, is the threshold; a trial is stopped if it is worse. It is looked at again with
    every report, for the threshold may have risen since.
    """

    rungs: tuple[int, ...] = bounded((3,), minimum=1)
    """Epochs at which values are put in order."""
    reduction: float = bounded(3.0, above=1)
    strict: bool = True
    """Compare the trial's value at the rung; if False, its best so far, which lets more of them go on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.rungs) != sorted(set(self.rungs)) or not self.rungs:
            raise ConfigError(f"HyperbandStopping.rungs = {self.rungs!r} are not increasing epochs")


@dataclass(frozen=True, kw_only=True)
class MedianStopping(Scheduler):
    """Stops a trial whose best value so far is below the median of the others' running averages at the same epoch.

    The median stopping rule of Vizier (Golovin et al. 2017).
    """

    grace_epochs: int = bounded(5, minimum=1)
    min_trials: int = bounded(3, minimum=1)
    """Other trials that must have come as far."""


@dataclass(frozen=True, kw_only=True)
class PASHA(Scheduler):
    """ASHA with a budget that grows only while the ranking of the two topmost rungs is not stable (Bohdal et al. 2023).

    arXiv:2207.06940. Trials at the present topmost rung wait there: they go on when the budget grows, and otherwise are
    stopped at the end of the search.
    """

    grace_epochs: int = bounded(1, minimum=1)
    reduction: int = bounded(3, minimum=2)
    noise: float = bounded(0.01, minimum=0)
    """Two trials closer than this count as equal in a ranking."""


# --- stoppers


@dataclass(frozen=True, kw_only=True)
class Stopper(Setting):
    """Base of all stoppers: what ends a trial, or the search, besides its scheduler."""


@dataclass(frozen=True, kw_only=True)
class SpeedGuard(Stopper):
    """Ends a trial whose average training speed since its start is too low, as ``slow_speed_global``.

    Looked at after every batch. Images a second, unlike the report's iterations a second (0.8), do not punish large
    batches. `of_median` is relative: a share of the median speed, up to the same epoch and on the same hardware, of the
    trials that finished before this one began. Warm-up batches and evaluation are left out.
    """

    images_per_second: float | None = bounded(None, above=0)
    iterations_per_second: float | None = bounded(None, above=0)
    of_median: float | None = bounded(None, above=0, maximum=1)
    min_finished: int = bounded(3, minimum=1)
    """Finished trials on the same hardware that a median needs."""
    warmup_batches: int = bounded(10, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Plateau(Stopper):
    """Ends a trial as ``plateau`` when the objective's standard deviation over `epochs` is below `tolerance`."""

    epochs: int = bounded(10, minimum=2)
    tolerance: float = bounded(1e-3, minimum=0)
    grace_epochs: int = bounded(10, minimum=0)


@dataclass(frozen=True, kw_only=True)
class Target(Stopper):
    """Ends a trial that reaches `value` of the objective as ``target_reached``; and with it the whole search."""

    value: float = 1.0
    ends_search: bool = True


@dataclass(frozen=True, kw_only=True)
class Divergence(Stopper):
    """Ends a trial as ``diverged`` whose loss is not finite, or above `factor` times its lowest epoch's."""

    factor: float = bounded(10.0, above=1)


@dataclass(frozen=True, kw_only=True)
class BudgetCap(Stopper):
    """Ends the search cleanly when one of these is spent, over all its sessions; ``--budget`` takes its place."""

    seconds: float | None = bounded(None, above=0)
    gpu_seconds: float | None = bounded(None, above=0)
    epochs: float | None = bounded(None, above=0)


@dataclass(frozen=True, kw_only=True)
class Resources(Setting):
    """What one trial is given. CPUs None: the machine's, divided by the trials at a time."""

    workers: int = bounded(1, minimum=1, maximum=256)
    """Processes that train a trial together, each on its share of every batch."""
    gpus_per_worker: float = bounded(1.0, minimum=0)
    """Used where the cluster has GPUs; on a cluster without any, trials run on CPUs. Below 1, trials of one worker
    share a GPU."""
    cpus_per_worker: int | None = bounded(None, minimum=1)
    grow: bool = False
    """Whether a trial that begins, or goes on after a rung, when fewer trials are left than there is room for gets more
    workers of the same kind. Results then depend, to rounding, on the order in which trials came there."""


def _named(*kinds: type[Setting]) -> dict[str, type[Setting]]:
    return {kind.__name__: kind for kind in kinds}


SEARCHERS = _named(Grid, Random, QuasiRandom, TPE, GP, CMAES, NSGA2, BOHB)
SCHEDULERS = _named(RunAll, ASHA, Hyperband, HyperbandStopping, MedianStopping, PASHA)
STOPPERS = _named(SpeedGuard, Plateau, Target, Divergence, BudgetCap)


def searcher_of_json(data: Mapping[str, Any]) -> Any:
    """The searcher that plain `data` describe."""
    return of_kind(data, SEARCHERS, "searcher")


def scheduler_of_json(data: Mapping[str, Any]) -> Any:
    """The scheduler that plain `data` describe."""
    return of_kind(data, SCHEDULERS, "scheduler")


def stopper_of_json(data: Mapping[str, Any]) -> Any:
    """The stopper that plain `data` describe."""
    return of_kind(data, STOPPERS, "stopper")
