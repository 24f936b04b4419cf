"""Which batch size, learning rate, weight decay and patience? Every combination.

    python -m experiments.run sweep_grid            # 135 trials of up to 200 epochs
    python -m experiments.run sweep_grid --smoke    # the first 5

The report's sweep with five learning rates in place of a distribution. The dearest way to ask, and the only one with
a value in every cell.

Cost: 135 trials of up to 200 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from search_spaces.declare import (
    REPORT_SWEEP_PROTOCOL,
    Choice,
    Experiment,
    Grid,
    LogGrid,
    Maximise,
    SearchSpace,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="sweep_grid",
    question="Which batch size, learning rate, weight decay and patience, in every combination?",
    base=REPORT_SWEEP_PROTOCOL,
    space=SearchSpace(
        {
            "training.patience": Choice(0, 3, 5),
            "training.batch_size": Choice(4, 8, 16),
            "optimizer.weight_decay": Choice(1e-5, 1e-4, 1e-2),
            "optimizer.learning_rate": LogGrid(1e-6, 1e-2, 5),
        }
    ),
    objective=Maximise("map_50"),
    searcher=Grid(),
    seeds=1,
    stoppers=(SpeedGuard(images_per_second=1.0),),
    smoke=quick_smoke(trials=5),
)
