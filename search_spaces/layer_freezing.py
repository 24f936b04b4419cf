"""Which parts of the backbone should be trained?

    python -m experiments.run layer_freezing            # 6 ways x 3 seeds, at most 60 epochs each
    python -m experiments.run layer_freezing --smoke

The report found all layers trained far better than only the first one, but there the feature pyramid was frozen with
the backbone: 0.16 M parameters were trained. Here pyramid, proposals and heads always are. Dynamic freezing
(``alternating``), bottleneck adapters and low-rank adaptation are what its authors wished to try.

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
    name="layer_freezing",
    question="Which parts of the backbone should be trained?",
    base=REPORT_COMPARISON,
    space=SearchSpace(
        {
            "detector.freezing.mode": Choice(
                "none", "stem_only", "stem_and_first_stage_only", "alternating", "adapters", "lora"
            )
        }
    ),
    objective=Maximise("map_50"),
    searcher=Grid(),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke(),
)
