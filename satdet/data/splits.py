"""Which frames train, validate and test. Whole groups of frames are split: what one frame sees, its tiles share.

A frame's side never changes, whatever is added later: else a model would be tested on what it was trained on. Where a
group goes follows from a hash of the seed and the group's name, cut at the shares, and a hash does not know of other
frames. By itself it would leave a small survey with an empty or much too large split; so new groups are moved until
every split has at least one of them and is within a half of its share. Therefore sides are recorded: those that earlier
stores of the same source, seed, grouping and shares have given are kept (`satdet.data.earlier`), and only new ones are
dealt. Where every earlier store was deleted, only groups that had been moved can change sides, which surveys of
some hundred groups do without.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from satdet.config import TilesConfig
from satdet.data.footprints import footprint, overlapping
from satdet.data.store import SplitName

Record = Mapping[str, SplitName]
"""Sides of frames by their keys."""

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_FEWEST_FOR_ALL = 3
_NO_SHARE = 1e-9
_NIGHT_IN_NAME = re.compile(r"(?<!\d)(24\d{5})(?!\d)")


@dataclass(frozen=True)
class SplitFrame:
    """What decides where a frame goes.

    Attributes
    ----------
    key : str
        The frame's path without its ending; it does not depend on where the data lie.
    julian_date : float or None
        Of the exposure.
    cards : mapping
        The header's cards that place the frame on the sky.
    shape : (int, int)
        Height and width [px].
    """

    key: str
    julian_date: float | None = None
    cards: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)

    @property
    def night(self) -> int | None:
        """Julian day, which lasts from noon to noon (UT), of the header or else the name; None if neither has one."""
        if self.julian_date is not None:
            return math.floor(self.julian_date)
        named = _NIGHT_IN_NAME.search(self.key)
        return int(named[1]) if named else None


@dataclass(frozen=True)
class Sides:
    """The outcome.

    Attributes
    ----------
    splits : dict
        Side by position of the frame.
    bridging : dict
        By position of frames that have none since they belong with frames of two sides: the key of one frame of each.
    unknown : list of str
        Keys of frames whose night or field is not known.
    record : dict
        What the next call is to be given as its record.
    """

    splits: dict[int, SplitName]
    bridging: dict[int, tuple[str, str]]
    unknown: list[str]
    record: dict[str, SplitName]


def split_frames(frames: Sequence[SplitFrame], config: TilesConfig, record: Record | None = None) -> Sides:
    """Deal frames to the splits, by frame, by night, or by field as the configuration says.

    Of frames without a date or without a place on the sky, nothing is known: they all count as one night or field.

    Parameters
    ----------
    frames : sequence of SplitFrame
    config : TilesConfig
        Group, shares and seed.
    record : mapping, optional
        Of an earlier call; its frames keep their sides.
    """
    links, unknown = _links(frames, config)
    sides = [(record or {}).get(frame.key) for frame in frames]
    bridging: dict[int, tuple[str, str]] = {}
    new: dict[str, list[int]] = {}
    for members in _components(sides, links):
        related = {sides[other]: other for place in members for other in links[place] if sides[other] is not None}
        if len(related) > 1:
            one, other = sorted(frames[place].key for place in related.values())[:2]
            bridging |= dict.fromkeys(members, (one, other))
        elif related:
            for place in members:
                sides[place] = next(iter(related))
        else:
            new[_group_name([frames[place] for place in members], config)] = members
    for name, split in _Deal({name: len(new[name]) for name in new}, sides, config).sides().items():
        for place in new[name]:
            sides[place] = split
    splits = {place: side for place, side in enumerate(sides) if side is not None}
    return Sides(
        splits, bridging, unknown, {**(record or {}), **{frames[place].key: side for place, side in splits.items()}}
    )


def _links(frames: Sequence[SplitFrame], config: TilesConfig) -> tuple[Sequence[Sequence[int]], list[str]]:
    """For every frame, the positions of frames that must be on its side; and the frames of which that is not known."""
    if config.group == "field":
        footprints = [footprint(frame.cards, frame.shape) for frame in frames]
        nowhere = [frame.key for frame, corners in zip(frames, footprints, strict=True) if corners is None]
        return overlapping(footprints), nowhere
    if config.group == "night":
        nights: dict[int | None, list[int]] = {}
        for place, frame in enumerate(frames):
            nights.setdefault(frame.night, []).append(place)
        return [nights[frame.night] for frame in frames], [frames[place].key for place in nights.get(None, ())]
    return [()] * len(frames), []


def _components(sides: Sequence[SplitName | None], links: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Frames without a side that are linked with each other, directly or over others without a side."""
    waiting = {place for place, side in enumerate(sides) if side is None}
    for first in range(len(sides)):
        if first not in waiting:
            continue
        waiting.remove(first)
        members, border = [first], [first]
        while border:
            found = waiting.intersection(links[border.pop()])
            waiting -= found
            members += sorted(found)
            border += sorted(found)
        yield members


