"""The backbone: a ResNet with a feature pyramid, for tiles of one channel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN, _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d

from satdet.config import DetectorConfig

COCO_V1_EPSILON = 0.0
"""torchvision's COCO weights of v1 were trained with this epsilon in frozen batch norm."""


class FrozenBatchNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """torchvision's frozen batch norm through the fused kernel, which keeps the input's type under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W) with the fixed statistics."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ReplicatingConv2d(nn.Conv2d):
    """A convolution of three channels that is given one, and sees it three times."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, 1, H, W), replicated."""
        return super().forward(input.expand(-1, self.in_channels, -1, -1))


def is_frozen(config: DetectorConfig) -> bool:
    """Whether the batch norm of the ResNet is frozen.

    ``auto`` decides as torchvision's constructors do: v1 frozen with pretrained weights and trainable from scratch, v2
    always trainable. With pretrained weights this gives the parameter counts of the report.
    """
    if config.batch_norm == "auto":
        return config.version == "v1" and config.weights != "none"
    return config.batch_norm == "frozen"


def build_backbone(config: DetectorConfig) -> BackboneWithFPN:
    """The randomly initialised backbone of `config`, all of it trainable.

    Maps (B, 1, H, W) to five levels of 256 channels with 4, 8, 16, 32 and 64 px a cell.
    """
    body = getattr(resnet, config.backbone)(norm_layer=FrozenBatchNorm if is_frozen(config) else nn.BatchNorm2d)
    body.conv1 = _first_convolution(replicate=config.input_adaptation == "replicate")
    if config.weights == "detector" and config.version == "v1":
        for module in body.modules():
            if isinstance(module, FrozenBatchNorm):
                module.eps = COCO_V1_EPSILON
    pyramid_norm = nn.BatchNorm2d if config.version == "v2" else None
    return _resnet_fpn_extractor(body, trainable_layers=5, norm_layer=pyramid_norm)


def adapt_first_convolution(weight: Tensor, config: DetectorConfig) -> Tensor | None:
    """What becomes of the RGB weights (64, 3, 7, 7) of the first convolution; None: they are left out."""
    if config.input_adaptation == "random":
        return None
    return weight.mean(dim=1, keepdim=True) if config.input_adaptation == "mean" else weight


def _first_convolution(*, replicate: bool) -> nn.Conv2d:
    kind, channels = (ReplicatingConv2d, 3) if replicate else (nn.Conv2d, 1)
    convolution = kind(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    with torch.no_grad():
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
