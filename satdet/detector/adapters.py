"""What is trained in place of a frozen body: bottlenecks between its stages, or corrections of low rank.

Both begin as nothing: until the first step the detector is the pretrained one, to the bit.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ORIGINAL = ".parametrizations.weight.original"
_CORRECTION = ".parametrizations.weight.0."


class Adapter(nn.Module):
    """A residual bottleneck of 1 x 1 convolutions, x + up(relu(down(x))) [1]_, whose last layer begins at zero.

    Parameters
    ----------
    channels : int
        Of input and output.
    width : int
        Channels in between.

    References
    ----------
    .. [1] Houlsby et al. 2019, Parameter-Efficient Transfer Learning, section 2.1, arXiv:1902.00751
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, width, kernel_size=1)
        self.up = nn.Conv2d(width, channels, kernel_size=1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Correct x (B, channels, H, W)."""
        corrected: Tensor = x + self.up(self.down(x).relu())
        return corrected


class LowRank(nn.Module):
    """A correction of low rank to a weight [1]_: W + scale * up @ down, on the weight flattened to (rows, columns).

    Small enough to be ours: adapter libraries wrap whole modules and rename them, while as one of torch's
    parametrizations it leaves the network as it is.

    Parameters
    ----------
    weight : Tensor
        Of a convolution (out, in / groups, k, k) or a linear layer (out, in): out rows, the rest columns.
    rank : int
        At most the smaller side of the flattened weight.
    scale : float

    References
    ----------
    .. [1] Hu et al. 2021, LoRA, section 4.1, arXiv:2106.09685
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.register_buffer("scale", weight.new_tensor(scale))  # in the state, so that the state alone can be merged
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The corrected weight, of the same shape."""
        return weight + _correction(self.up, self.down, self.scale).view_as(weight)


def add_low_rank(module: nn.Module, rank: int, scale: float) -> None:
    """Correct every convolution in `module`; a linear layer, as in ConvNeXt's blocks, is one of 1 x 1."""
    for layer in [each for each in module.modules() if isinstance(each, (nn.Conv2d, nn.Linear))]:
        weight = layer.weight.detach()
        parametrize.register_parametrization(layer, "weight", LowRank(weight, rank, scale))


def is_correction(name: str) -> bool:
    """Whether a parameter's name is that of a factor of a `LowRank`."""
    return _CORRECTION in name


def merge_low_rank(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as it would be without `LowRank`: each correction added to its weight."""
    merged = {key: value for key, value in state.items() if not (key.endswith(_ORIGINAL) or is_correction(key))}
    for key in (key for key in state if key.endswith(_ORIGINAL)):
        layer = key.removesuffix(_ORIGINAL)
        up, down, scale = (state[layer + _CORRECTION + part] for part in ("up", "down", "scale"))
        merged[f"{layer}.weight"] = state[key] + _correction(up, down, scale).view(state[key].shape)
    return merged


def _correction(up: Tensor, down: Tensor, scale: Tensor) -> Tensor:
    return scale * torch.mm(up, down)
