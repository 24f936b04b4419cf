"""Is version 2 of the detector worth its dearer epochs?

    python -m experiments.run detector_version            # 2 versions x 3 seeds, at most 200 epochs each
    python -m experiments.run detector_version --smoke    # from scratch

The report found map_50 0.862 for version 1 in 75 epochs and 0.870 for version 2 in 30, each dearer; one run each,
ResNet50 from the whole COCO network.

Cost: in full 6 trials of up to 200 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from satdet.config import with_values
from search_spaces.declare import (
    REPORT_PROTOCOL,
    Choice,
    Experiment,
    Grid,
    Maximise,
    SearchSpace,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="detector_version",
    question="Is version 2 of the detector worth its dearer epochs?",
    base=with_values(REPORT_PROTOCOL, {"detector.weights": "detector"}),
    space=SearchSpace({"detector.version": Choice("v1", "v2")}),
    objective=Maximise("map_50"),
    searcher=Grid(),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke(),
)
