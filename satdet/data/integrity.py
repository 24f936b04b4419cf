"""Whether a tile store, or a copy of one, is what was written once.

The manifest holds a hash of the arrays, so the manifest's own hash stands for all of the store.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from satdet.errors import TileStoreError

FILES = ("manifest.json", "tiles.f16", "table.npy", "boxes.npy", "magnitudes.npy", "ignored.npy")
"""All that a store consists of, see `satdet.data.store`."""
_ARRAYS = ("table", "boxes", "magnitudes", "ignored")
"""In the order in which the writer hashes them, after the tiles."""


def check_content(path: Path, digest: str) -> None:
    """Read all of the store at `path` and compare it with its `TileStore.content_digest` as it was taken once.

    Raises
    ------
    TileStoreError
        If it is another store, damaged, or not whole.
    """
    try:
        text = (path / "manifest.json").read_bytes()
        if hashlib.sha256(text).hexdigest() != digest:
            raise TileStoreError(f"{path}: another store's manifest, or a damaged one")
        if _arrays_digest(path) != json.loads(text)["digest"]:
            raise TileStoreError(f"{path}: damaged tiles or boxes; remove the folder and prepare again")
    except FileNotFoundError as error:
        raise TileStoreError(f"{path}: incomplete store ({error.filename} is missing)") from None
    except (ValueError, EOFError) as error:
        raise TileStoreError(f"{path}: damaged boxes ({error}); remove the folder and prepare again") from None


def _arrays_digest(path: Path) -> str:
    """As `satdet.data.store.TileStoreWriter` makes it."""
    with (path / "tiles.f16").open("rb") as file:
        whole: Any = hashlib.file_digest(file, "sha256")
    for name in _ARRAYS:
        whole.update(np.load(path / f"{name}.npy", allow_pickle=False).tobytes())
    return str(whole.hexdigest())
