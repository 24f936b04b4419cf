"""One optimizer step: the detector, its optimizer, and how both are computed on a device."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from satdet.config import TrialConfig
from satdet.detector import Detector
from satdet.errors import NonFiniteLossError
from satdet.training.optimizer import build_optimizer, learning_rate

LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
_CUDA_CHECK_STEPS = 20


def seed_everything(seed: int, epoch: int) -> None:
    """Seed torch on every device for one epoch, whatever came before it; epoch 0 is the making of the weights."""
    torch.manual_seed(int(np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1)[0]))


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, the rule of ``training.precision = auto``.

    On a CPU that means AVX-512 BF16 or AMX. With them a training step of a ResNet18 detector on 128 px tiles took 0.65
    to 0.75 of its float32 time on two cores; without them bfloat16 is emulated and slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Learner:
    """Trains a detector step by step.

    Parameters
    ----------
    detector : Detector
        Moved to `device`.
    config : TrialConfig
    device : torch.device
    steps_per_epoch : int
        For the schedule, which spans ``config.training.epochs``.
    """

    def __init__(self, detector: Detector, config: TrialConfig, device: torch.device, *, steps_per_epoch: int) -> None:
        self.device = device
        self.learning_rate = 0.0
        self._channels_last = config.training.channels_last
        self._bfloat16 = config.training.precision == "bfloat16" or (
            config.training.precision == "auto" and computes_bfloat16(device)
        )
        self.detector = detector.to(device)
        if self._channels_last:
            self.detector.to(memory_format=torch.channels_last)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all batches of a trial have one shape
        self.optimizer = build_optimizer(self.detector, config.optimizer)
        self._config = config.optimizer
        self._steps = 0
        self._total_steps = config.training.epochs * steps_per_epoch

    def step(self, images: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        """Take one optimizer step.

        Parameters
        ----------
        images : Tensor
            (B, 1, H, W) float32, normalised.
        targets : list of dict
            As `Detector` takes them.

        Returns
        -------
        Tensor
            The losses before the step, in the order of `LOSSES`, (4,), on the device: reading it waits for the device.
        """
        self.detector.train()
        self._set_learning_rate()
        with self._autocast():
            losses = self.detector(self._images(images), [self._target(target) for target in targets])
        parts = torch.stack([losses[name].float() for name in LOSSES])
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(parts.sum())
        if self._config.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.detector.parameters(), self._config.max_gradient_norm)
        self.optimizer.step()
        self._steps += 1
        return parts.detach()

    @torch.inference_mode()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Detections of `images` (B, 1, H, W), one dict a tile, as `Detector` returns them, on the CPU."""
        self.detector.eval()
        with self._autocast():
            detections = self.detector(self._images(images), None)
        return [{key: value.cpu() for key, value in tile.items()} for tile in detections]

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides the data and the seed."""
        return {
            "model": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self._steps,
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.detector.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._steps = int(state["steps"])
        torch.set_rng_state(state["random"]["torch"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def _set_learning_rate(self) -> None:
        self.learning_rate = learning_rate(self._config, self._steps, self._total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16)

    def _images(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        return images.to(memory_format=torch.channels_last) if self._channels_last else images

    def _target(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value.to(self.device, non_blocking=True) for key, value in target.items()}


class LossMeter:
    """Means of the losses of an epoch, read from the device every few steps, since each reading waits for it.

    Parameters
    ----------
    epoch : int
        For the message of an error.
    device : torch.device
        On the CPU every step is read.
    """

    def __init__(self, epoch: int, device: torch.device) -> None:
        self._epoch = epoch
        self._check_steps = _CUDA_CHECK_STEPS if device.type == "cuda" else 1
        self._unread: list[Tensor] = []
        self._sums = np.zeros(len(LOSSES))
        self._steps = 0

    def add(self, parts: Tensor) -> None:
        """Add the losses (4,) of a step.

        Raises
        ------
        NonFiniteLossError
            If one of the losses read is NaN or infinite.
        """
        self._unread.append(parts)
        if len(self._unread) >= self._check_steps:
            self._read()

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps, and ``loss``, their sum.

        Raises
        ------
        NonFiniteLossError
            If one of the losses is NaN or infinite.
        """
        if self._unread:
            self._read()
        means = dict(zip(LOSSES, (self._sums / self._steps).tolist(), strict=True))
        return {"loss": sum(means.values())} | means

    def _read(self) -> None:
        for values in torch.stack(self._unread).cpu().double().numpy():
            self._steps += 1
            if not np.isfinite(values).all():
                name, value = next(pair for pair in zip(LOSSES, values, strict=True) if not np.isfinite(pair[1]))
                raise NonFiniteLossError(
                    f"{name} is {value} in epoch {self._epoch}, step {self._steps}; lower optimizer.learning_rate, or "
                    "set optimizer.max_gradient_norm"
                )
            self._sums += values
        self._unread.clear()
