"""Which batch size, learning rate, weight decay and patience? Bayesian optimisation.

    python -m experiments.run sweep_bayesian                  # 30 trials of up to 200 epochs, suggested by TPE
    python -m experiments.run sweep_bayesian --searcher GP    # or by a Gaussian process
    python -m experiments.run sweep_bayesian --smoke

The report's space. Its three best trials come first; seven random ones follow before the model takes over.

Cost: 30 trials of up to 200 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from search_spaces.declare import (
    REPORT_BEST,
    REPORT_SWEEP,
    REPORT_SWEEP_PROTOCOL,
    TPE,
    Experiment,
    Maximise,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="sweep_bayesian",
    question="Which batch size, learning rate, weight decay and patience, by Bayesian optimisation?",
    base=REPORT_SWEEP_PROTOCOL,
    space=REPORT_SWEEP,
    objective=Maximise("map_50"),
    searcher=TPE(seed=1, startup=10),
    trials=30,
    first=REPORT_BEST,
    seeds=1,
    stoppers=(SpeedGuard(images_per_second=1.0),),
    smoke=quick_smoke({"training.epochs": 1}, trials=12),
)
