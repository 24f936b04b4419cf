"""How a detector is trained: the optimizer, its schedule and the loop."""

from dataclasses import dataclass
from typing import Literal

from satdet._fields import Checked, bounded


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Checked):
    """The optimizer and its learning-rate schedule, counted in optimizer steps."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = bounded(1e-3, above=0)
    weight_decay: float = bounded(1e-6, minimum=0)
    momentum: float = bounded(0.9, minimum=0, maximum=1)
    """Of SGD alone."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    step_epochs: int = bounded(20, minimum=1)
    """The step schedule multiplies the rate by `step_factor` after every so many epochs."""
    step_factor: float = bounded(0.1, above=0, maximum=1)
    warmup_steps: int = bounded(0, minimum=0)
    """Steps of linear warm-up from 0 to the learning rate."""
    max_gradient_norm: float | None = bounded(None, above=0)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Checked):
    """The training loop."""

    epochs: int = bounded(200, minimum=1)
    batch_size: int = bounded(2, minimum=1)
    """Tiles an optimizer step, over all workers of the trial."""
    micro_batch_size: int | None = bounded(None, minimum=1)
    """Tiles a forward pass; None: the whole batch. Gradients of a batch's passes are accumulated, weighted by tiles, so
    that a batch too large for the memory is still a fair trial. Trainable batch norm sees one pass at a time."""
    on_out_of_memory: Literal["fail", "halve_micro_batch"] = "fail"
    """What an epoch does that the device's memory does not suffice for: end the trial, or begin again with passes of
    half as many tiles, which leaves the batch as it is. A reduced size is kept for the rest of the trial."""
    ema_decay: float | None = bounded(None, above=0, maximum=0.99999)
    """Decay a step of an exponential moving average of the weights, which is then what is evaluated and exported; free
    of the bias to where it begins."""
    tiles_per_epoch: int | None = bounded(None, minimum=1)
    """Random training tiles of an epoch; None: all of them."""
    empty_tiles: bool = False
    """Train on tiles without objects too."""
    patience: int | None = bounded(10, minimum=0)
    """Epochs without improvement before early stopping; None: never stop early. 0, which the report has, does as 1: it
    stops at the first epoch without improvement."""
    min_improvement: float = bounded(1e-4, minimum=0)
    sync_batch_norm: bool = True
    """With several workers a trial: batch norm has the statistics of the whole batch, as with one. False: each worker
    normalises by its own share, which is faster and depends on their number."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast where the device computes it natively, else float32."""
    channels_last: bool = True
    loader_workers: int = bounded(0, minimum=0, maximum=64)
    """Processes that load tiles; 0: the training process itself."""
