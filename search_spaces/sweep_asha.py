"""Which batch size, learning rate, weight decay and patience? ASHA.

    python -m experiments.run sweep_asha            # 49 trials of 3 to 81 epochs
    python -m experiments.run sweep_asha --smoke

The report's space and protocol, for 81 epochs. Random trials; at 3, 9 and 27 epochs a trial goes on only within the
best third of those that came so far. Nothing waits.

Cost: 49 trials, most of which end after 3 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from satdet.config import with_values
from search_spaces.declare import (
    ASHA,
    REPORT_SWEEP,
    REPORT_SWEEP_PROTOCOL,
    Experiment,
    Maximise,
    Random,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="sweep_asha",
    question="Which batch size, learning rate, weight decay and patience, by ASHA?",
    base=with_values(REPORT_SWEEP_PROTOCOL, {"training.epochs": 81}),
    space=REPORT_SWEEP,
    objective=Maximise("map_50"),
    searcher=Random(seed=1),
    trials=49,
    seeds=1,
    scheduler=ASHA(grace_epochs=3, reduction=3),
    stoppers=(SpeedGuard(images_per_second=1.0),),
    smoke=quick_smoke({"training.epochs": 3}, trials=6, scheduler=ASHA(grace_epochs=1, reduction=3)),
)
