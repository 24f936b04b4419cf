"""A moving average of the weights, which often detects better than the last step's."""

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from satdet.detector import Detector


class WeightAverage:
    """The exponential moving average of a detector's parameters and buffers.

    Free of the bias towards where the average begins, as Adam's moments are [1]_: after t steps it is the mean of the
    weights after each of them, weighted by decay^(t - i). So a short trial, too, is not evaluated on random weights.

    Parameters
    ----------
    detector : Detector
        Copied, on its device.
    decay : float
        A step.

    Attributes
    ----------
    detector : Detector
        The average, in evaluation mode.

    References
    ----------
    .. [1] Kingma and Ba 2015, Adam, section 3, https://arxiv.org/abs/1412.6980
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self.detector = copy.deepcopy(detector).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, detector: Detector, step: int) -> None:
        """Take in the weights after a step, counted from 1; whole numbers are taken over as they are."""
        decay = 1 - (1 - self._decay) / (1 - self._decay**step)
        pairs = zip(self.detector.state_dict().values(), detector.state_dict().values(), strict=True)
        averaged, current = [], []
        for own, other in pairs:
            if own.is_floating_point():
                averaged.append(own)
                current.append(other)
            else:
                own.copy_(other)
        get_ema_multi_avg_fn(decay)(averaged, current, 0)  # type: ignore[no-untyped-call]
