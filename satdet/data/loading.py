"""From a tile store to the batches that the detector trains on and is evaluated on.

Everything random follows from (seed, epoch, tile), never from the process that loads a tile or from the order in which
tiles are asked for: any number of loader workers gives the same batches.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from satdet._seeds import derived_seed
from satdet.config import AugmentationConfig, EvaluationConfig, InputConfig, TrainingConfig
from satdet.data.augmentation import Augmentation, Sample
from satdet.data.normalisation import FrameScale, normalise, to_signal
from satdet.data.store import TileSplit
from satdet.errors import ConfigError, TileStoreError

Target = dict[str, Tensor]
"""``boxes`` (n, 4) float32, ``labels`` (n,) int64, all 1, and ``ignored`` (m, 4) float32; px, edge coordinates.

In training also ``seed`` () int64, of all else that is random about the tile in this epoch. In evaluation also
``magnitudes`` (n,) [mag] and ``pixel_scale`` () [deg/px], float32 and NaN where unknown.
"""
Batch = tuple[Tensor, list[Target]]

_ORDER, _AUGMENTATION, _SAMPLING = 0, 1, 2


@dataclass(frozen=True)
class Share:
    """One worker's part of every batch: that of the `rank`-th (from 0) of `count` workers."""

    rank: int = 0
    count: int = 1

    def of(self, length: int) -> slice:
        """Its part of `length` things: the parts follow each other, none is larger than another by more than one."""
        return slice(self.rank * length // self.count, (self.rank + 1) * length // self.count)


WHOLE = Share()


class TileDataset(Dataset[tuple[Tensor, Target]]):
    """The tiles of a split as tensors.

    Parameters
    ----------
    split : TileSplit
    config : InputConfig
    augmentation : AugmentationConfig, optional
        For training; without it, as in evaluation, tiles are as they are.
    seed : int
        Seed of the augmentation and of the order of tiles.
    """

    def __init__(
        self, split: TileSplit, config: InputConfig, augmentation: AugmentationConfig | None = None, *, seed: int = 0
    ) -> None:
        self.split = split
        self.seed = seed
        self.epoch = 0
        self._normalisation = config.normalisation
        self._augmentation = _augmentation(split, augmentation) if augmentation else None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation and order follow."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int) -> tuple[Tensor, Target]:
        """Image (1, H, W) float32 and target of the tile at `position` in the split."""
        entry = self.split.frame(position)
        pixels = to_signal(self.split.image(position))
        sample = Sample(pixels, self.split.boxes(position), self.split.ignored(position))
        extra = {}
        if self._augmentation is not None:
            tile = int(self.split.indices[position])
            sample = self._augmentation(sample, seed=derived_seed(self.seed, _AUGMENTATION, self.epoch, tile))
            extra["seed"] = torch.tensor(derived_seed(self.seed, _SAMPLING, self.epoch, tile))
        else:
            extra["magnitudes"] = torch.from_numpy(self.split.magnitudes(position))
            extra["pixel_scale"] = torch.tensor(entry.get("pixel_scale", math.nan), dtype=torch.float32)
        target = {
            "boxes": torch.from_numpy(sample.boxes),
            "labels": torch.ones(len(sample.boxes), dtype=torch.int64),
            "ignored": torch.from_numpy(sample.ignored),
        }
        scale = FrameScale.of(entry) if "zscale" in entry else None
        return torch.from_numpy(normalise(sample.pixels, self._normalisation, scale))[None], target | extra

    def order(self, limit: int | None = None) -> list[int]:
        """Positions in the random order of the epoch, only the first `limit` of them if that is given."""
        shuffle = np.random.default_rng(derived_seed(self.seed, _ORDER, self.epoch))
        positions: list[int] = shuffle.permutation(len(self))[:limit].tolist()
        return positions


def _augmentation(split: TileSplit, config: AugmentationConfig) -> Augmentation:
    size = split.store.tile_size
    if config.crop is not None and config.crop > size:
        raise ConfigError(f"augmentation.crop = {config.crop} px is larger than the tiles of {size} px")
    return Augmentation(config, float(split.store.manifest["config"].get("box.min_visible", 1.0)))


class EpochBatches(Sampler[list[int]]):
    """A share of each batch of the epoch that a data set is set to when an iteration begins.

    All batches have one size: the last is dropped when it is not full, unless it is the only one
    (``tiles_per_epoch`` below the batch size).

    Parameters
    ----------
    tiles : TileDataset
    config : TrainingConfig
    share : Share

    Attributes
    ----------
    size : int
        Tiles of a batch, all shares together.
    largest : int
        Tiles of this share of it.

    Raises
    ------
    ConfigError
        If a batch has fewer tiles than there are shares.
    """

    def __init__(self, tiles: TileDataset, config: TrainingConfig, share: Share) -> None:
        self._tiles = tiles
        self._limit = config.tiles_per_epoch
        self._share = share
        epoch = len(tiles) if self._limit is None else min(self._limit, len(tiles))
        self.size = min(config.batch_size, epoch)
        self._count = epoch // self.size
        if self.size < share.count:
            raise ConfigError(f"a batch of {self.size} tiles cannot be divided between {share.count} workers")
        own = share.of(self.size)
        self.largest = own.stop - own.start

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        order, own = self._tiles.order(self._limit), self._share.of(self.size)
        for first in range(0, self._count * self.size, self.size):
            yield order[first : first + self.size][own]


def training_loader(
    tiles: TileDataset, config: TrainingConfig, *, share: Share = WHOLE, pin_memory: bool = False
) -> DataLoader[Any]:
    """Batches of training: each pass over the loader is the epoch that `tiles` is set to, in its random order.

    Parameters
    ----------
    tiles : TileDataset
    config : TrainingConfig
    share : Share
        What is loaded of each batch.
    pin_memory : bool
        For a CUDA device.

    Returns
    -------
    DataLoader
        Yields images (B, 1, H, W) float32 and a list of B targets; its ``batch_sampler`` is an `EpochBatches`.

    Raises
    ------
    TileStoreError
        If there is no tile to train on.
    ConfigError
        If a batch is larger than all the tiles, or has fewer tiles than there are shares.
    """
    if len(tiles) == 0:
        kind = "tile" if config.empty_tiles else "tile with an object (training.empty_tiles = false)"
        raise TileStoreError(f"{tiles.split.store.path}: no {kind} in the train split; prepare more frames")
    if len(tiles) < config.batch_size:
        raise ConfigError(
            f"training.batch_size = {config.batch_size} is larger than the {len(tiles)} training tiles of "
            f"{tiles.split.store.path}; use a smaller batch or more frames"
        )
    batches = EpochBatches(tiles, config, share)
    return _loader(tiles, batches, workers=config.loader_workers, pin_memory=pin_memory)


def evaluation_loader(
    tiles: TileDataset, config: EvaluationConfig, *, share: Share = WHOLE, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Any]:
    """Batches of every tile of an evaluation, in the order of the store; the last may be smaller.

    A share has whole batches, those that follow the ones of the share before it: together the shares are the whole, in
    its order.

    Raises
    ------
    TileStoreError
        If there is no tile to evaluate on.
    """
    if len(tiles) == 0:
        raise TileStoreError(
            f"{tiles.split.store.path}: no tile in the {config.split} split; prepare more frames or give it a larger "
            "share (tiles.train_share, tiles.validation_share)"
        )
    positions = list(range(len(tiles)))
    batches = [positions[first : first + config.batch_size] for first in range(0, len(tiles), config.batch_size)]
    return _loader(tiles, batches[share.of(len(batches))], workers=workers, pin_memory=pin_memory)


def _loader(tiles: TileDataset, batches: Iterable[list[int]], *, workers: int, pin_memory: bool) -> DataLoader[Any]:
    return DataLoader(
        tiles,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # a forked worker shares the mapped store, epoch included
        pin_memory=pin_memory,
        collate_fn=collate,
        generator=torch.Generator(),  # its own: a loader must not draw from the stream that training samples from
    )


def collate(samples: Sequence[tuple[Tensor, Target]]) -> Batch:
    """Images (B, 1, H, W) and the list of their targets."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)
