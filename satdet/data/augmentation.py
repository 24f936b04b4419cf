"""Random changes of training tiles: symmetries, zoom and cuts by albumentations, and noise as photons make it.

Pixels are in noise units, so the noise of an empty pixel has a standard deviation of 1, before and after every change:
what a change does to the noise is undone by the scale of the pixels, and what is then missing of it is added.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from satdet.config import AugmentationConfig
from satdet.data.boxes import clip_to_tile

Pixels = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.float32]

_REMEMBERED_SIZES = 256


@dataclass(frozen=True)
class Sample:
    """One tile.

    Attributes
    ----------
    pixels : ndarray (H, W), float32
        Noise units.
    boxes, ignored : ndarray (n, 4), (m, 4), float32
        Objects and ignored regions [px, edge coordinates].
    """

    pixels: Pixels
    boxes: Boxes
    ignored: Boxes


Change = Callable[[Sample, np.random.Generator], Sample]


class Augmentation:
    """The changes that a configuration asks for, one after the other.

    albumentations takes seconds to import and by default asks the package index for a newer version of itself when it
    is imported; so it is imported only here, with that question turned off. Its transforms are called without
    `Compose`, which took three quarters of the time for checks, and clips or drops boxes by rules that are not ours.

    Parameters
    ----------
    config : AugmentationConfig
    min_visible : float
        A box of which a zoom or a cut leaves less than this share becomes an ignored region, as at a tile's edge.
    """

    def __init__(self, config: AugmentationConfig, min_visible: float) -> None:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        self._changes: list[Change] = []
        if config.orientation != "none":
            self._changes.append(_Orientation(config.orientation))
        if config.zoom is not None:
            self._changes.append(_Zoom(config.zoom, min_visible))
        if config.crop is not None:
            self._changes.append(_Crop(config.crop, min_visible))
        if config.noise is not None:
            self._changes.append(_Noise(config.noise))
        if config.sky is not None:
            self._changes.append(_Sky(config.sky))

    def __call__(self, sample: Sample, *, seed: int) -> Sample:
        """Change `sample`; the same seed makes the same changes."""
        rng = np.random.default_rng(seed)
        for change in self._changes:
            sample = change(sample, rng)
        return sample


def _seeded(transform: Any, rng: np.random.Generator) -> Any:
    transform.set_random_seed(int(rng.integers(2**31)))
    return transform


class _Orientation:
    """A random symmetry of the square; no box is lost, whatever reaches over the border."""

    def __init__(self, kind: str) -> None:
        import albumentations

        self._transform = {"rotations": albumentations.RandomRotate90, "dihedral": albumentations.D4}[kind](p=1.0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.pixels.shape
        scale = np.array([width, height, width, height], dtype=np.float64)
        boxes = np.concatenate([sample.boxes, sample.ignored]) / scale  # albumentations wants shares of the image
        moved = _seeded(self._transform, rng)(image=sample.pixels, bboxes=boxes)
        boxes = (moved["bboxes"] * scale).astype(np.float32)
        count = len(sample.boxes)
        return Sample(np.ascontiguousarray(moved["image"]), boxes[:count], boxes[count:])


class _Crop:
    """A random square that holds at least one object, if the tile does."""

    def __init__(self, size: int, min_visible: float) -> None:
        import albumentations

        self._size, self._min_visible = size, min_visible
        self._transform = albumentations.AtLeastOneBBoxRandomCrop(height=size, width=size, p=1.0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.pixels.shape
        objects = {"bboxes": sample.boxes / np.array([width, height, width, height], dtype=np.float64)}
        chosen = _seeded(self._transform, rng).get_params_dependent_on_data({"shape": (height, width)}, objects)
        x, y = (int(corner) for corner in chosen["crop_coords"][:2])
        pixels = np.ascontiguousarray(sample.pixels[y : y + self._size, x : x + self._size])
        return Sample(pixels, *clip_to_tile(sample.boxes, sample.ignored, (x, y), self._size, self._min_visible))


class _Zoom:
    """The same exposure in pixels that are smaller or larger by a factor, log-uniform between 1 / most and most.

    A pixel `factor` times as small receives 1 / factor^2 of the light with 1 / factor of the noise, so a signal in
    noise units fades by `factor`; larger pixels add light up in the same way. Interpolation smooths the noise, pixel
    by pixel to a known degree, and the rest is added. What lies beyond the frame of larger pixels is empty sky.
    """

    def __init__(self, most: float, min_visible: float) -> None:
        import albumentations
        import cv2

        self._log_most, self._min_visible = np.log(most), min_visible
        self._resizing, self._linear, self._area = albumentations.Resize, cv2.INTER_LINEAR, cv2.INTER_AREA
        self._noise_left = functools.lru_cache(_REMEMBERED_SIZES)(self._noise_left_uncached)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        size = len(sample.pixels)
        factor = float(np.exp(rng.uniform(-self._log_most, self._log_most)))
        if factor > 1:
            cut = _Crop(max(1, round(size / factor)), self._min_visible)(sample, rng)
            return self._resized(cut, size, rng)
        return self._on_empty_sky(self._resized(sample, max(1, round(size * factor)), rng), size, rng)

    def _resized(self, sample: Sample, size: int, rng: np.random.Generator) -> Sample:
        before = len(sample.pixels)
        factor = np.float32(size / before)
        pixels = self._resize(sample.pixels, size, size) / factor
        left = self._noise_left(before, size)
        missing = np.sqrt(np.clip(1 - np.outer(left, left), 0, None))
        pixels += missing * rng.standard_normal(pixels.shape, dtype=np.float32)
        return Sample(pixels, sample.boxes * factor, sample.ignored * factor)

    def _resize(self, pixels: Pixels, height: int, width: int) -> Pixels:
        method = self._linear if height > len(pixels) else self._area
        resized: Pixels = self._resizing(height, width, interpolation=method, p=1.0)(image=pixels)["image"]
        return resized

    def _noise_left_uncached(self, before: int, after: int) -> Pixels:
        """Variance of white noise of variance 1 along one axis after resizing and scaling to noise units, (after,)."""
        shares = self._resize(np.eye(before, dtype=np.float32), after, before)
        left: Pixels = (shares**2).sum(axis=1) * np.float32(before / after)
        return left

    def _on_empty_sky(self, sample: Sample, size: int, rng: np.random.Generator) -> Sample:
        inner = len(sample.pixels)
        x, y = rng.integers(size - inner, size=2, endpoint=True).tolist()
        pixels = rng.standard_normal((size, size), dtype=np.float32)
        pixels[y : y + inner, x : x + inner] = sample.pixels
        shift = np.array([x, y, x, y], dtype=np.float32)
        return Sample(pixels, sample.boxes + shift, sample.ignored + shift)


class _Noise:
    """A brighter sky, by which the noise grows up to a factor."""

    def __init__(self, most: float) -> None:
        self._most = most

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        factor = rng.uniform(1, self._most)
        noise = rng.standard_normal(sample.pixels.shape, dtype=np.float32)
        brighter: Pixels = (sample.pixels + np.sqrt(factor**2 - 1).astype(np.float32) * noise) / np.float32(factor)
        return replace(sample, pixels=brighter)


class _Sky:
    """A wrong background: a random level, and random slopes that change it by as much from the middle to an edge."""

    def __init__(self, sigma: float) -> None:
        self._sigma = sigma

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        level, down, across = rng.normal(0, self._sigma, 3)
        height, width = sample.pixels.shape
        rows, columns = np.linspace(-down, down, height), np.linspace(-across, across, width)
        plane = (level + rows[:, None] + columns[None, :]).astype(np.float32)
        return replace(sample, pixels=sample.pixels + plane)
