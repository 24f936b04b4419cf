"""Where the tiles of a frame lie, on the frame and on the sky."""

from collections.abc import Mapping
from typing import Any


def tile_origins(width: int, height: int, size: int, overlap: int = 0) -> list[tuple[int, int]]:
    """Column and row of each tile's first pixel, row by row; together the tiles cover every pixel of the frame.

    The last column and row are shifted inwards to end with the frame. The frame is at least `size` wide and high.
    """
    assert width >= size and height >= size, (width, height, size)
    columns = tile_starts(width, size, overlap)
    return [(x, y) for y in tile_starts(height, size, overlap) for x in columns]


def tile_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixels of tiles of `size` px along one axis of `length` px, neighbours sharing at least `overlap` px."""
    return [*range(0, length - size, size - overlap), length - size]


def tile_cards(cards: Mapping[str, Any], origin: tuple[int, int]) -> dict[str, Any]:
    """The header cards that place a tile on the sky: those of its frame with the reference pixel shifted.

    Distortions count from the reference pixel, so they shift with it. `satdet.data.headers.world_coordinates` makes a
    coordinate system of the result.

    Parameters
    ----------
    cards : mapping
        Of the frame, ``wcs`` in its manifest entry.
    origin : (int, int)
        Column and row of the tile's first pixel in the frame, 0-based.
    """
    shifted = {key: float(cards.get(key, 0.0)) - start for key, start in zip(("CRPIX1", "CRPIX2"), origin, strict=True)}
    return {**cards, **shifted}
