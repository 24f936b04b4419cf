"""The configuration of one trial, as a tree of frozen dataclasses that are checked when they are built.

A *path* names one value in the tree: ``optimizer.learning_rate``, ``tiles.box.k``. Search spaces, ``--set`` and the
trackers all speak in paths, so a path is the only spelling of a hyperparameter anywhere.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from satdet._fields import bounded, check_fields, check_range, coerce, unknown_name
from satdet.errors import ConfigError

__all__ = [
    "BoxConfig", "ConfigError", "DetectorConfig", "EvaluationConfig", "InputConfig", "OptimizerConfig", "TilesConfig",
    "TrainingConfig", "TrialConfig", "bounded", "check_fields", "digest", "flatten", "leaf", "leaf_paths",
    "metric_names", "parse_value", "unflatten", "unknown_name", "with_values",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """A dataclass whose fields are checked against their annotations and ranges when it is built."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class BoxConfig(_Checked):
    """Which catalogue rows are objects, and the square box of each: half side k * FWHM_WORLD / pixel scale.

    The defaults are the report's rule. Where several k apply, bright stars win over elongated objects.
    """

    k: float = bounded(2.0, above=0)
    elongated_k: float = bounded(4.0, above=0)
    elongated_ellipticity: float = bounded(0.5, minimum=0, maximum=1)
    bright_k: float = bounded(3.0, above=0)
    bright_magnitude: float = 14.0
    max_flux_radius: float = bounded(50000.0, above=0)
    min_visible: float = bounded(0.4, above=0, maximum=1)
    """Smallest share of a box's area inside a tile for it to count as an object of that tile."""


