"""When a device's memory does not suffice: smaller passes through the network, or an error that says so."""

import gc
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from satdet.config import TrialConfig
from satdet.errors import TrainingError
from satdet.training.remarks import Remarks

logger = logging.getLogger(__name__)

Detections = list[dict[str, Tensor]]


def free_memory() -> None:
    """Hand back to a GPU what no tensor holds any more; a CPU's memory goes back by itself."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def halved(size: int, config: TrialConfig, error: torch.OutOfMemoryError) -> int:
    """Half of the `size` tiles of the pass that ran out of memory.

    Raises
    ------
    TrainingError
        If ``training.on_out_of_memory`` does not allow it, or it was a single tile.
    """
    reason = " ".join(str(error).split()).partition(" GPU ")[0].rstrip(".")[:200]
    if config.training.on_out_of_memory != "halve_micro_batch":
        raise TrainingError(
            f"{reason} in a pass of {size} tiles; set training.on_out_of_memory = halve_micro_batch, or a smaller "
            "training.micro_batch_size or evaluation.batch_size"
        ) from None
    if size <= 1:
        raise TrainingError(
            f"{reason} in a pass of a single tile; use smaller tiles, a smaller detector or a device with more memory"
        ) from None
    logger.warning("%s in a pass of %d tiles; going on with %d", reason, size, size // 2)
    return size // 2


class SmallerPasses(Exception):
    """The memory of one of a trial's workers does not suffice for so many tiles a pass; fewer may do.

    The others wait for that worker, so that all have to begin again from the last checkpoint.

    Parameters
    ----------
    size, smaller : int
        Tiles a pass that were too many, and to be tried next.
    """

    def __init__(self, size: int, smaller: int) -> None:
        super().__init__(size, smaller)
        self.size = size
        self.smaller = smaller


class PartwiseDetection:
    """Detection in as many parts as the memory asks for; in how many is kept for the batches that follow.

    Parameters
    ----------
    config : TrialConfig
    remarks : Remarks
        Told when parts become smaller.
    """

    def __init__(self, config: TrialConfig, remarks: Remarks) -> None:
        self._config = config
        self._remarks = remarks
        self._size = config.evaluation.batch_size

    def detect(self, detector: Callable[[Tensor], Detections], images: Tensor) -> Detections:
        """What `detector` finds in each of the tiles `images` (B, 1, H, W).

        Raises
        ------
        TrainingError
            If the memory does not suffice and may not be, or cannot be, made to do.
        """
        while True:
            try:
                return [found for part in torch.split(images, self._size) for found in detector(part)]
            except torch.OutOfMemoryError as error:
                size = min(self._size, len(images))
                self._size = halved(size, self._config, error)
            self._remarks.add(f"CUDA out of memory: evaluation batch {size} -> {self._size}")
            free_memory()
