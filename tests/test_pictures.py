"""Pictures of tiles and frames, and the figures of an evaluation."""

from pathlib import Path

import numpy as np
import pytest

from satdet.pictures import (
    DETECTION_COLOUR,
    IGNORED_COLOUR,
    TRUTH_COLOUR,
    FramePicture,
    TilePicture,
    draw_detections,
    draw_frame,
)


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


def _count(path: Path, colour: str) -> int:
    """Pixels of about a colour."""
    from PIL import Image

    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    with Image.open(path) as image:
        return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - wanted).max(axis=2) < 24).sum())


@pytest.mark.parametrize(
    ("shape", "size"),
    [((2048, 2048), (2048, 2196)), ((100, 300), (900, 380)), ((4000, 1000), (600, 2480)), ((9, 2), (400, 980))],
)
def test_a_frame_is_drawn_pixel_by_pixel_within_readable_sizes(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.9, (50, 2)) * [shape[1], shape[0]]
    boxes = np.hstack([corner, corner + 18])
    image = rng.normal(0, 1, shape).astype(np.float16)
    draw_frame(tmp_path / "frame.png", FramePicture(image, (-1.0, 3.0), boxes, boxes + 3, "frame", boxes[:3] + 9))
    with Image.open(tmp_path / "frame.png") as picture:
        assert np.abs(np.array(picture.size) - size).max() <= 1
    if shape[0] > 100:
        assert all(
            _count(tmp_path / "frame.png", each) > 50 for each in (TRUTH_COLOUR, DETECTION_COLOUR, IGNORED_COLOUR)
        )


def test_a_frame_lies_as_its_pixels_count(tmp_path: Path) -> None:
    from PIL import Image

    image = np.zeros((900, 900), dtype=np.float32)
    image[:90, :450] = 1  # the first rows are at the bottom, the first columns at the left
    draw_frame(tmp_path / "frame.png", FramePicture(image, (0.0, 1.0), None, np.empty((0, 4)), "frame"))
    with Image.open(tmp_path / "frame.png") as picture:
        grey = np.asarray(picture.convert("L"))[40:940]
    assert grey[815:895, 5:445].min() > 250
    assert max(grey[:805].max(), grey[815:895, 455:].max()) < 5


def test_the_box_that_a_picture_is_about_is_marked(tmp_path: Path) -> None:
    from PIL import Image

    none, image = np.empty((0, 4)), np.full((64, 64), -9.0, dtype=np.float32)
    for focus in (None, np.array([20.0, 20.0, 40.0, 40.0])):
        picture = TilePicture(image, none, none, np.empty(0), "two\nlines", np.array([[1.0, 1, 9, 9]]), focus)
        draw_detections(tmp_path / f"{focus is None}.png", [picture])
    bright = [np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) > 180 for name in (True, False)]
    assert bright[1].sum() > bright[0].sum() + 200
    assert _count(tmp_path / "True.png", IGNORED_COLOUR) > 20
