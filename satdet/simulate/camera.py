"""What the camera and the sky's glow make of a scene: background, noise, saturation and counts."""

import numpy as np
import numpy.typing as npt

from satdet.simulate.conditions import Conditions
from satdet.simulate.scene import Image

_COSMIC_RAYS_A_SECOND = 0.025
"""In 1024 x 1024 px."""
_BLEED_REACH = 400
"""Rows that an overflowing pixel's charge can travel, either way."""


def expose(scene: Image, sky: Conditions, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    """Counts (size, size), in the frame's number type, of a `scene` of expected counts above the sky."""
    image = scene + np.float32(sky.sky)
    _add_background(image, sky, rng)
    _add_noise(image, sky, rng)
    _add_cosmic_rays(image, sky, rng)
    _bleed(image, sky.full_well)
    _add_amplifier_zones(image, sky, rng)
    return _digitise(image, sky)


def _add_background(image: Image, sky: Conditions, rng: np.random.Generator) -> None:
    """Gradient, stray light and fringes, strong where the label says so and weak elsewhere."""
    steepness = rng.uniform(40, 150) if "GRADIENT" in sky.labels else rng.uniform(0, 3)
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, sky.size, dtype=np.float32)
    across, along = steepness * sky.noise * np.array([np.cos(direction), np.sin(direction)], dtype=np.float32)
    image += across * (ramp + ramp**2) + (along * (ramp + ramp**2))[:, None]
    if "LIGHT" in sky.labels:
        image += _stray_light(sky, rng)
    if "FRINGES" in sky.labels:
        image += _fringes(rng.uniform(3, 8) * sky.noise, sky, rng)
    elif rng.random() < 0.2:
        image += _fringes(rng.uniform(0.1, 0.5) * sky.noise, sky, rng)
    np.maximum(image, 0, out=image)


def _stray_light(sky: Conditions, rng: np.random.Generator) -> Image:
    """The glow of a lamp or the Moon near an edge, and one ring-shaped ghost."""
    rows, columns = np.ogrid[: sky.size, : sky.size]
    x, y = rng.uniform(0, sky.size), rng.choice([-0.1, 1.1]) * sky.size
    glow = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (rng.uniform(0.25, 0.45) * sky.size) ** 2))
    x, y = rng.uniform(0.2, 0.8, 2) * sky.size
    ring = np.exp(-((np.hypot(columns - x, rows - y) / sky.size - rng.uniform(0.06, 0.12)) ** 2) / (2 * 0.008**2))
    light: Image = (sky.noise * (rng.uniform(60, 250) * glow + rng.uniform(4, 12) * ring)).astype(np.float32)
    return light


def _fringes(amplitude: float, sky: Conditions, rng: np.random.Generator) -> Image:
    """Interference in the thinned chip: waves along a slowly warped direction."""
    direction, period = rng.uniform(0, np.pi), rng.uniform(25, 70)
    rows, columns = np.ogrid[: sky.size, : sky.size]
    warp = rng.uniform(1, 4) * np.sin(2 * np.pi * columns / (0.7 * sky.size) + rng.uniform(0, 6))
    phase = (columns * (2 * np.pi * np.cos(direction) / period) + warp).astype(np.float32)
    phase = phase + (rows * (2 * np.pi * np.sin(direction) / period)).astype(np.float32)
    waves: Image = np.float32(amplitude) * np.sin(phase)
    return waves


def _add_noise(image: Image, sky: Conditions, rng: np.random.Generator) -> None:
    """Photon noise, as a Gaussian of the same variance, and read noise."""
    variance = image / np.float32(sky.gain) + np.float32((sky.read_noise / sky.gain) ** 2)
    image += np.sqrt(variance) * rng.standard_normal(image.shape, dtype=np.float32)


def _add_cosmic_rays(image: Image, sky: Conditions, rng: np.random.Generator) -> None:
    """Straight tracks one pixel wide, most of them a few pixels long."""
    count = rng.poisson(_COSMIC_RAYS_A_SECOND * sky.exposure * sky.size**2 / 1024**2)
    length = 1 + rng.geometric(0.4, count)
    step = np.arange(max(length, default=0))
    angle = rng.uniform(0, 2 * np.pi, count)[:, None]
    x, y = rng.uniform(0, sky.size, (2, count, 1))
    columns = np.rint(x + step * np.cos(angle)).astype(int)
    rows = np.rint(y + step * np.sin(angle)).astype(int)
    hit = (step < length[:, None]) & (columns >= 0) & (columns < sky.size) & (rows >= 0) & (rows < sky.size)
    charge = np.exp(rng.uniform(np.log(300), np.log(6000), hit.shape)) / sky.gain
    np.add.at(image, (rows[hit], columns[hit]), charge[hit].astype(np.float32))


def _bleed(image: Image, full_well: float) -> None:
    """Cut every pixel at the full well; what is above it spills up and down its column."""
    for column in np.flatnonzero((image > full_well).any(axis=0)):
        values = image[:, column]
        above = np.flatnonzero(values > full_well)
        for run in np.split(above, np.flatnonzero(np.diff(above) > 1) + 1):
            spill = float((values[run] - full_well).sum())
            values[run] = full_well
            _pour(values[run[-1] + 1 : run[-1] + 1 + _BLEED_REACH], spill / 2, full_well)
            _pour(values[max(run[0] - _BLEED_REACH, 0) : run[0]][::-1], spill / 2, full_well)


def _pour(values: Image, charge: float, full_well: float) -> None:
    """Fill `values`, a view, from its start up to the full well until `charge` is used up."""
    room = np.maximum(full_well - values, 0)
    before = np.cumsum(room) - room
    values += np.clip(charge - before, 0, room)


def _add_amplifier_zones(image: Image, sky: Conditions, rng: np.random.Generator) -> None:
    """Quadrants, each read by its own amplifier, keep a bias of their own."""
    strength = rng.uniform(8, 40) if "AMPLIFIER" in sky.labels else rng.uniform(0, 0.05)
    offsets = (strength * sky.noise * rng.uniform(-1, 1, (2, 2))).astype(np.float32)
    side = np.arange(sky.size) * 2 // sky.size
    image += offsets[side][:, side]


def _digitise(image: Image, sky: Conditions) -> npt.NDArray[np.generic]:
    if sky.counts == "float32":
        return image
    limits = np.iinfo(sky.counts)
    return np.clip(np.rint(image), limits.min, limits.max).astype(sky.counts)
