"""The sky of one frame: sources as arrays, drawn as stamps into an image of expected counts.

Positions are 0-based pixel coordinates: (0, 0) is the centre of the first pixel.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from satdet.simulate.conditions import Conditions

Image = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

_SOURCES = 410.0
"""Sources above the limiting flux in a mean field of 1024 x 1024 px."""
_SLOPE = 0.72
"""N(> flux) goes with flux to the power of minus this. Uniform, transparent space: 1.5;
the Galaxy's disc at faint magnitudes: well below 1."""
_FAINTEST = 0.5
_BRIGHTEST = 3e4
_MARGIN = 24
_GALAXY_SHARE = 0.05
_PAIR_SHARE = 0.01
_HALF_SIZES = (8, 16, 32, 64, 128, 256)
_STAMP_PIXELS = 1 << 19


@dataclass(frozen=True)
class Stars:
    """Point sources: positions [px] and total fluxes [counts], each (n,)."""

    x: Values
    y: Values
    flux: Values

    def __add__(self, other: "Stars") -> "Stars":
        joined = (np.concatenate(pair) for pair in ((self.x, other.x), (self.y, other.y), (self.flux, other.flux)))
        return Stars(*joined)


def draw_scene(image: Image, sky: Conditions, rng: np.random.Generator) -> Stars:
    """Add all sources to `image` (size, size) and return the stars, which are the sub-pixel truth."""
    area = (sky.size + 2 * _MARGIN) ** 2 / 1024**2
    expected = _SOURCES * sky.richness * area * _FAINTEST**-_SLOPE
    stars = _draw_field(rng.poisson(expected * (1 - _GALAXY_SHARE)), sky, rng)
    stars += _companions(stars, _PAIR_SHARE, sky, rng)
    galaxies = rng.poisson(expected * _GALAXY_SHARE)
    if "BINARY" in sky.labels:
        stars += _companions(stars, 0.08, sky, rng)
    if "ESO" in sky.labels:
        stars += _blinding_stars(sky, rng)
    draw_stars(image, stars, sky)
    if "GALAXY" in sky.labels:
        galaxies += rng.poisson(0.08 * expected)
        size = sky.size * rng.uniform(0.015, 0.03)
        draw_galaxies(image, _draw_field(1, sky, rng, brightness=3000.0), np.array([size]), sky, rng)
    draw_galaxies(image, _draw_field(galaxies, sky, rng, brightness=1.5), rng.lognormal(0.4, 0.35, galaxies), sky, rng)
    if "COMET" in sky.labels:
        _draw_comet(image, sky, rng)
    for _ in range(int(rng.integers(1, 3)) if "TRACE" in sky.labels else 0):
        _draw_trail(image, sky, rng)
    return stars


def draw_stars(image: Image, stars: Stars, sky: Conditions) -> None:
    """Add Moffat profiles to `image`, each out to where it drops below a tenth of the noise."""
    core = sky.core_radius
    peak = stars.flux * (sky.beta - 1) / (np.pi * core**2)
    reach = core * np.sqrt(np.maximum((peak / (0.1 * sky.noise)) ** (1 / sky.beta) - 1, 0))
    for chosen, half in _batches(reach):
        column, row, dx, dy = _stamp_offsets(stars.x[chosen], stars.y[chosen], half)
        profile = (1 + (dx**2 + dy**2) / np.float32(core**2)) ** np.float32(-sky.beta)
        _paste(image, column, row, profile * peak[chosen, None, None].astype(np.float32))


def draw_galaxies(image: Image, places: Stars, radius: Values, sky: Conditions, rng: np.random.Generator) -> None:
    """Add elliptical Sersic profiles, their cores softened by the seeing.

    Parameters
    ----------
    image : ndarray (size, size)
    places : Stars
        Positions and total fluxes.
    radius : ndarray (n,)
        Half-light radius [px].
    sky : Conditions
    rng : Generator
        Draws Sersic index, axis ratio and position angle.
    """
    count = len(places.x)
    index, ratio = rng.uniform(0.8, 2.5, count), rng.uniform(0.4, 1.0, count)
    angle = rng.uniform(0, np.pi, count)
    soft = 0.45 * sky.fwhm
    for chosen, half in _batches(5 * radius + 2 * sky.fwhm):
        column, row, dx, dy = _stamp_offsets(places.x[chosen], places.y[chosen], half)
        shapes = np.cos(angle), np.sin(angle), ratio, index, radius
        cos, sin, flat, n, size = (values[chosen, None, None].astype(np.float32) for values in shapes)
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        distance2 = along**2 / (size**2 + soft**2) + across**2 / ((size * flat) ** 2 + soft**2)
        # Ciotti & Bertin (1999, A&A 352, 447): b = 2 n - 1/3 to first order.
        profile = np.exp(-(2 * n - np.float32(1 / 3)) * (distance2 + np.float32(0.02)) ** (0.5 / n))
        profile *= places.flux[chosen, None, None].astype(np.float32) / profile.sum(axis=(1, 2), keepdims=True)
        _paste(image, column, row, profile)


