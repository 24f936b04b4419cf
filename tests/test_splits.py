"""Which frames train, validate and test."""

import shutil

import pytest

from satdet.config import TilesConfig
from satdet.data.ingest import prepare
from satdet.data.splits import split_frames, split_sizes
from satdet.simulate import simulate_survey
from tests.surveys import CONFIG


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Ten frames of 192 px; never written to."""
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(folder, frames=10, seed=4, size=192)
    return folder


@pytest.fixture(scope="module")
def store(survey, tmp_path_factory):
    return prepare(survey, CONFIG, tmp_path_factory.mktemp("stores") / "tiles")


class TestSplits:
    @pytest.mark.parametrize(
        ("count", "sizes"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (10, (8, 1, 1)), (100, (81, 9, 10))]
    )
    def test_shares(self, count, sizes):
        assert split_sizes(count, TilesConfig()) == sizes

    def test_every_count_is_split_whole_and_nearly_right(self):
        for count in range(1, 400):
            sizes = split_sizes(count, TilesConfig())
            assert sum(sizes) == count and min(sizes) >= (1 if count >= 3 else 0)
            if count >= 20:
                assert all(abs(size - share * count) < 1 for size, share in zip(sizes, (0.81, 0.09, 0.1), strict=True))

    def test_a_share_of_zero_stays_empty(self):
        assert split_sizes(50, TilesConfig(train_share=0.9, validation_share=0.1)) == (45, 5, 0)
        assert split_sizes(50, TilesConfig(train_share=0.9, validation_share=0.0)) == (45, 0, 5)

    def test_the_seed_decides_and_the_order_of_names_does_not(self):
        names = [f"frame{number}" for number in range(40)]
        first = split_frames(names, TilesConfig())
        assert split_frames(names[::-1], TilesConfig()) == first
        assert split_frames(names, TilesConfig(split_seed=1)) != first

    def test_the_folders_place_does_not_matter(self, survey, store, tmp_path):
        shutil.copytree(survey, tmp_path / "elsewhere")
        moved = prepare(tmp_path / "elsewhere", CONFIG, tmp_path / "store")
        assert moved.digest == store.digest
