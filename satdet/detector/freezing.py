"""What of a detector is trained, in which epoch, and how much that is.

Proposal generator, heads and feature pyramid are always trained; the configuration freezes parts of the body.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from satdet.config import DetectorConfig
from satdet.detector.adapters import is_correction
from satdet.detector.backbone import LAYOUTS

logger = logging.getLogger(__name__)

_BODY = "backbone.body."
_STAGES = 4


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters: all of a network, and those that are trained.

    Frozen batch norm has statistics and no parameters, as in torchvision.
    """

    total: int
    trained: int

    def __str__(self) -> str:
        share = self.trained / self.total
        return f"{self.total / 1e6:.2f} M parameters, {self.trained / 1e6:.2f} M of them trained ({share:.1%})"


def count_parameters(module: nn.Module) -> ParameterCount:
    """Count the parameters of `module`, and those of them that require a gradient now."""
    sizes = [(each.numel(), each.requires_grad) for each in module.parameters()]
    return ParameterCount(sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained))


def is_trained(name: str, config: DetectorConfig, epoch: int) -> bool:
    """Whether the parameter `name` of a detector of `config` is trained in `epoch`, from 1; nothing else decides it."""
    if not name.startswith(_BODY):
        return True
    child = name.removeprefix(_BODY).partition(".")[0]
    if child.startswith("adapter") or is_correction(name):
        return True
    freezing, part = config.freezing, LAYOUTS[config.backbone].part(child)
    match freezing.mode:
        case "none":
            return True
        case "backbone":
            return False
        case "stem_only" | "adapters" | "lora":
            return part == 0
        case "stem_and_first_stage_only":
            return part <= 1
        case "last_stages":
            return part > _STAGES - freezing.stages
        case "alternating":
            return (epoch - 1) // freezing.period % 2 == 1


def freeze(detector: nn.Module, config: DetectorConfig, epoch: int = 1) -> None:
    """Let those parameters of `detector` require a gradient that are trained in `epoch`, and no other.

    A frozen parameter has no gradient, so that no optimizer of torch moves it: neither by momentum nor by weight decay.
    """
    for name, parameter in detector.named_parameters():
        parameter.requires_grad_(is_trained(name, config, epoch))
        if not parameter.requires_grad:
            parameter.grad = None


def ever_trained(detector: nn.Module, config: DetectorConfig) -> list[nn.Parameter]:
    """The parameters that are trained in any epoch, whatever they are now."""
    return [parameter for name, parameter in detector.named_parameters() if _is_ever_trained(name, config)]


def warn_of_random_parts(detector: nn.Module, config: DetectorConfig, fresh: Collection[str]) -> None:
    """Log a warning if parameters of `detector` are neither pretrained (`fresh` by name) nor ever trained."""
    lost = [name for name, _ in detector.named_parameters() if name in fresh and not _is_ever_trained(name, config)]
    if lost:
        logger.warning(
            "%d parts stay random, neither pretrained nor ever trained, the first is %s: detector.freezing.mode = %s "
            "needs pretrained weights (detector.weights), also of its first convolution (detector.input_adaptation)",
            len(lost),
            lost[0],
            config.freezing.mode,
        )


def rest_frozen_parts(module: nn.Module) -> None:
    """Put the parts of a network in training mode that have no trained parameter into evaluation mode.

    Their batch norm then keeps its statistics, and no stochastic depth falls in them.
    """
    if any(parameter.requires_grad for parameter in module.parameters()):
        for child in module.children():
            rest_frozen_parts(child)
    elif any(True for _ in module.parameters()):  # what has none does as the module around it
        module.eval()


def _is_ever_trained(name: str, config: DetectorConfig) -> bool:
    epochs = (1, 1 + config.freezing.period)  # what is trained changes with the period, back and forth
    return any(is_trained(name, config, epoch) for epoch in epochs)
