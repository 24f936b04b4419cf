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
        Copied, on its device; its tensors must stay in place from then on.
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
        # Views of the tensors of both, which change in place from here on.
        pairs = list(zip(self.detector.state_dict().values(), detector.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the detector's weights after a step, counted from 1; whole numbers are taken over as they are."""
        decay = 1 - (1 - self._decay) / (1 - self._decay**step)
        own, other = (list(tensors) for tensors in zip(*self._averaged, strict=True))
        get_ema_multi_avg_fn(decay)(own, other, 0)  # type: ignore[no-untyped-call]
        for mine, its in self._copied:
            mine.copy_(its)
