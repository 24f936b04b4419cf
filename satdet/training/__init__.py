"""Training of a detector: a generator of epoch reports that stops, resumes and repeats to the bit.

`loop` reads top to bottom; `learner` takes the steps, `optimizer` builds their rule, `progress` decides what is best
and when to stop, `evaluation` measures, `checkpoint` and `files` keep it all on disk, `export` hands it to prediction.
`patience` waits for a storage, `memory` makes do with less of a device's, and `remarks` tells people of both. `workers`
lets several processes train one trial together, of which `led` gives one the files.
"""

from satdet.training.callbacks import (
    BatchProgress,
    Callback,
    Divergence,
    EpochReport,
    SpeedGuard,
    StopAfter,
    StopTraining,
)
from satdet.training.export import export_model, load_model
from satdet.training.hardware import hardware_name
from satdet.training.loop import train
from satdet.training.memory import SmallerPasses
from satdet.training.retention import checkpoint_bytes, prune_checkpoint, retire_checkpoints
from satdet.training.workers import ALONE, Meeting, Workers, meet

__all__ = [
    "ALONE", "BatchProgress", "Callback", "Divergence", "EpochReport", "Meeting", "SmallerPasses", "SpeedGuard",
    "StopAfter", "StopTraining", "Workers", "checkpoint_bytes", "export_model", "hardware_name", "load_model", "meet",
    "prune_checkpoint", "retire_checkpoints", "train",
]  # fmt: skip
