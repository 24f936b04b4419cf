"""Where the tiles of a frame lie."""


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
