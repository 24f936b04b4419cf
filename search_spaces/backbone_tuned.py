"""Which backbone is best once each has been tuned?

    python -m experiments.run backbone_tuned            # 4 backbones x 12 trials, then each one's best with 3 new seeds
    python -m experiments.run backbone_tuned --smoke
    python -m experiments.compare backbone_tuned --by detector.backbone

What the report's authors wished for: one set of hyperparameters favours the network it was found with. Every backbone
gets as many trials of a search of its own (the ranges depend on the backbone), and its best cell is trained again
with seeds that the choice has not seen; only those are compared.

Cost: in full 60 trials, of which ASHA stops most of the first 48 early, for GPUs. Result: docs/tables/experiments.md.
"""

from search_spaces.declare import (
    ASHA,
    BETTER_PROTOCOL,
    TPE,
    Choice,
    Experiment,
    LogUniform,
    Maximise,
    SearchSpace,
    SpeedGuard,
    When,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="backbone_tuned",
    question="Which backbone is best once each has been tuned?",
    base=BETTER_PROTOCOL,
    space=SearchSpace(
        {
            "detector.backbone": Choice("resnet18", "resnet34", "resnet50", "resnet101"),
            "optimizer": {"learning_rate": LogUniform(1e-4, 3e-3), "weight_decay": LogUniform(1e-6, 1e-2)},
            "training.batch_size": Choice(4, 8, 16),
        },
        conditions=(
            When(
                "detector.backbone in ('resnet50', 'resnet101')",
                {"optimizer.learning_rate": LogUniform(3e-5, 1e-3), "training.batch_size": Choice(2, 4, 8)},
            ),
        ),
    ),
    objective=Maximise("map_50"),
    searcher=TPE(seed=1, startup=5),
    trials=48,
    each="detector.backbone",
    confirm=3,
    seeds=1,
    scheduler=ASHA(grace_epochs=7, reduction=3),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke(trials=8, scheduler=ASHA(grace_epochs=1, reduction=3)),
)
