"""Which frames train, validate and test: the shares, what is never divided, and that nothing ever changes sides."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from satdet.config import TilesConfig
from satdet.data.footprints import footprint, overlapping
from satdet.data.headers import world_coordinates
from satdet.data.ingest import prepare
from satdet.data.splits import SplitFrame, split_frames
from satdet.data.store import SPLITS
from tests.surveys import CONFIG, SCALE, all_tiles, states, write_catalogue, write_frame, write_pair

SHARES = {"train": 0.81, "validation": 0.09, "test": 0.1}


def named(count: int, first: int = 0) -> list[SplitFrame]:
    return [SplitFrame(f"frame{number}") for number in range(first, first + count)]


def sides_by_key(frames, config=CONFIG, record=None) -> dict:
    return {frames[place].key: side for place, side in split_frames(frames, config, record).splits.items()}


def place(x: float, y: float, *, turn: float = 0.0) -> dict:
    """Cards of a frame of 64 px whose centre is `x`, `y` frame widths from a point on the sky."""
    step, angle = 64 * SCALE, np.radians(turn)
    return {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.5, "CRPIX2": 32.5,
        "CRVAL1": (359.99 + x * step / np.cos(np.radians(60))) % 360, "CRVAL2": 60 + y * step,
        "CD1_1": SCALE * np.cos(angle), "CD1_2": -SCALE * np.sin(angle),
        "CD2_1": SCALE * np.sin(angle), "CD2_2": SCALE * np.cos(angle),
    }  # fmt: skip


class TestShares:
    @pytest.mark.parametrize("seed", range(5))
    def test_every_split_has_a_frame_and_is_within_a_half_of_its_share(self, seed):
        config = TilesConfig(split_seed=seed)
        for count in [*range(3, 60), 120, 400, 1000]:
            counts = Counter(sides_by_key(named(count), config).values())
            assert sum(counts.values()) == count
            for split, share in SHARES.items():
                assert max(1, int(share * count / 2)) <= counts[split] <= 1.5 * share * count + 1, (count, counts)

    def test_many_frames_meet_the_shares(self):
        counts = Counter(sides_by_key(named(20_000)).values())
        for split, share in SHARES.items():
            assert counts[split] / 20_000 == pytest.approx(share, abs=0.01)

    def test_one_frame_trains(self):
        assert all(sides_by_key(named(1, first)) == {f"frame{first}": "train"} for first in range(40))

    @pytest.mark.parametrize(("train", "validation"), [(0.9, 0.1), (0.9, 0.0), (1.0, 0.0)])
    def test_a_share_of_zero_stays_empty(self, train, validation):
        sides = set(sides_by_key(named(50), TilesConfig(train_share=train, validation_share=validation)).values())
        assert sides == {"train", *["validation"] * (validation > 0), *["test"] * (train + validation < 1)}

    def test_the_seed_decides_and_the_order_does_not(self):
        frames = named(40)
        assert sides_by_key(frames) == sides_by_key(frames[::-1])
        assert sides_by_key(frames) != sides_by_key(frames, TilesConfig(split_seed=1))


class TestStability:
    @pytest.mark.parametrize("seed", range(4))
    def test_with_its_record_no_frame_ever_changes_sides(self, seed):
        config, record, frames, before = TilesConfig(split_seed=seed), {}, [], {}
        rng = np.random.default_rng(seed)
        for number in rng.permutation(60).tolist():
            frames.insert(int(rng.integers(len(frames) + 1)), SplitFrame(f"frame{number}"))
            outcome = split_frames(frames, config, record)
            sides = {frames[position].key: side for position, side in outcome.splits.items()}
            assert before.items() <= sides.items()
            before, record = sides, outcome.record
            assert len(frames) < 12 or set(sides.values()) == set(SPLITS)

    @pytest.mark.parametrize("seed", range(4))
    def test_by_the_hash_alone_no_frame_of_a_larger_survey_changes_sides(self, seed):
        config, before = TilesConfig(split_seed=seed), {}
        for count in range(300, 1500, 100):
            sides = sides_by_key(named(count), config)
            assert before.items() <= sides.items()
            before = sides

    def test_a_frame_that_was_away_comes_back_to_its_side(self):
        outcome = split_frames(named(20), CONFIG)
        without = split_frames(named(10), CONFIG, outcome.record)
        again = split_frames(named(30), CONFIG, without.record)
        assert outcome.record.items() <= again.record.items()

    def test_a_survey_that_grows_keeps_the_sides_in_its_store_and_in_those_beside_it(self, tmp_path):
        def sides(store):
            return {entry["path"]: entry["split"] for entry in store.manifest["frames"]}

        folder, before = tmp_path / "in", {}
        for step in range(5):
            for number in range(3 * step, 3 * step + 3):
                write_pair(folder, f"{'zam'[number % 3]}{number}")
            for config, name in ((CONFIG, "store"), (TilesConfig(size=32), f"other{step}")):
                found = sides(prepare(folder, config, tmp_path / "out" / name))
                assert before.items() <= found.items()
                before = found
        assert len(before) == 15 and set(before.values()) == set(SPLITS)
        other_seed = sides(prepare(folder, TilesConfig(size=64, split_seed=3), tmp_path / "out" / "seed"))
        assert other_seed != before

    def test_of_duplicates_the_one_that_was_there_first_is_kept(self, tmp_path):
        frame = write_pair(tmp_path / "in", "m")
        before = states(prepare(tmp_path / "in", CONFIG, tmp_path / "store"))
        shutil.copy(frame, frame.with_name("a.fits.gz"))
        write_catalogue(frame.with_name("a.fits.gz"), {})
        after = states(prepare(tmp_path / "in", CONFIG, tmp_path / "store"))
        assert before == {"m": "used"} and after == {"m": "used", "a": "duplicate"}

    def test_the_folders_place_does_not_matter(self, tmp_path):
        for number in range(4):
            write_pair(tmp_path / "here", f"a{number}")
        shutil.copytree(tmp_path / "here", tmp_path / "there")
        one, other = (prepare(tmp_path / at, CONFIG, tmp_path / f"out {at}" / "store") for at in ("here", "there"))
        assert one.digest == other.digest


class TestNights:
    def test_a_night_is_a_julian_day_of_the_header_or_the_name(self):
        assert SplitFrame("a", 2458489.25).night == SplitFrame("a", 2458489.99).night == 2458489
        assert SplitFrame("x/TJO2458489_26467_1_U_imc").night == 2458489
        assert SplitFrame("x/12345678").night is None

    def test_nights_are_never_divided_and_nothing_changes_sides(self):
        config, record, before = TilesConfig(group="night"), {}, {}
        for count in range(10, 210, 20):
            frames = [SplitFrame(f"frame{number}", 2458489.3 + number % 23 + number / 1e4) for number in range(count)]
            outcome = split_frames(frames, config, record)
            nights = {(frames[position].night, side) for position, side in outcome.splits.items()}
            assert len(nights) == len({night for night, _ in nights}) == min(23, count) and len(outcome.splits) == count
            assert {side for _, side in nights} == set(SPLITS)
            assert before.items() <= outcome.splits.items()
            before, record = outcome.splits, outcome.record

    def test_frames_without_a_date_stay_together(self):
        assert len(set(sides_by_key(named(30), TilesConfig(group="night")).values())) == 1

    @pytest.mark.parametrize("group", ["night", "field"])
    def test_and_it_is_said(self, tmp_path, group):
        write_pair(tmp_path / "in", "a", header={"CD1_1": SCALE, "CD2_2": SCALE})
        write_pair(tmp_path / "in", "b", header=place(0, 0) | {"JD": 2458489.25})
        manifest = prepare(tmp_path / "in", TilesConfig(size=64, group=group), tmp_path / "store").manifest
        assert manifest["warnings"] == [f"a: its {group} is not known; such frames count as one"]


class TestFields:
    def test_footprints_overlap_where_the_sky_is_shared(self):
        centres = [(0, 0), (0.9, 0), (0, 1.05), (1.05, 1.05), (30, 0)]
        found = overlapping([footprint(place(*centre), (64, 64)) for centre in centres] + [None, None])
        assert found == [[1], [0], [], [], [], [6], [5]]
        # The corner of a square turned by 45 degrees reaches over the side of another.
        assert overlapping([footprint(place(x, 0, turn=turn), (64, 64)) for x, turn in ((0, 0), (1.15, 45))]) == [
            [1],
            [0],
        ]
        corners = [(0, 0), (1.15, 1.15)]  # within reach of the circles around them, yet apart
        assert overlapping([footprint(place(*corner), (64, 64)) for corner in corners]) == [[], []]

    def fields(self, count):
        """Frames in 30 places, by turns, each off by up to 0.4 of a frame."""
        rng = np.random.default_rng(3)
        shifts = rng.uniform(-0.4, 0.4, (count, 2))
        return [
            SplitFrame(f"frame{number}", 2458489 + number, place(3 * (number % 30) + shift[0], shift[1]), (64, 64))
            for number, shift in enumerate(shifts)
        ]

    def test_fields_are_never_divided_and_nothing_changes_sides(self):
        config, record, before = TilesConfig(group="field"), {}, {}
        for count in (30, 31, 60, 100, 150):
            outcome = split_frames(self.fields(count), config, record)
            sides = [{outcome.splits[number] for number in range(field, count, 30)} for field in range(30)]
            assert all(len(each) == 1 for each in sides) and set.union(*sides) == set(SPLITS)
            assert before.items() <= outcome.splits.items() and not outcome.bridging
            before, record = outcome.splits, outcome.record

    def test_a_frame_that_would_join_two_sides_is_left_out(self, tmp_path):
        folder, config = tmp_path / "in", TilesConfig(size=64, group="field")
        for number in range(12):
            write_pair(folder, f"a{number:02d}", header=place(1.5 * number, 0))
        store = prepare(folder, config, tmp_path / "store")
        sides = [entry["split"] for entry in store.manifest["frames"]]
        between = next(number for number in range(11) if sides[number] != sides[number + 1])
        write_pair(folder, "b", header=place(1.5 * between + 0.75, 0))
        store = prepare(folder, config, tmp_path / "store")
        *before, bridge = store.manifest["frames"]
        assert [entry["split"] for entry in before] == sides
        assert bridge["state"] == "excluded" and bridge["split"] is None
        expected = f"sees the sky of a{between:02d} and a{between + 1:02d}, which are in different splits"
        assert bridge["reason"] == expected


class TestLeaks:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory) -> Path:
        """Twelve places, each seen in three nights and slightly elsewhere, every fifth frame under two names."""
        folder = tmp_path_factory.mktemp("leaks")
        rng = np.random.default_rng(0)
        for number in range(36):
            header = place(2 * (number % 12) + rng.uniform(-0.4, 0.4), 0) | {"JD": 2458489.3 + number // 3}
            frame = write_pair(folder, f"f{number:02d}", {}, {"X_IMAGE": 70}, header=header, shape=(64, 100))
            if number % 5 == 0:
                shutil.copy(frame, frame.with_name(f"copy{number}.fits.gz"))
                write_catalogue(frame.with_name(f"copy{number}.fits.gz"), {})
        return folder

    @pytest.mark.parametrize("group", ["frame", "night", "field"])
    def test_no_frame_duplicate_night_or_field_is_on_two_sides(self, folder, tmp_path, group):
        store = prepare(folder, TilesConfig(size=64, group=group), tmp_path / "store")
        assert store.manifest["counts"]["frames"]["duplicate"] == 8
        tiles = [
            (split.frame(position), split.image(position), split.origin(position))
            for split, position in all_tiles(store)
        ]
        side_of = {"frame": {}, "pixels": {}, "night": {}}
        skies = []
        for entry, image, (x, y) in tiles:
            night = int(entry["julian_date"])
            for kind, value in (("frame", entry["path"]), ("pixels", image.tobytes()), ("night", night)):
                side_of[kind].setdefault(value, set()).add(entry["split"])
            cards = entry["wcs"] | {"CRPIX1": entry["wcs"]["CRPIX1"] - x, "CRPIX2": entry["wcs"]["CRPIX2"] - y}
            assert world_coordinates(cards) is not None
            skies.append(footprint(cards, (64, 64)))
        sides = [entry["split"] for entry, *_ in tiles]
        field_leaks = sum(sides[one] != sides[other] for one, links in enumerate(overlapping(skies)) for other in links)
        divided = {kind: sum(len(found) > 1 for found in known.values()) for kind, known in side_of.items()}
        assert divided["frame"] == divided["pixels"] == 0 and set(sides) == set(SPLITS)
        assert (divided["night"] == 0) == (group == "night")
        assert (field_leaks == 0) == (group == "field")


def test_a_frame_on_its_own_is_the_default(tmp_path):
    write_catalogue(write_frame(tmp_path / "in" / "a.fits", header={"CD1_1": SCALE, "CD2_2": SCALE}), {})
    assert prepare(tmp_path / "in", CONFIG, tmp_path / "store").manifest["sides"] == {"a": "train"}
