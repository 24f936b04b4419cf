"""Which batch size, learning rate, weight decay and patience? BOHB.

    python -m experiments.run sweep_bohb            # 49 trials of 3 to 81 epochs
    python -m experiments.run sweep_bohb --smoke

The report's space and protocol, for 81 epochs. Hyperband's brackets, filled by a model of the deepest rung that has
enough trials; a third of them stays random.

Cost: 49 trials, at most 1 071 epochs together, for GPUs. Result: docs/tables/experiments.md.
"""

from satdet.config import with_values
from search_spaces.declare import (
    BOHB,
    REPORT_SWEEP,
    REPORT_SWEEP_PROTOCOL,
    Experiment,
    Hyperband,
    Maximise,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="sweep_bohb",
    question="Which batch size, learning rate, weight decay and patience, by BOHB?",
    base=with_values(REPORT_SWEEP_PROTOCOL, {"training.epochs": 81}),
    space=REPORT_SWEEP,
    objective=Maximise("map_50"),
    searcher=BOHB(seed=1),
    trials=49,
    seeds=1,
    scheduler=Hyperband(reduction=3, min_epochs=3),
    stoppers=(SpeedGuard(images_per_second=1.0),),
    smoke=quick_smoke({"training.epochs": 3}, trials=9, scheduler=Hyperband(reduction=3, min_epochs=1)),
)
