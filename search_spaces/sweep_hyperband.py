"""Which batch size, learning rate, weight decay and patience? Hyperband.

    python -m experiments.run sweep_hyperband            # 49 trials of 3 to 81 epochs
    python -m experiments.run sweep_hyperband --smoke

The report's space and protocol, for 81 epochs. Random trials in four brackets: 27 begin with 3 epochs, 12 with 9, 6
with 27, and 4 run all 81; at each rung the best third goes on. Trials of a bracket wait for each other, so that none
is compared with fewer than the method says.

Cost: 49 trials, at most 1 071 epochs together, for GPUs. Result: docs/tables/experiments.md.
"""

from satdet.config import with_values
from search_spaces.declare import (
    REPORT_SWEEP,
    REPORT_SWEEP_PROTOCOL,
    Experiment,
    Hyperband,
    Maximise,
    Random,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="sweep_hyperband",
    question="Which batch size, learning rate, weight decay and patience, by Hyperband?",
    base=with_values(REPORT_SWEEP_PROTOCOL, {"training.epochs": 81}),
    space=REPORT_SWEEP,
    objective=Maximise("map_50"),
    searcher=Random(seed=1),
    trials=49,
    seeds=1,
    scheduler=Hyperband(reduction=3, min_epochs=3),
    stoppers=(SpeedGuard(images_per_second=1.0),),
    smoke=quick_smoke({"training.epochs": 3}, trials=5, scheduler=Hyperband(reduction=3, min_epochs=1)),
)
