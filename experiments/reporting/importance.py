"""Which hyperparameter mattered: fANOVA over the trials of a search, several times, for the forests are random."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.state import SearchState

LEAST_TRIALS = 8
"""With fewer, a forest says more about itself than about them."""
_REPEATS = 5
_MOST_TRIALS = 300
"""A forest of more takes minutes; each then has others of them."""


@dataclass(frozen=True)
class Importance:
    """The share of the objective's variance that a path explains: mean and extremes over forests."""

    path: str
    mean: float
    low: float
    high: float


def importances(state: SearchState) -> list[Importance]:
    """FANOVA (Hutter, Hoos and Leyton-Brown 2014, Optuna's), the largest first; empty where there is too little to say.

    Paths that only some trials have are left out.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scored = [trial for trial in state.trials.values() if trial.epochs and trial.status != "failed"]
    shared = [path for path in (scored[0].values if scored else {}) if all(path in trial.values for trial in scored)]
    varied = [path for path in shared if len({_key(trial.values[path]) for trial in scored}) > 1]
    results = [trial.best(state.metric, state.mode)[state.metric] for trial in scored]
    if len(scored) < LEAST_TRIALS or len(varied) < 2 or np.ptp(results) == 0:
        return []
    columns = {path: _Column([trial.values[path] for trial in scored]) for path in varied}
    distributions = {path: column.distribution for path, column in columns.items()}
    found: dict[str, list[float]] = {path: [] for path in varied}
    for seed in range(_REPEATS):
        study = optuna.create_study(direction="maximize" if state.mode == "max" else "minimize")
        chosen = np.random.default_rng(seed).permutation(len(scored))[:_MOST_TRIALS]
        for number in sorted(chosen.tolist()):
            params = {path: column.values[number] for path, column in columns.items()}
            value = results[number]
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        for path, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items():
            found[path].append(share)
    ranked = [Importance(path, float(np.mean(each)), min(each), max(each)) for path, each in found.items() if each]
    return sorted(ranked, key=lambda each: -each.mean)


class _Column:
    """A path's values as Optuna takes them: numbers on a scale that is logarithmic where they span decades."""

    def __init__(self, values: list[Any]) -> None:
        import optuna

        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if numbers:
            low, high = float(min(values)), float(max(values))
            log = low > 0 and math.log10(high / low) > 1
            self.values: list[Any] = [float(value) for value in values]
            self.distribution: Any = optuna.distributions.FloatDistribution(low, high, log=log)
        else:
            self.values = [_key(value) for value in values]
            self.distribution = optuna.distributions.CategoricalDistribution(sorted(set(self.values)))


def _key(value: Any) -> str:
    return repr(value)
