"""Which augmentation helps?

    python -m experiments.run augmentation            # 6 recipes x 3 seeds, 60 epochs each
    python -m experiments.run augmentation --smoke    # without the crop, which is larger than its tiles

The report used rotations, and earlier a random crop with at least one box; zoom was proposed. Each recipe is a named
part of the configuration; evaluation tiles are never changed (in the report the validation tiles were).

Cost: in full 18 trials of 60 epochs, for GPUs. Result: docs/tables/experiments.md.
"""

from search_spaces.declare import (
    BETTER_PROTOCOL,
    Experiment,
    Fragments,
    Grid,
    Maximise,
    SearchSpace,
    SpeedGuard,
    quick_smoke,
)

EXPERIMENT = Experiment(
    name="augmentation",
    question="Which augmentation helps?",
    base=BETTER_PROTOCOL,
    space=SearchSpace(
        {
            "recipe": Fragments(
                none={"augmentation.orientation": "none"},
                rotations={"augmentation.orientation": "rotations"},
                dihedral={"augmentation.orientation": "dihedral"},
                crop={"augmentation.orientation": "rotations", "augmentation.crop": 256},
                zoom={"augmentation.orientation": "dihedral", "augmentation.zoom": 1.5},
                sky={
                    "augmentation.orientation": "dihedral",
                    "augmentation.zoom": 1.5,
                    "augmentation.noise": 2.0,
                    "augmentation.sky": 0.5,
                },
            )
        }
    ),
    objective=Maximise("map_50"),
    searcher=Grid(),
    stoppers=(SpeedGuard(of_median=0.2),),
    smoke=quick_smoke(),
)
