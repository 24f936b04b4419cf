"""From a searcher's settings to suggestions. A new searcher is one class and one line in `build_searcher`."""

from collections.abc import Callable
from typing import Any

from experiments.searchers.core import History, Observation, Searcher, Suggestion
from search_spaces.declare import BOHB, CMAES, GP, NSGA2, TPE, Experiment, Grid, QuasiRandom, Random

__all__ = ["History", "Observation", "Searcher", "Suggestion", "build_searcher"]


def build_searcher(experiment: Experiment) -> Searcher:
    """The searcher that `experiment` declares; Optuna is imported only for those that need it."""
    from experiments.searchers.divided import ConfirmingSearcher, DividedSearcher

    searcher = _plain(experiment) if experiment.each is None else DividedSearcher(experiment, _plain)
    return ConfirmingSearcher(experiment, searcher) if experiment.confirm else searcher


def _plain(experiment: Experiment) -> Searcher:
    from experiments.searchers.grid import GridSearcher
    from experiments.searchers.sampling import QuasiRandomSearcher, RandomSearcher

    match experiment.searcher:
        case Grid():
            return GridSearcher(experiment)
        case Random():
            return RandomSearcher(experiment)
        case QuasiRandom() as settings:
            return QuasiRandomSearcher(experiment, settings)
        case CMAES() as settings:
            from experiments.searchers.evolution import CMAESSearcher

            return CMAESSearcher(experiment, settings)
        case TPE() | GP() | NSGA2() | BOHB() as settings:
            from experiments.searchers import model

            builders: dict[type, Callable[[Experiment, Any], Searcher]] = {
                TPE: model.TPESearcher, GP: model.GPSearcher, NSGA2: model.NSGA2Searcher, BOHB: model.BOHBSearcher
            }  # fmt: skip
            return builders[type(settings)](experiment, settings)
    raise AssertionError(experiment.searcher)
