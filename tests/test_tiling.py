"""Where tiles lie."""

import itertools

import numpy as np
import pytest

from satdet.data.tiling import tile_origins


class TestTiling:
    @pytest.mark.parametrize(
        ("width", "height", "size", "overlap"),
        [(64, 64, 64, 0), (65, 64, 64, 0), (200, 130, 64, 0), (200, 130, 64, 16), (1024, 1024, 512, 0)],
    )
    def test_every_pixel_is_covered(self, width, height, size, overlap):
        covered = np.zeros((height, width), dtype=int)
        origins = tile_origins(width, height, size, overlap)
        for x, y in origins:
            assert x >= 0 and y >= 0 and x + size <= width and y + size <= height
            covered[y : y + size, x : x + size] += 1
        assert covered.min() == 1 and len(set(origins)) == len(origins)
        starts = sorted({x for x, _ in origins})
        assert all(second - first <= size - overlap for first, second in itertools.pairwise(starts))

    def test_a_tile_may_equal_the_frame(self):
        assert tile_origins(512, 512, 512, 100) == [(0, 0)]
        assert tile_origins(1024, 1024, 512) == [(0, 0), (512, 0), (0, 512), (512, 512)]
