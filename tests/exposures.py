"""Exposures of simulated fields whose stars never move, and ways to process one again."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from satdet.simulate.camera import expose
from satdet.simulate.conditions import draw_conditions
from satdet.simulate.scene import draw_scene

Counts = npt.NDArray[np.float32]


def expose_field(field: int, number: int, size: int, *, sky_factor: float = 1.0) -> Counts:
    """Counts (size, size) of exposure `number` of a field, under a sky so many times as bright."""
    sky = draw_conditions(7, field, size)
    sky = replace(sky, sky=sky_factor * sky.sky)
    scene = np.zeros((size, size), dtype=np.float32)
    draw_scene(scene, sky, np.random.default_rng([field, 1]))
    return expose(scene, sky, np.random.default_rng([field, number, 2])).astype(np.float32)


def _without_gradient(counts: Counts) -> Counts:
    slope = np.linspace(0, 200, len(counts))
    return counts - slope[None, :] + (slope[:, None] / 20) ** 2


def _with_flat(counts: Counts, spread: float) -> Counts:
    return counts * (1 + spread * np.random.default_rng(3).normal(size=counts.shape))


def _compressed(counts: Counts) -> Counts:
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts)]).writeto(buffer)
    with fits.open(io.BytesIO(buffer.getvalue())) as hdus:
        pixels: Counts = hdus[1].data
        return pixels


def _mixed(counts: Counts, share: float) -> Counts:
    """Moved along both axes by so much of a pixel, by linear interpolation."""
    across = (1 - share) * counts + share * np.roll(counts, 1, axis=1)
    return (1 - share) * across + share * np.roll(across, 1, axis=0)


PROCESSINGS: dict[str, Callable[[Counts], Counts]] = {
    "rescaled": lambda counts: 1.7 * counts + 300,
    "rounded to half the counts": lambda counts: np.round(counts / 2),
    "another background": _without_gradient,
    "lossy compression": _compressed,
    "another flat field, 1 %": lambda counts: _with_flat(counts, 0.01),
    "moved by 0.2 px both ways": lambda counts: _mixed(counts, 0.2),
    "moved by 0.5 px both ways": lambda counts: _mixed(counts, 0.5),
}
