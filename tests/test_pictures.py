"""Pictures of tiles and frames, and the figures of an evaluation."""

from pathlib import Path

import numpy as np
import pytest

from satdet.pictures import DETECTION_COLOUR, TRUTH_COLOUR, TilePicture, draw_detections


def _picture(seed: int, objects: int) -> TilePicture:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 116, (objects, 2))
    boxes = np.hstack([corner, corner + 12])
    image = rng.normal(0, 1, (128, 128)).astype(np.float16)
    return TilePicture(image, boxes, boxes + 3, rng.random(objects), f"tile {seed}")


@pytest.mark.parametrize(("count", "width"), [(1, 600), (3, 1200), (9, 1200)])
def test_pictures(tmp_path: Path, count: int, width: int) -> None:
    from PIL import Image

    path = tmp_path / "pictures" / "epoch.png"
    draw_detections(path, [_picture(seed, objects=5 * seed + 3) for seed in range(count)])
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    assert path.stat().st_size < 1_000_000
    for colour in (TRUTH_COLOUR, DETECTION_COLOUR):
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=2) < 24).sum() > 20, colour


def test_a_tile_without_boxes_and_with_dead_pixels_is_drawn(tmp_path: Path) -> None:
    image = np.full((32, 32), np.nan, dtype=np.float16)
    none = np.empty((0, 4))
    draw_detections(tmp_path / "empty.png", [TilePicture(image, none, none, np.empty(0), "no object")])
    assert (tmp_path / "empty.png").stat().st_size > 0
