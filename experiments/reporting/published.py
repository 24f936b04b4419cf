"""What the observatory's report has published: single runs without seeds, by the experiment that asks it again."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One figure of the report.

    Attributes
    ----------
    cell : str
        As `experiments.compare.Row.label` has it, or what it is about.
    figure : str
    """

    cell: str
    figure: str


CHAPTERS = (
    "pretrained_weights",
    "layer_freezing",
    "backbone_ablation",
    "detector_version",
    "nms_grid",
    "sweep_random",
    "sweep_as_run",
    "sweep_grid",
    "sweep_bayesian",
    "sweep_hyperband",
    "sweep_bohb",
    "sweep_asha",
    "input_adaptation",
    "normalisation",
    "augmentation",
    "backbone_tuned",
    "speed_accuracy",
)
"""The declared experiments in the report's order; what its authors asked for besides comes last."""

_NMS = "map_50 {}, best_iou_per_gt {}, best_iou_per_prediction {}"
_SWEEP = (
    Published("best", "map_50 0.844: batch 4, learning rate 3.166e-4, weight decay 1e-4, patience 5"),
    Published("second", "map_50 0.838: batch 4, learning rate 7.211e-5, weight decay 0, patience 10"),
    Published("third", "map_50 0.824: batch 4, learning rate 1.367e-3, weight decay 5e-5, patience 12"),
    Published("trials", "13 of 30 finished, 17 ended by a speed guard that counted iterations"),
)
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "pretrained_weights": (
        Published("none", "fails to learn in 30 epochs, on raw counts"),
        Published("backbone", "about as good as the whole network's"),
        Published("whole network", "about as good as the backbone's"),
    ),
    "layer_freezing": (Published("all unfrozen", "far better on every metric than the first layer alone"),),
    "backbone_ablation": (
        Published("resnet18", "map_50 0.70 to 0.74"),
        Published("resnet34", "map_50 0.78 to 0.82"),
        Published("resnet50", "map_50 0.78 to 0.82"),
        Published("resnet101", "map_50 0.78 to 0.82"),
    ),
    "detector_version": (
        Published("v1", "map_50 0.862 in 75 epochs"),
        Published("v2", "map_50 0.870 in 30 epochs, each of them dearer"),
    ),
    "nms_grid": (
        Published("0.3", _NMS.format("0.8878", "0.7563", "0.6412")),
        Published("0.4", _NMS.format("0.8945", "0.7592", "0.6279")),
        Published("0.5", _NMS.format("0.8927", "0.7625", "0.6152")),
        Published("0.6", _NMS.format("0.8967", "0.7649", "0.6005")),
        Published("0.7", _NMS.format("0.8893", "0.7677", "0.5799")),
    ),
    "sweep_random": _SWEEP,
    "sweep_as_run": _SWEEP,
}
