"""How should an RGB network take one channel?

    python -m experiments.run input_adaptation            # 3 ways x 3 seeds, at most 60 epochs each
    python -m experiments.run input_adaptation --smoke    # random stand-ins for the published weights

The mean of the RGB weights, the channel replicated three times (three times the cost of the first convolution), or
random weights for one channel. The report names the three and compares none.

Cost: in full 9 trials of up to 60 epochs, for GPUs. Result: docs/tables/experiments.md.
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
    name="input_adaptation",
    question="How should an RGB network take one channel?",
    base=REPORT_COMPARISON,
    space=SearchSpace({"detector.input_adaptation": Choice("mean", "replicate", "random")}),
    objective=Maximise("map_50"),
    searcher=Grid(),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke({"detector.weights": "backbone"}, stand_in_weights=True),
)
