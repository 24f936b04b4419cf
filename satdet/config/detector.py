"""The detector: its parts, its weights, and what of it is trained."""

from dataclasses import dataclass, field
from typing import Literal

from satdet._fields import Checked, bounded, unknown_name
from satdet.errors import ConfigError

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "convnext_tiny", "efficientnet_v2_s"]
PRETRAINED = ("none", "backbone", "detector")
"""The weights that have a name; all others are files."""


@dataclass(frozen=True, kw_only=True)
class FreezingConfig(Checked):
    """Which parts of the backbone are trained; proposal generator, heads and feature pyramid always are.

    The *body* is the backbone without its pyramid, the *stem* its first convolution with its normalisation. Frozen
    batch norm neither learns nor updates its statistics.
    """

    mode: Literal[
        "none", "backbone", "stem_only", "stem_and_first_stage_only", "last_stages", "alternating", "adapters", "lora"
    ] = "none"
    """none: all is trained. backbone: the body is frozen. stem_only, stem_and_first_stage_only: the body is frozen but
    for these. last_stages: but for the last `stages`. alternating: the body is frozen in every second period of
    `period` epochs, beginning with the first. adapters: the body is frozen but for the stem, and a bottleneck of
    `width` channels is trained after each stage [1]_. lora: the body is frozen but for the stem, and a correction of
    rank `rank` to each of its convolutions is trained [2]_.

    References
    ----------
    .. [1] Houlsby et al. 2019, Parameter-Efficient Transfer Learning, arXiv:1902.00751
    .. [2] Hu et al. 2021, LoRA, arXiv:2106.09685
    """
    stages: int = bounded(1, minimum=1, maximum=4)
    period: int = bounded(1, minimum=1)
    width: int = bounded(64, minimum=1)
    rank: int = bounded(8, minimum=1)
    lora_scale: float = bounded(1.0, above=0)
    """Factor of the low-rank correction, alpha / rank of the paper."""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(Checked):
    """Faster R-CNN with a feature pyramid, 1 input channel, 1 class of object and background."""

    backbone: Backbone = "resnet50"
    version: Literal["v1", "v2"] = "v1"
    """v2: two convolutions in the RPN head, 4 and a linear layer in the box head, batch norm in FPN and box head."""
    weights: str = "backbone"
    """none: random; backbone: trained on ImageNet; detector: the whole COCO network (ResNet50 only); or the path of a
    .pt or .pth file: a model or checkpoint of ours, or a state dict, also with other classes or input channels. A trial
    is known by the path, not by what is in the file, and does not open it again when it resumes: name a file by its
    content if it may change."""
    input_adaptation: Literal["mean", "replicate", "random"] = "mean"
    """First convolution: mean of the RGB weights, the channel replicated three times, or random for one channel."""
    batch_norm: Literal["auto", "trainable", "frozen"] = "auto"
    """Of the body. auto: as torchvision does: v1 frozen with pretrained weights and trainable from scratch, v2 always
    trainable. ConvNeXt has no batch norm, so that there this changes nothing."""
    freezing: FreezingConfig = field(default_factory=FreezingConfig)
    anchor_sizes: tuple[float, ...] = bounded((8.0, 16.0, 32.0, 64.0, 128.0), above=0)
    """One anchor side per FPN level, finest first, in px of the (enlarged) tile."""
    aspect_ratios: tuple[float, ...] = bounded((0.5, 1.0, 2.0), above=0)
    enlargement: float = bounded(1.0, minimum=0.25, maximum=8)
    """Factor by which a tile is resized before the backbone; the report used 2."""
    roi_levels: int = bounded(2, minimum=1, maximum=4)
    """RoI pooling reads the finest so many FPN levels. As in torchvision, boxes below 112 px (of the enlarged tile) are
    read from the finest, and each level beyond takes boxes twice as large."""
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
        if self.weights not in PRETRAINED and not self.weights.endswith((".pt", ".pth")):
            raise ConfigError(f"{unknown_name('weights', self.weights, PRETRAINED)}, or the path of a .pt or .pth file")
        if self.weights == "detector" and self.backbone != "resnet50":
            raise ConfigError(f"whole-network weights exist for resnet50 only, not for {self.backbone}")
