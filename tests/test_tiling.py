"""Where tiles lie, on the frame and on the sky."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satdet.config import TilesConfig
from satdet.data.headers import world_coordinates
from satdet.data.ingest import prepare
from satdet.data.tiling import tile_cards, tile_origins
from tests.surveys import SCALE, all_tiles, write_pair
from tests.test_frames import sky_cards

DISTORTED = sky_cards("CD", angle=20) | {
    "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-5, "B_1_1": -1e-5
}  # fmt: skip


@st.composite
def layouts(draw):
    size = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, size - 1))
    return draw(st.integers(size, 130)), draw(st.integers(size, 130)), size, overlap


class TestOnTheFrame:
    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(layouts())
    def test_every_pixel_is_covered_and_neighbours_overlap(self, layout):
        width, height, size, overlap = layout
        origins = tile_origins(width, height, size, overlap)
        covered = np.zeros((height, width), dtype=int)
        for x, y in origins:
            assert 0 <= x <= width - size and 0 <= y <= height - size
            covered[y : y + size, x : x + size] += 1
        assert covered.min() >= 1 and len(set(origins)) == len(origins)
        for axis in (0, 1):
            starts = sorted({origin[axis] for origin in origins})
            assert all(0 < second - first <= size - overlap for first, second in itertools.pairwise(starts))

    def test_a_tile_may_equal_the_frame(self):
        assert tile_origins(512, 512, 512, 100) == [(0, 0)]
        assert tile_origins(1024, 1024, 512) == [(0, 0), (512, 0), (0, 512), (512, 512)]


class TestOnTheSky:
    @pytest.mark.parametrize(
        "cards",
        [sky_cards("CD", angle=33), sky_cards("PC", angle=120, flip=True), sky_cards("CDELT", angle=5), DISTORTED],
        ids=["CD", "PC", "CDELT", "SIP"],
    )
    def test_a_tiles_pixels_are_where_the_frame_has_them(self, tmp_path, cards):
        write_pair(tmp_path / "in", "a", header=cards, shape=(150, 200))
        store = prepare(tmp_path / "in", TilesConfig(size=64, overlap=10), tmp_path / "store")
        frame = world_coordinates(cards)
        seen = 0
        for split, position in all_tiles(store):
            tile, (x, y) = world_coordinates(split.cards(position)), split.origin(position)
            columns, rows = np.random.default_rng(position).uniform(-0.5, 63.5, (2, 20))
            own = np.array(tile.all_pix2world(columns, rows, 0))
            expected = np.array(frame.all_pix2world(columns + x, rows + y, 0))
            assert np.abs(own - expected).max() < 1e-9
            seen += (x, y) != (0, 0)
        assert seen > 8
        assert np.hypot(*(np.array(frame.all_pix2world(0, 0, 0)) - frame.all_pix2world(9, 9, 0))) > 9 * SCALE

    def test_without_a_reference_pixel_it_is_the_standards_0(self):
        assert tile_cards({}, (10, 20)) == {"CRPIX1": -10.0, "CRPIX2": -20.0}
