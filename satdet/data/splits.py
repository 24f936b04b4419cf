"""Which frames train, validate and test. Whole frames are split: tiles of one frame see the same stars and sky."""

import hashlib
from collections.abc import Collection

from satdet.config import TilesConfig
from satdet.data.store import SplitName

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_FEWEST_FOR_ALL = 3


def split_frames(names: Collection[str], config: TilesConfig) -> dict[str, SplitName]:
    """The split of every frame, from the frames' names and the seed alone.

    The shares are met as nearly as whole frames allow; with three frames or more, each split whose share is above 0 has
    at least one.

    Parameters
    ----------
    names : collection of str
        Different names, which do not depend on where the data lie.
    config : TilesConfig
        Shares and seed.
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{config.split_seed}:{name}".encode()).digest())
    splits: dict[str, SplitName] = {}
    start = 0
    for split, count in zip(_SPLITS, split_sizes(len(order), config), strict=True):
        for name in order[start : start + count]:
            splits[name] = split
        start += count
    return splits


def split_sizes(count: int, config: TilesConfig) -> tuple[int, int, int]:
    """How many of `count` frames train, validate and test (largest remainders)."""
    rest = max(1 - config.train_share - config.validation_share, 0.0)
    shares = [config.train_share, config.validation_share, rest if rest > 1e-9 else 0.0]
    exact = [share * count for share in shares]
    sizes = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(3), key=lambda place: sizes[place] - exact[place])
    for place in by_remainder[: count - sum(sizes)]:
        sizes[place] += 1
    if count >= _FEWEST_FOR_ALL:
        for place in range(3):
            if shares[place] > 0 and sizes[place] == 0:
                sizes[sizes.index(max(sizes))] -= 1
                sizes[place] = 1
    return sizes[0], sizes[1], sizes[2]
