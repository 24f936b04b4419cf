"""How a detector is measured."""

from dataclasses import dataclass
from typing import Literal

from satdet._fields import Checked, bounded


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Checked):
    """The evaluation after an epoch."""

    split: Literal["train", "validation", "test"] = "validation"
    batch_size: int = bounded(8, minimum=1)
    every: int = bounded(1, minimum=1)
    """Evaluate after every so many epochs, and always after the last."""
