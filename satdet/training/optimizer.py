"""The optimizer and its learning rate."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from satdet.config import OptimizerConfig


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of `parameters`, which passes over those without a gradient.

    Adam is fused: for 28 M parameters on one CPU core a step takes 0.04 s instead of 0.13 s. Fused SGD cannot take up
    parameters that were frozen in its first step.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=config.momentum)
    adam = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return adam(parameters, lr=rate, weight_decay=decay, fused=True)


def learning_rate(config: OptimizerConfig, step: int, *, epochs: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, a function of its number alone, so that a schedule needs no state.

    Warm-up rises linearly, (step + 1) / warmup_steps of the full rate; then the rate is constant, or falls as half a
    cosine to 0 at the end of the trial [1]_, or is multiplied by ``step_factor`` after every ``step_epochs`` epochs.

    Parameters
    ----------
    config : OptimizerConfig
    step : int
        Optimizer steps taken before this one.
    epochs, steps_per_epoch : int
        Of the whole trial.

    References
    ----------
    .. [1] Loshchilov and Hutter 2017, SGDR, https://arxiv.org/abs/1608.03983
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "step":
            return float(config.learning_rate * config.step_factor ** (step // steps_per_epoch // config.step_epochs))
        case "cosine":
            share = (step - config.warmup_steps) / max(1, epochs * steps_per_epoch - config.warmup_steps)
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
