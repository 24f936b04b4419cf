"""Do pretrained weights help, and did training from scratch fail in the report only for its raw counts?

    python -m experiments.run pretrained_weights            # 3 weights x 2 inputs x 3 seeds, at most 60 epochs each
    python -m experiments.run pretrained_weights --smoke    # random stand-ins for the published weights

The report (ResNet50 v1, all layers trained) found that without weights nothing was learned in 30 epochs, and that
ImageNet's backbone and the whole COCO network did alike. It fed raw counts and never trained half of the detector, so
the cells with ``counts`` are its input, those with ``clipped_sigma`` ours; every cell trains all parameters.

Cost: in full 18 trials of up to 60 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from search_spaces.declare import (
    REPORT_COMPARISON,
    Choice,
    Experiment,
    Grid,
    Maximise,
    SearchSpace,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="pretrained_weights",
    question="Do pretrained weights help, on raw counts as in the report and in noise units?",
    base=REPORT_COMPARISON,
    space=SearchSpace(
        {
            "detector.weights": Choice("none", "backbone", "detector"),
            "input.normalisation": Choice("clipped_sigma", "counts"),
        }
    ),
    objective=Maximise("map_50"),
    searcher=Grid(),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke({"detector.backbone": "resnet50"}, stand_in_weights=True),
)
