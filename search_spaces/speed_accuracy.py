"""What accuracy is to be had at what speed?

    python -m experiments.run speed_accuracy            # 48 trials of up to 60 epochs, three generations
    python -m experiments.run speed_accuracy --smoke

Two objectives, map_50 and trained images a second, and no weights between them: the answer is the Pareto front, which
summary and comparison mark. Speeds are comparable on one kind of device with as many trials at a time.

Cost: 48 trials of 60 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from search_spaces.declare import (
    BETTER_PROTOCOL,
    NSGA2,
    Choice,
    Experiment,
    Forbid,
    IntUniform,
    Maximise,
    SearchSpace,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="speed_accuracy",
    question="What accuracy is to be had at what speed?",
    base=BETTER_PROTOCOL,
    space=SearchSpace(
        {
            "detector": {
                "backbone": Choice("resnet18", "resnet34", "resnet50", "resnet101"),
                "enlargement": Choice(1.0, 1.5, 2.0),
                "proposals_after_nms": IntUniform(200, 2000, 200),
                "roi_levels": Choice(1, 2, 4),
            },
            "training.batch_size": Choice(4, 8, 16),
        },
        constraints=(
            Forbid(
                "detector.enlargement == 2 and training.batch_size == 16 and detector.backbone == 'resnet101'",
                because="16 tiles of 1024 px do not fit into 24 GB with ResNet101",
            ),
        ),
    ),
    objective=Maximise("map_50"),
    also=(Maximise("images_per_second"),),
    searcher=NSGA2(seed=1, population=16),
    trials=48,
    seeds=1,
    smoke=quick_smoke({"training.epochs": 1}, trials=5),
)