@dataclass(frozen=True, kw_only=True)
class TilesConfig(_Checked):
    """All that decides what is in a tile store, and nothing else: its digest is the store's name."""

    size: int = bounded(512, minimum=32, maximum=8192)
    """Side of a tile in px."""
    overlap: int = bounded(0, minimum=0)
    """Smallest overlap of neighbouring tiles in px; the last row and column always shift inwards to fit."""
    accepted_labels: tuple[str, ...] = ("OK", "GALAXY", "BINARY")
    """A frame with a label outside these is excluded; a frame without any label is used."""
    train_share: float = bounded(0.81, above=0, maximum=1)
    validation_share: float = bounded(0.09, minimum=0, maximum=1)
    """The rest is the test split. Whole frames are split, never tiles."""
    split_seed: int = bounded(0, minimum=0)
    box: BoxConfig = field(default_factory=BoxConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap >= self.size:
            raise ConfigError(f"TilesConfig.overlap = {self.overlap} is not smaller than size = {self.size}")
        if self.train_share + self.validation_share > 1 + 1e-9:
            raise ConfigError("TilesConfig.train_share + validation_share is above 1")


@dataclass(frozen=True, kw_only=True)
class InputConfig(_Checked):
    """What happens to a tile between the store and the detector."""

    normalisation: Literal["clipped_sigma", "asinh", "tile"] = "clipped_sigma"
    """From noise units s = (x - background) / rms: clip(s, -5, 20) / 5; asinh(s) / 3; or mean 0 and std 1 a tile."""
    augmentation: Literal["none", "rotations", "dihedral"] = "dihedral"
    """Training only: the report's random 90-degree rotations, or those and reflections."""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(_Checked):
    """Faster R-CNN with a ResNet-FPN backbone, 1 input channel, 1 class of object and background."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    version: Literal["v1", "v2"] = "v1"
    """v2: two convolutions in the RPN head, 4 and a linear layer in the box head, batch norm in FPN and box head."""
    weights: Literal["none", "backbone", "detector"] = "backbone"
    """Random, ImageNet backbone, or the whole COCO network (ResNet50 only)."""
    input_adaptation: Literal["mean", "replicate", "random"] = "mean"
    """First convolution: mean of the RGB weights, the channel replicated three times, or random for one channel."""
    batch_norm: Literal["auto", "trainable", "frozen"] = "auto"
    """auto: as torchvision does: v1 frozen with pretrained weights and trainable from scratch, v2 always trainable."""
    anchor_sizes: tuple[float, ...] = bounded((8.0, 16.0, 32.0, 64.0, 128.0), above=0)
    """One anchor side per FPN level, finest first, in px of the (enlarged) tile."""
    aspect_ratios: tuple[float, ...] = bounded((0.5, 1.0, 2.0), above=0)
    enlargement: float = bounded(1.0, minimum=0.25, maximum=8)
    """Factor by which a tile is resized before the backbone; the report used 2."""
    roi_levels: int = bounded(2, minimum=1, maximum=4)
    """RoI pooling reads the finest so many FPN levels."""
    rpn_samples: int = bounded(256, minimum=2)
    """Anchors sampled a tile for the RPN loss."""
    box_samples: int = bounded(512, minimum=2)
    """Proposals sampled a tile for the box head's loss."""
    proposals_before_nms: int = bounded(2000, minimum=1)
    proposals_after_nms: int = bounded(2000, minimum=1)
    max_detections: int = bounded(1000, minimum=3)
    """Detections a tile."""
    score_threshold: float = bounded(0.05, minimum=0, maximum=1)
    nms_threshold: float = bounded(0.5, minimum=0, maximum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.anchor_sizes) != 5:
            raise ConfigError(f"DetectorConfig.anchor_sizes has {len(self.anchor_sizes)} values; the FPN has 5 levels")
        if self.weights == "detector" and self.backbone != "resnet50":
            raise ConfigError(f"whole-network weights exist for resnet50 only, not for {self.backbone}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(_Checked):
    """The optimizer and its learning-rate schedule, counted in optimizer steps."""

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: float = bounded(1e-3, above=0)
    weight_decay: float = bounded(1e-6, minimum=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = bounded(0, minimum=0)
    """Steps of linear warm-up from 0 to the learning rate."""
    max_gradient_norm: float | None = bounded(None, above=0)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(_Checked):
    """The training loop."""

    epochs: int = bounded(200, minimum=1)
    batch_size: int = bounded(2, minimum=1)
    """Tiles a step, over all workers of the trial."""
    tiles_per_epoch: int | None = bounded(None, minimum=1)
    """Random training tiles of an epoch; None: all of them."""
    empty_tiles: bool = False
    """Train on tiles without objects too."""
    patience: int | None = bounded(10, minimum=1)
    """Epochs without improvement before early stopping; None: never stop early."""
    min_improvement: float = bounded(1e-4, minimum=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast where the device computes it natively, else float32."""
    channels_last: bool = True
    loader_workers: int = bounded(0, minimum=0, maximum=64)
    """Processes that load tiles; 0: the training process itself."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(_Checked):
    """The evaluation after an epoch."""

    split: Literal["train", "validation", "test"] = "validation"
    batch_size: int = bounded(8, minimum=1)
    every: int = bounded(1, minimum=1)
    """Evaluate after every so many epochs, and always after the last."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig(_Checked):
    """One trial: what is trained on what, and how."""

    tiles: TilesConfig = field(default_factory=TilesConfig)
    input: InputConfig = field(default_factory=InputConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def metric_names(config: TrialConfig) -> tuple[str, ...]:
    """The metrics that every epoch of a trial reports, all finite; mar is given at three equal steps of detections."""
    most = config.detector.max_detections
    recalls = tuple(f"mar_{round(most * step / 3)}" for step in (1, 2, 3))
    return (
        "loss", "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg",
        "map", "map_50", "map_75", *recalls, "best_iou_per_gt", "best_iou_per_prediction", "predictions_minus_objects",
        "images_per_second", "seconds", "seconds_training", "seconds_evaluation", "learning_rate", "best_map_50",
    )  # fmt: skip


def flatten(config: Any) -> dict[str, Any]:
    """All values of a configuration by path, in the order of declaration; tuples become lists (JSON's types)."""
    return dict(_flat_items(config, ""))


def unflatten(values: Mapping[str, Any]) -> TrialConfig:
    """The configuration that `values` (by path) describes; what is not named keeps its default.

    Raises
    ------
    ConfigError
        For an unknown path, or a value outside its type or range.
    """
    return with_values(TrialConfig(), values)


def with_values(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """A copy of `config` with the values of some paths replaced, each checked.

    Raises
    ------
    ConfigError
        For an unknown path (the known ones are listed), or a value outside its type or range.
    """
    for path, value in values.items():
        leaf(path).check(value, path)
    return typing.cast(TrialConfig, _replaced(config, values))


def parse_value(path: str, text: str) -> Any:
    """The value that `text` (of ``--set path=text``) means for `path`; ``1e-3`` is a number, ``null`` is None.

    Raises
    ------
    ConfigError
        For an unknown path, or a value outside its type or range.
    """
    known = leaf(path)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{path} = {text!r} cannot be read as a value") from None
    if isinstance(value, str):
        value = _number(value)
    return known.check(value, path)


def digest(config: Any, length: int = 12) -> str:
    """A stable hexadecimal digest of a configuration (or any sub-tree of one)."""
    text = json.dumps(flatten(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Leaf:
    """What one path may hold."""

    hint: Any
    limits: Mapping[str, Any]

    def check(self, value: Any, label: str) -> Any:
        """Return `value` in the leaf's type, or raise ConfigError naming `label`."""
        value = coerce(value, self.hint, label)
        check_range(value, dict(self.limits), label)
        return value


def leaf(path: str) -> Leaf:
    """What `path` may hold.

    Raises
    ------
    ConfigError
        For an unknown path: with the nearest known one, and the known ones of its section.
    """
    known = leaf_paths()
    if path in known:
        return known[path]
    section = [key for key in known if key.startswith(path.partition(".")[0] + ".")]
    raise ConfigError(unknown_name("key", path, section or known))


def leaf_paths(root: type = TrialConfig, prefix: str = "") -> dict[str, Leaf]:
    """Every legal path with its type and range."""
    leaves: dict[str, Leaf] = {}
    hints = typing.get_type_hints(root)
    for entry in dataclasses.fields(root):
        hint = hints[entry.name]
        if dataclasses.is_dataclass(hint):
            leaves |= leaf_paths(typing.cast(type, hint), f"{prefix}{entry.name}.")
        else:
            leaves[prefix + entry.name] = Leaf(hint, entry.metadata)
    return leaves


def _flat_items(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _flat_items(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, list(value) if isinstance(value, tuple) else value


def _replaced(config: Any, values: Mapping[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for entry in dataclasses.fields(config):
        inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(entry.name + ".")}
        if inner:
            changes[entry.name] = _replaced(getattr(config, entry.name), inner)
        elif entry.name in values:
            changes[entry.name] = values[entry.name]
    return dataclasses.replace(config, **changes)


def _number(text: str) -> Any:
    """YAML 1.1 reads ``1e-3`` as text because it has no dot; everybody means a number."""
    try:
        return float(text)
    except ValueError:
        return text
