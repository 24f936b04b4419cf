"""The backbone: a network for images of one channel with a feature pyramid."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d

from satdet.config import DetectorConfig
from satdet.detector.adapters import Adapter

COCO_V1_EPSILON = 0.0
"""torchvision's COCO weights of v1 were trained with this epsilon in frozen batch norm."""
_PYRAMID_CHANNELS = 256


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of a torchvision network are, by the names of the body's children.

    The feature pyramid reads the four stages, at 4, 8, 16 and 32 px a cell; its fifth level is the fourth, halved.

    Attributes
    ----------
    stem : tuple of str
        The first convolution and its normalisation.
    stages : tuple of tuple of str
        A stage begins where the resolution falls. EfficientNetV2's stages of equal resolution are one stage here.
    channels : tuple of int
        Of each stage's output.
    first_convolution : str
        Its path in the body.
    left_out : tuple of str
        What torchvision's classification weights hold besides the body, by prefix.
    """

    stem: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]
    channels: tuple[int, ...]
    first_convolution: str
    left_out: tuple[str, ...]

    def part(self, child: str) -> int:
        """0 for a child of the stem, else the number of its stage, from 1."""
        return next(number for number, names in enumerate((self.stem, *self.stages)) if child in names)


def _resnet(*channels: int) -> Layout:
    return Layout(
        stem=("conv1", "bn1"),
        stages=(("layer1",), ("layer2",), ("layer3",), ("layer4",)),
        channels=channels,
        first_convolution="conv1",
        left_out=("fc.",),
    )


LAYOUTS = {
    "resnet18": _resnet(64, 128, 256, 512),
    "resnet34": _resnet(64, 128, 256, 512),
    "resnet50": _resnet(256, 512, 1024, 2048),
    "resnet101": _resnet(256, 512, 1024, 2048),
    "resnet152": _resnet(256, 512, 1024, 2048),
    "convnext_tiny": Layout(
        stem=("0",),
        stages=(("1",), ("2", "3"), ("4", "5"), ("6", "7")),
        channels=(96, 192, 384, 768),
        first_convolution="0.0",
        left_out=("classifier.",),
    ),
    "efficientnet_v2_s": Layout(
        stem=("0",),
        stages=(("1", "2"), ("3",), ("4", "5"), ("6",)),
        channels=(48, 64, 160, 256),
        first_convolution="0.0",
        left_out=("features.7.", "classifier."),
    ),
}


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
    """Whether the batch norm of the body is frozen; ConvNeXt has none, and its layer norm is always trained.

    ``auto`` decides as torchvision's constructors do: v1 frozen with pretrained weights and trainable from scratch, v2
    always trainable. With pretrained weights this gives the parameter counts of the report.
    """
    if config.batch_norm == "auto":
        return config.version == "v1" and config.weights != "none"
    return config.batch_norm == "frozen"


def build_backbone(config: DetectorConfig) -> BackboneWithFPN:
    """The randomly initialised backbone of `config`, with the adapters of ``freezing.mode = adapters``.

    Maps (B, 1, H, W) to five levels of 256 channels with 4, 8, 16, 32 and 64 px a cell.
    """
    layout = LAYOUTS[config.backbone]
    network = getattr(models, config.backbone)()
    body = getattr(network, "features", network)
    if is_frozen(config):
        epsilon = COCO_V1_EPSILON if config.weights == "detector" and config.version == "v1" else None
        _freeze_batch_norm(body, epsilon)
    _replace_first_convolution(body, layout.first_convolution, replicate=config.input_adaptation == "replicate")
    children, outputs = OrderedDict(body.named_children()), [names[-1] for names in layout.stages]
    if config.freezing.mode == "adapters":
        children, outputs = _with_adapters(children, layout, config.freezing.width)
    return BackboneWithFPN(
        nn.Sequential(children),
        {name: str(level) for level, name in enumerate(outputs)},
        list(layout.channels),
        _PYRAMID_CHANNELS,
        norm_layer=nn.BatchNorm2d if config.version == "v2" else None,
    )


def _freeze_batch_norm(module: nn.Module, epsilon: float | None) -> None:
    """Replace all batch norm in `module`, with the epsilon it had unless another is given."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm(child.num_features, child.eps if epsilon is None else epsilon))
        else:
            _freeze_batch_norm(child, epsilon)


def _replace_first_convolution(body: nn.Module, path: str, *, replicate: bool) -> None:
    """Put in one that takes one channel, random as torchvision's convolutions before batch norm are."""
    old = body.get_submodule(path)
    assert isinstance(old, nn.Conv2d)
    kind, channels = (ReplicatingConv2d, 3) if replicate else (nn.Conv2d, 1)
    has_bias = old.bias is not None
    new = kind(channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=has_bias)  # type: ignore[arg-type]
    with torch.no_grad():
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        if new.bias is not None:
            nn.init.zeros_(new.bias)
    body.set_submodule(path, new)


def _with_adapters(
    children: "OrderedDict[str, nn.Module]", layout: Layout, width: int
) -> tuple["OrderedDict[str, nn.Module]", list[str]]:
    """The children with an adapter after each stage, and the names of the adapters."""
    adapters = {
        names[-1]: (f"adapter{number}", Adapter(channels, width))
        for number, (names, channels) in enumerate(zip(layout.stages, layout.channels, strict=True), start=1)
    }
    widened: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in children.items():
        widened[name] = child
        if name in adapters:
            adapter_name, adapter = adapters[name]
            widened[adapter_name] = adapter
    return widened, [name for name, _ in adapters.values()]