def _group_name(members: Sequence[SplitFrame], config: TilesConfig) -> str:
    """What is hashed: the night, or the group's first exposure, which later exposures leave as it is."""
    if config.group == "night":
        return f"night {members[0].night}"
    first = min(members, key=lambda frame: (frame.julian_date is None, frame.julian_date, frame.key))
    return first.key


class _Deal:
    """Sides for new groups beside frames that have theirs."""

    def __init__(self, groups: Mapping[str, int], known: Sequence[SplitName | None], config: TilesConfig) -> None:
        rest = 1 - config.train_share - config.validation_share
        shares = config.train_share, config.validation_share, rest if rest > _NO_SHARE else 0.0
        self._ends = dict(zip(_SPLITS, np.cumsum(shares).tolist(), strict=True))
        self._starts = {split: end - share for (split, end), share in zip(self._ends.items(), shares, strict=True)}
        self._groups = groups
        self._places = {name: _hashed(f"{config.split_seed}:{name}") for name in groups}
        self._sides = {name: self._side_at(place) for name, place in self._places.items()}
        self._movable = set(groups)
        held = [side for side in known if side is not None]
        self._counts = {split: held.count(split) for split in _SPLITS}
        for name, side in self._sides.items():
            self._counts[side] += groups[name]
        total = len(held) + sum(groups.values())
        self._targets = {split: share * total for split, share in zip(_SPLITS, shares, strict=True)}
        for_all = len(groups) + len(set(held)) >= _FEWEST_FOR_ALL
        self._least = {split: self._fewest(split, for_all) for split in _SPLITS}

    def sides(self) -> dict[str, SplitName]:
        """The side of every group: where its hash falls, but for the moves that a small survey needs."""
        while move := self._next_move():
            name, receiver = move
            self._counts[self._sides[name]] -= self._groups[name]
            self._counts[receiver] += self._groups[name]
            self._sides[name] = receiver
            self._movable.remove(name)
        return self._sides

    def _side_at(self, place: float) -> SplitName:
        return next((split for split in _SPLITS if place < self._ends[split]), _SPLITS[0])

    def _fewest(self, split: SplitName, for_all: bool) -> int:
        if self._targets[split] == 0 or not (for_all or split == _SPLITS[0]):
            return 0
        return max(1, int(self._targets[split] / 2))

    def _next_move(self) -> tuple[str, SplitName] | None:
        """A group to move and its new split, from one that has too many frames or to one that has too few."""
        fill = {split: self._counts[split] / target for split, target in self._targets.items() if target > 0}
        few = [split for split in fill if self._counts[split] < self._least[split]]
        many = [split for split in fill if self._counts[split] > 1.5 * self._targets[split] + 1]
        if not few and not many:
            return None
        receiver = min(few or [split for split in fill if split not in many], key=fill.__getitem__)
        for giver in sorted(fill if few else many, key=fill.__getitem__, reverse=True):
            spare = self._counts[giver] - self._least[giver]
            names = [name for name in self._movable if self._sides[name] == giver and self._groups[name] <= spare]
            if giver != receiver and names:
                return min(names, key=lambda name: (self._distance(name, receiver), name)), receiver
        return None

    def _distance(self, name: str, split: SplitName) -> float:
        """How far the hash of a group is from those of a split: the nearest moves, as it would with other shares."""
        place = self._places[name]
        distance: float = max(self._starts[split] - place, place - self._ends[split])
        return distance


def _hashed(text: str) -> float:
    """A number from 0 to 1, evenly spread over texts and the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
