"""Tiles for a checkpoint: only those that were made by its own data rule."""

from pathlib import Path
from typing import Literal

import numpy as np

from satdet.config import flatten
from satdet.data.ingest import Progress, prepare, store_path
from satdet.data.loading import TileDataset
from satdet.data.store import SplitName, TileSplit, TileStore
from satdet.errors import TileStoreError
from satdet.training.export import Model

_SPLIT_RULE = ("train_share", "validation_share", "split_seed", "group")


def evaluation_tiles(
    model: Model, store: TileStore, split: SplitName | Literal["all"], *, any_tile_size: bool = False
) -> TileDataset:
    """The tiles of a split as the model's input, by its own normalisation.

    Parameters
    ----------
    model : Model
    store : TileStore
    split : {"train", "validation", "test", "all"}
    any_tile_size : bool
        Allow tiles of another size than the detector was trained on.

    Raises
    ------
    TileStoreError
        If the store was made by another box rule or with another tile size, or has no tile in the split.
    """
    wanted, made = flatten(model.config.tiles), store.manifest["config"]
    ruled = [key for key in wanted if key.startswith("box.") or (key == "size" and not any_tile_size)]
    for key in ruled:
        if key in made and made[key] != wanted[key]:
            hint = ", or allow it with --any-tile-size" if key == "size" else ""
            raise TileStoreError(
                f"{store.path}: made with tiles.{key} = {made[key]!r}, but {model.path} was trained with "
                f"{wanted[key]!r}; prepare tiles by its rule (--data DIR does){hint}"
            )
    chosen = TileSplit(store, np.arange(store.manifest["tiles"])) if split == "all" else store.split(split)
    if len(chosen) == 0:
        raise TileStoreError(
            f"{store.path}: no tile in the {split} split; choose another, or all of them (--split all)"
        )
    return TileDataset(chosen, model.config.input)


def leak_warning(model: Model, store: TileStore) -> str | None:
    """Why a split of `store` may hold frames that the model was trained on; None if it cannot be so."""
    wanted, made = flatten(model.config.tiles), store.manifest["config"]
    if store.digest == model.store:
        return None
    for key in _SPLIT_RULE:
        if key in made and made[key] != wanted[key]:
            return (
                f"{store.path} was split with tiles.{key} = {made[key]!r}, the model's tiles with {wanted[key]!r}: if "
                "the frames are the same, it may have been trained on some of these"
            )
    return None


def prepare_tiles(model: Model, source: Path, data_dir: Path, progress: Progress | None = None) -> TileStore:
    """The tiles of the frames in folder `source`, made under `data_dir` by the model's own data rule.

    Raises
    ------
    DataError
        If no frame there can be used.
    StorageError
        If `data_dir` cannot be written.
    """
    config = model.config.tiles
    return prepare(source, config, store_path(data_dir, source, config), progress=progress)
