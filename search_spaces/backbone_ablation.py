"""Does a smaller ResNet lose accuracy on these frames?

    python -m experiments.run backbone_ablation            # 4 backbones x 3 seeds, at most 60 epochs each
    python -m experiments.run backbone_ablation --smoke    # minutes on two CPU cores

The report found ResNet18 worst (map_50 0.70 to 0.74) and 34, 50 and 101 alike (0.78 to 0.82), from one run each.

Cost: in full 12 trials of up to 60 epochs, for GPUs; the smoke run 7 minutes on two CPU cores. Result last obtained:
smoke run, one seed, 80 steps from scratch, map_50 0.81, 0.77, 0.75 and 0.71 on held-out simulated frames for 18, 34,
50 and 101, which says that they learn and nothing about which is better.
"""

from search_spaces.declare import (
    ASHA,
    REPORT_COMPARISON,
    Choice,
    Experiment,
    Grid,
    Maximise,
    Resources,
    SearchSpace,
    SpeedGuard,
    smoke_of,
)

EXPERIMENT = Experiment(
    name="backbone_ablation",
    question="Does a smaller ResNet lose map_50?",
    base=REPORT_COMPARISON,
    space=SearchSpace({"detector.backbone": Choice("resnet18", "resnet34", "resnet50", "resnet101")}),
    seeds=3,
    objective=Maximise("map_50"),
    searcher=Grid(),
    scheduler=ASHA(grace_epochs=10, reduction=3),
    stoppers=(SpeedGuard(images_per_second=1.0),),
    resources=Resources(workers=1, gpus_per_worker=1),
    smoke=smoke_of(),
)