def _draw_field(count: int, sky: Conditions, rng: np.random.Generator, brightness: float = 1.0) -> Stars:
    """Uniform positions, a little beyond the edges too, and fluxes from a power law."""
    x, y = rng.uniform(-0.5 - _MARGIN, sky.size - 0.5 + _MARGIN, (2, count))
    flux = np.minimum(_FAINTEST * rng.random(count) ** (-1 / _SLOPE), _BRIGHTEST)
    return Stars(x, y, brightness * sky.limiting_flux * flux)


def _companions(stars: Stars, share: float, sky: Conditions, rng: np.random.Generator) -> Stars:
    """Second stars of close pairs, half a seeing width to two from the first."""
    first = np.flatnonzero(rng.random(len(stars.x)) < share)
    distance, angle = rng.uniform(0.5, 2.0, len(first)) * sky.fwhm, rng.uniform(0, 2 * np.pi, len(first))
    flux = stars.flux[first] * rng.uniform(0.3, 1.0, len(first))
    return Stars(stars.x[first] + distance * np.cos(angle), stars.y[first] + distance * np.sin(angle), flux)


def _blinding_stars(sky: Conditions, rng: np.random.Generator) -> Stars:
    """Stars far above saturation; fewer and fainter in small frames, of which they would leave nothing."""
    part = min(sky.size / 1024, 1.0)
    count = max(1, round(rng.uniform(2, 6) * part))
    x, y = rng.uniform(0, sky.size - 1, (2, count))
    flux = sky.full_well * np.pi * sky.core_radius**2 * part * np.exp(rng.uniform(np.log(15), np.log(150), count))
    return Stars(x, y, flux)


def _draw_comet(image: Image, sky: Conditions, rng: np.random.Generator) -> None:
    """A coma whose brightness falls with the inverse distance, and a tail that widens."""
    x, y = rng.uniform(0.2, 0.8, 2) * sky.size
    angle, length = rng.uniform(0, 2 * np.pi), sky.size * rng.uniform(0.15, 0.35)
    rows, columns = np.ogrid[: sky.size, : sky.size]
    dx, dy = (columns - x).astype(np.float32), (rows - y).astype(np.float32)
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    distance = np.hypot(dx, dy)
    brightness = sky.noise * rng.uniform(40, 150)
    image += (brightness * 3 / (distance + 3) * np.exp(-distance / (0.08 * sky.size))).astype(np.float32)
    width = 2 + 0.12 * np.maximum(along, 0)
    tail = np.where(along > 0, np.exp(-along / length - (across / width) ** 2) * 3 / width, 0)
    image += (0.6 * brightness * tail).astype(np.float32)


def _draw_trail(image: Image, sky: Conditions, rng: np.random.Generator) -> None:
    """A satellite: a straight line across the frame, as wide as the seeing."""
    x, y = rng.uniform(0.15, 0.85, 2) * sky.size
    angle = rng.uniform(0, np.pi)
    rows, columns = np.ogrid[: sky.size, : sky.size]
    across = ((rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)).astype(np.float32)
    sigma = np.float32(sky.fwhm / 2.355 * rng.uniform(1, 1.5))
    image += np.float32(sky.noise * rng.uniform(8, 60)) * np.exp(-0.5 * (across / sigma) ** 2)


def _batches(reach: Values) -> list[tuple[npt.NDArray[np.intp], int]]:
    """Indices of sources grouped by the half size of the stamp that holds them, few enough to fit in memory."""
    batches = []
    group = np.minimum(np.searchsorted(_HALF_SIZES, reach), len(_HALF_SIZES) - 1)
    for number, half in enumerate(_HALF_SIZES):
        members = np.flatnonzero(group == number)
        together = max(1, _STAMP_PIXELS // (2 * half + 1) ** 2)
        batches += [(members[start : start + together], half) for start in range(0, len(members), together)]
    return batches


def _stamp_offsets(x: Values, y: Values, half: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Image, Image]:
    """First column and row of each stamp, and its pixels' distances from the source, (n, 1, side) and (n, side, 1)."""
    column, row = np.rint(x).astype(np.intp) - half, np.rint(y).astype(np.intp) - half
    side = np.arange(2 * half + 1)
    dx = (column - x)[:, None, None] + side[None, None, :]
    dy = (row - y)[:, None, None] + side[None, :, None]
    return column, row, dx.astype(np.float32), dy.astype(np.float32)


def _paste(image: Image, column: npt.NDArray[np.intp], row: npt.NDArray[np.intp], stamps: Image) -> None:
    """Add `stamps` (n, side, side) to `image`, cut off at its edges."""
    side, (height, width) = stamps.shape[1], image.shape
    for left, top, stamp in zip(column.tolist(), row.tolist(), stamps, strict=True):
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        if x1 < x2 and y1 < y2:
            image[y1:y2, x1:x2] += stamp[y1 - top : y2 - top, x1 - left : x2 - left]
