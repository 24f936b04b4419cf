"""Which frames see a part of the same sky."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from satdet.data.headers import world_coordinates

_Vectors = npt.NDArray[np.float64]


def footprint(cards: Mapping[str, Any], shape: tuple[int, int]) -> _Vectors | None:
    """The four corners of a frame of `shape` (height, width) as unit vectors (4, 3), None if its place is not known."""
    world = world_coordinates(cards)
    if world is None:
        return None
    height, width = shape
    x, y = np.array([0, width, width, 0]) - 0.5, np.array([0, 0, height, height]) - 0.5
    longitude, latitude = np.radians(world.wcs_pix2world(x, y, 0))
    parallel = np.cos(latitude)
    corners = np.stack([parallel * np.cos(longitude), parallel * np.sin(longitude), np.sin(latitude)], axis=1)
    return corners if np.isfinite(corners).all() else None


def overlapping(footprints: Sequence[_Vectors | None]) -> list[list[int]]:
    """For every footprint, the positions of the others that overlap it; those of unknown place overlap each other."""
    links: list[list[int]] = [[] for _ in footprints]
    unknown = [place for place, corners in enumerate(footprints) if corners is None]
    for place in unknown:
        links[place] = [other for other in unknown if other != place]
    known = [place for place, corners in enumerate(footprints) if corners is not None]
    corners = np.array([footprints[place] for place in known]).reshape(-1, 4, 3)
    centres = corners.mean(axis=1)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    radii = np.arccos(np.clip((corners * centres[:, None]).sum(axis=2), -1, 1)).max(axis=1)
    for place in range(len(known)):
        distances = np.arccos(np.clip(centres @ centres[place], -1, 1))
        near = np.flatnonzero(distances <= radii + radii[place])
        near = near[near != place]
        hits = near[_share_sky(corners[place], corners[near], centres[place])]
        links[known[place]] = [known[other] for other in hits.tolist()]
    return links


def _share_sky(one: _Vectors, others: _Vectors, centre: _Vectors) -> npt.NDArray[np.bool_]:
    """Whether quadrangles overlap or touch, (n,): on a gnomonic plane, if no side of either separates them."""
    east = np.cross([0.0, 0.0, 1.0] if abs(centre[2]) < 0.9 else [1.0, 0.0, 0.0], centre)
    plane = np.stack([east, np.cross(centre, east)], axis=1)
    first = np.broadcast_to((one @ plane) / (one @ centre)[:, None], (len(others), 4, 2))
    second = (others @ plane) / (others @ centre)[..., None]
    apart = np.zeros(len(others), dtype=bool)
    for shape in (first, second):
        sides = np.roll(shape, -1, axis=1) - shape
        normals = np.stack([-sides[..., 1], sides[..., 0]], axis=-1)
        a, b = (np.einsum("nik,njk->nij", normals, quadrangle) for quadrangle in (first, second))
        apart |= ((a.max(axis=2) < b.min(axis=2)) | (b.max(axis=2) < a.min(axis=2))).any(axis=1)
    return ~apart
