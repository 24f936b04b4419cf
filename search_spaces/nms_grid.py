"""Which NMS threshold suits a trained detector?

    python -m experiments.run nms_grid --checkpoint FILE      # model.pt of any trial, on the test split of --data
    python -m experiments.run nms_grid --best-of SEARCH       # the best model of a search in this storage
    python -m experiments.run nms_grid --smoke                # trains a small detector first

Nothing is trained: all thresholds share one pass through the network, and the same tiles are drawn for 0.3, 0.5 and
0.7. The report found map_50 .8878, .8945, .8927, .8967 and .8893, all within what another seed changes.

Cost: one evaluation. Result: docs/tables/experiments.md.
"""

from satdet.config import with_values
from search_spaces.declare import REPORT_SWEEP_PROTOCOL, Choice, Experiment, Grid, Maximise, SearchSpace, smoke_of

EXPERIMENT = Experiment(
    name="nms_grid",
    question="Which NMS threshold suits a trained detector?",
    base=with_values(REPORT_SWEEP_PROTOCOL, {"evaluation.split": "test"}),
    space=SearchSpace({"detector.nms_threshold": Choice(0.3, 0.4, 0.5, 0.6, 0.7)}),
    objective=Maximise("map_50"),
    searcher=Grid(),
    seeds=1,
    task="evaluate",
    pictures_of=tuple({"detector.nms_threshold": threshold} for threshold in (0.3, 0.5, 0.7)),
    smoke=smoke_of({"detector.backbone": "resnet18", "detector.version": "v1", "training.tiles_per_epoch": 128}),
)
