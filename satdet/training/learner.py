"""One optimizer step: the detector, its optimizer, and how both are computed on a device."""

import contextlib
import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from satdet._seeds import derived_seed
from satdet.config import TrialConfig
from satdet.data.loading import Share
from satdet.detector import Detector, ParameterCount, count_parameters, ever_trained, freeze
from satdet.errors import NonFiniteLossError
from satdet.training.averaging import WeightAverage
from satdet.training.optimizer import build_optimizer, learning_rate
from satdet.training.workers import ALONE, Workers

logger = logging.getLogger(__name__)

LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
_CUDA_CHECK_STEPS = 20


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed torch on every device for one epoch, whatever came before it; epoch 0 is the making of the weights.

    Workers of one trial, by their `rank`, have streams of their own, for what is random in the network itself.
    """
    torch.manual_seed(derived_seed(seed, epoch, *([rank] if rank else [])))


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
    micro_batch_size : int, optional
        Most tiles a pass of a worker (one more, at most, where the workers' shares of a batch differ); by default the
        configuration's.
    workers : Workers
        Those that train this detector together, each with a learner of its own; they stay equal to each other.

    Attributes
    ----------
    micro_batch_size : int or None
        Most tiles a pass, less than the configuration's where the memory did not suffice; None: the whole batch.
    learning_rate : float
        Of the last step.
    parameters : ParameterCount
        How many there are, and how many are trained in the epoch that was begun last.
    """

    def __init__(
        self,
        detector: Detector,
        config: TrialConfig,
        device: torch.device,
        *,
        steps_per_epoch: int,
        micro_batch_size: int | None = None,
        workers: Workers = ALONE,
    ) -> None:
        self.device = device
        self._workers = workers
        self.micro_batch_size = micro_batch_size or config.training.micro_batch_size
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
        self.parameters = ParameterCount(0, 0)
        self.optimizer = build_optimizer(ever_trained(self.detector, config.detector), config.optimizer)
        decay = config.training.ema_decay
        self._average = WeightAverage(self.detector, decay) if decay is not None else None
        if config.training.sync_batch_norm:
            workers.share_batch_norm(self.detector)
        self._parallel: nn.Module | None = None
        self._config = config
        self._steps = 0
        self._steps_per_epoch = steps_per_epoch

    @property
    def evaluated(self) -> Detector:
        """What is evaluated and exported: with ``training.ema_decay`` the average, else the trained detector."""
        return self._average.detector if self._average is not None else self.detector

    def begin_epoch(self, epoch: int) -> None:
        """Freeze what is frozen in `epoch`; what is trained is logged when it changes."""
        freeze(self.detector, self._config.detector, epoch)
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        missed = [
            name for name, each in self.detector.named_parameters() if each.requires_grad and id(each) not in held
        ]
        assert not missed, f"not in the optimizer: {missed}"
        parameters = count_parameters(self.detector)
        if parameters != self.parameters:
            logger.info("from epoch %d: %s", epoch, parameters)
            self._parallel = None  # it knows those that are trained
        self.parameters = parameters
        if self._parallel is None:
            self._parallel = self._workers.parallel(
                self.detector, sync_batch_norm=self._config.training.sync_batch_norm
            )

    def step(self, images: Tensor, targets: list[dict[str, Tensor]], *, batch_size: int | None = None) -> Tensor:
        """Take one optimizer step, together with the other workers, after `begin_epoch`.

        With ``training.micro_batch_size`` or several workers its gradient is the sum of those of several passes, each
        weighted by its share of the tiles. That is the gradient of the whole batch, to rounding, where all tiles have
        equally many sampled anchors and proposals and batch norm is frozen or, between workers, synchronised. Where a
        tile has fewer of them than the configuration's, its own weigh more; trainable batch norm has the statistics of
        each pass, or of all workers' passes at a time.

        Parameters
        ----------
        images : Tensor
            (B, 1, H, W) float32, normalised.
        targets : list of dict
            As `Detector` takes them.
        batch_size : int, optional
            Tiles of the batch, of which these are this worker's; by default all of them.

        Returns
        -------
        Tensor
            The losses before the step, in the order of `LOSSES`, (4,), on the device: reading it waits for the device.
        """
        self.detector.train()
        self._set_learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        batch_size = batch_size or len(images)
        parts = self._parts(len(images), batch_size)
        passes = []
        for part in parts:
            with contextlib.nullcontext() if part is parts[-1] else self._unshared():
                passes.append(self._accumulate(images[part], targets[part], batch_size))
        norm = self._config.optimizer.max_gradient_norm
        if norm is not None:
            torch.nn.utils.clip_grad_norm_(self.detector.parameters(), norm)
        self.optimizer.step()
        self._steps += 1
        if self._average is not None:
            self._average.update(self._steps)
        return self._workers.total(torch.stack(passes).sum(dim=0))

    @torch.inference_mode()
    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Detections of `images` (B, 1, H, W), one dict a tile, as `Detector` returns them, on the CPU."""
        detector = self.evaluated.eval()
        with self._autocast():
            detections = detector(self._images(images), None)
        return [{key: value.cpu() for key, value in tile.items()} for tile in detections]

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides the data and the seed."""
        averaged = {"ema": self._average.detector.state_dict()} if self._average is not None else {}
        return averaged | {
            "model": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self._steps,
            "micro_batch_size": self.micro_batch_size,
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.detector.load_state_dict(state["model"])
        if self._average is not None:
            self._average.detector.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._steps = int(state["steps"])
        sizes = (self.micro_batch_size, state.get("micro_batch_size"))
        self.micro_batch_size = min((size for size in sizes if size is not None), default=None)
        torch.set_rng_state(state["random"]["torch"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def _accumulate(self, images: Tensor, targets: list[dict[str, Tensor]], tiles: int) -> Tensor:
        """Add the gradient of these of the `tiles` of a step; their share of the losses (4,)."""
        assert self._parallel is not None, "begin_epoch comes first"
        with self._autocast():
            losses = self._parallel(self._images(images), [self._target(target) for target in targets])
        parts = torch.stack([losses[name].float() for name in LOSSES]) * (len(images) / tiles)
        torch.autograd.backward(parts.sum() * self._workers.count)  # of which the mean over the workers is taken
        return parts.detach()

    def _parts(self, length: int, batch_size: int) -> list[slice]:
        """The worker's tiles of each pass; all workers make equally many, for they wait for each other in each."""
        size = self.micro_batch_size or length
        if self._workers.alone:
            return [slice(first, first + size) for first in range(0, length, size)]
        smallest = batch_size // self._workers.count  # others may have one tile more
        passes = min(smallest, -(-batch_size // (self._workers.count * size)))
        return [Share(number, passes).of(length) for number in range(passes)]

    def _unshared(self) -> contextlib.AbstractContextManager[None]:
        """Gradients are added up here before they are shared with the last pass."""
        if isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _set_learning_rate(self) -> None:
        self.learning_rate = learning_rate(
            self._config.optimizer,
            self._steps,
            epochs=self._config.training.epochs,
            steps_per_epoch=self._steps_per_epoch,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16)

    def _images(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        return images.to(memory_format=torch.channels_last) if self._channels_last else images

    def _target(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        # A sampler reads the seed on the CPU, where it need not wait for the device.
        return {
            key: value if key == "seed" else value.to(self.device, non_blocking=True) for key, value in target.items()
        }


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
