"""How should pixels become input?

    python -m experiments.run normalisation            # 5 ways x 3 seeds, at most 60 epochs each
    python -m experiments.run normalisation --smoke

Sky level and noise differ by orders of magnitude between frames. Raw counts are the report's way. On a small preset
from scratch (ResNet18, 120 steps) noise units reached map_50 0.66, asinh 0.53, zscale 0.52, the tile's mean and
standard deviation 0.28 and raw counts 0.13.

Cost: in full 15 trials of up to 60 epochs, for GPUs. Result: docs/tables/experiments.md.
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
    name="normalisation",
    question="How should pixels become input?",
    base=REPORT_COMPARISON,
    space=SearchSpace({"input.normalisation": Choice("clipped_sigma", "asinh", "zscale", "tile", "counts")}),
    objective=Maximise("map_50"),
    searcher=Grid(),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke(),
)
