"""What makes a trial this trial and no other, so that it goes on only from its own files."""

from pathlib import Path
from typing import Any

from satdet.config import TrialConfig, flatten
from satdet.data.store import TileStore
from satdet.errors import CheckpointError

CHANGEABLE = frozenset(
    {"training.epochs", "training.patience", "training.loader_workers", "training.on_out_of_memory",
     "evaluation.batch_size"}
)  # fmt: skip
"""Paths in which a resumed trial may differ from its checkpoint: how long it runs, what it does without enough memory,
and what leaves its course alone.

With the cosine schedule, another number of epochs changes the learning rate of every epoch still to come.
"""


def trial_identity(config: TrialConfig, store: TileStore, seed: int) -> dict[str, Any]:
    """What makes a trial this trial, as plain values: configuration by path, digest of the store, seed."""
    return {"config": flatten(config), "store": store.digest, "seed": seed}


def check_identity(path: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare the identity `saved` in a file with that of the trial.

    Raises
    ------
    CheckpointError
        Naming what differs.
    """
    pairs = [("seed", saved["seed"], wanted["seed"]), ("tile store", saved["store"], wanted["store"])]
    keys = [key for key in saved["config"] | wanted["config"] if key not in CHANGEABLE]
    pairs[:0] = [(key, saved["config"].get(key), wanted["config"].get(key)) for key in keys]
    for key, old, new in pairs:
        if old != new:
            raise CheckpointError(f"{path}: made with {key} = {old!r}, this trial has {new!r}; use another directory")
