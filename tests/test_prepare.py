"""Preparation: from a folder of frames and catalogues to a tile store, with everything that can be wrong in between."""

import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import ZScaleInterval

from satdet import prepare as command
from satdet._parallel import map_in_processes
from satdet.config import BoxConfig, ConfigError, TilesConfig
from satdet.data.boxes import clip_to_tile
from satdet.data.catalogues import read_catalogue
from satdet.data.frames import read_frame, to_noise_units
from satdet.data.ingest import prepare, store_path
from satdet.data.labels import read_labels
from satdet.data.splits import split_frames, split_sizes
from satdet.data.store import SPLITS, TileStore
from satdet.data.tiling import tile_origins
from satdet.errors import CatalogueError, DataError, FrameError, SatdetError, StorageError
from satdet.simulate import simulate_survey

CONFIG = TilesConfig(size=64)
SCALE = 0.722 / 3600
ROW = {
    "X_IMAGE": 32.5,
    "Y_IMAGE": 32.5,
    "FWHM_WORLD": 4 * SCALE,
    "FLUX_RADIUS": 2.0,
    "ELLIPTICITY": 0.1,
    "FLAGS": 0,
    "MAG_CALIB": 16.0,
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Ten frames of 192 px; never written to."""
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(folder, frames=10, seed=4, size=192)
    return folder


@pytest.fixture(scope="module")
def store(survey, tmp_path_factory):
    return prepare(survey, CONFIG, tmp_path_factory.mktemp("stores") / "tiles")


def write_frame(path: Path, *, shape=(64, 64), header=None, pixels=None, scale=SCALE) -> Path:
    """A frame of noise around 1000 with a rms of 10."""
    if pixels is None:
        pixels = np.random.default_rng(len(path.name)).normal(1000, 10, shape).astype(np.float32)
    cards = {"CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale} if header is None else header
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(path, overwrite=True)
    return path


def write_catalogue(frame: Path, *rows: dict, columns=tuple(ROW), end="\n") -> Path:
    stem = frame.name.removesuffix(".gz").removesuffix(".fits")
    lines = [f"# {number:2d} {name:<15} A comment [unit]" for number, name in enumerate(columns, 1)]
    lines += [" ".join(str((ROW | row).get(name, 0)) for name in columns) for row in rows]
    path = frame.with_name(f"{stem}_trl.dat")
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def write_pair(folder: Path, name: str, *rows: dict, **kwargs) -> Path:
    frame = write_frame(folder / f"{name}.fits.gz", **kwargs)
    write_catalogue(frame, *(rows or ({},)))
    return frame


def states(store: TileStore) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in store.manifest["frames"]}


def reason_of(folder: Path, name: str, config: TilesConfig = CONFIG) -> str:
    """Why frame `name` is rejected, in company of a good one."""
    write_pair(folder, "good")
    store = prepare(folder, config, folder.parent / "store")
    assert states(store)["good"] == "used"
    entry = next(entry for entry in store.manifest["frames"] if entry["name"] == name)
    assert entry["state"] == "rejected"
    assert "\n" not in entry["reason"]
    return entry["reason"]


def all_tiles(store: TileStore):
    for name in SPLITS:
        split = store.split(name)
        for position in range(len(split)):
            yield split, position


class TestStore:
    def test_states_add_up(self, store, survey):
        counts = store.manifest["counts"]["frames"]
        assert set(counts) == {"used", "apart", "excluded", "rejected"}
        assert sum(counts.values()) == len(list(survey.glob("*.fits.gz"))) == 10
        assert counts == {state: Counter(states(store).values())[state] for state in counts}

    def test_labels_decide_what_is_used(self, store, survey):
        labels = read_labels(survey / "labels.csv")
        for entry in store.manifest["frames"]:
            accepted = set(labels[entry["name"]]) <= set(CONFIG.accepted_labels)
            assert (entry["state"] == "excluded") == (not accepted)
            assert entry["labels"] == list(labels[entry["name"]])
            if not accepted:
                assert "labelled" in entry["reason"] and entry["split"] is None

    def test_counts_are_those_of_the_tiles(self, store):
        for name in SPLITS:
            split = store.split(name)
            objects = [len(split.boxes(position)) for position in range(len(split))]
            counts = store.manifest["counts"][name]
            assert counts["tiles"] == len(split) and counts["objects"] == sum(objects)
            assert counts["empty_tiles"] == objects.count(0)
            assert counts["frames"] == len({split.frame(position)["path"] for position in range(len(split))}) > 0

    def test_no_frame_is_on_two_sides(self, store):
        sides = {}
        for split, position in all_tiles(store):
            entry = split.frame(position)
            assert sides.setdefault(entry["path"], entry["split"]) == entry["split"]
        by_name = {name: {store.split(name).frame(i)["path"] for i in range(len(store.split(name)))} for name in SPLITS}
        assert not (by_name["train"] & by_name["validation"] or by_name["train"] & by_name["test"])

    def test_tiles_are_the_frames_pixels_in_noise_units_without_a_gap(self, store, survey):
        frames: dict[str, np.ndarray] = {}
        for split, position in all_tiles(store):
            entry, (x, y) = split.frame(position), split.origin(position)
            rebuilt = frames.setdefault(entry["path"], np.full((entry["height"], entry["width"]), np.nan))
            rebuilt[y : y + 64, x : x + 64] = split.image(position)
        assert len(frames) == store.manifest["counts"]["frames"]["used"]
        for path, rebuilt in frames.items():
            entry = next(entry for entry in store.manifest["frames"] if entry["path"] == path)
            counts = fits.getdata(survey / path).astype(float)
            expected = (counts - entry["background"]) / entry["rms"]
            assert np.allclose(rebuilt, np.clip(expected, -60000, 60000), rtol=2e-3, atol=2e-3)

    def test_boxes_are_centred_on_the_true_stars(self, tmp_path):
        survey, size = tmp_path / "in", 256
        simulate_survey(survey, frames=6, seed=4, size=512, truth=True)
        store = prepare(survey, TilesConfig(size=size), tmp_path / "store")
        errors = []
        for split, position in all_tiles(store):
            entry, origin = split.frame(position), np.array(split.origin(position))
            truth = np.loadtxt(survey / f"{entry['name']}_truth.csv", delimiter=",", skiprows=1)
            stars = truth[:, :2] - 0.5 - origin
            apart = np.hypot(*(stars[:, None] - stars[None]).transpose(2, 0, 1)) + 99 * np.eye(len(stars))
            bright = truth[:, 2] > 400 * entry["rms"]
            for x1, y1, x2, y2 in split.boxes(position):
                if x1 <= 0 or y1 <= 0 or x2 >= size or y2 >= size or x2 - x1 > 30:
                    continue
                distance = np.hypot(*(stars - [(x1 + x2) / 2, (y1 + y2) / 2]).T)
                nearest = distance.argmin()
                if distance[nearest] < 2 and apart[nearest].min() > 12 and bright[nearest]:
                    errors.append(distance[nearest])
        assert len(errors) > 40
        assert np.median(errors) <= 0.05

    def test_every_box_has_the_magnitude_of_its_row(self, tmp_path):
        rows = [
            {"X_IMAGE": 20, "MAG_CALIB": 15.25},
            {"X_IMAGE": 60, "FLAGS": 2, "MAG_CALIB": 11},
            {"X_IMAGE": 64, "MAG_CALIB": 99.0},
            {"X_IMAGE": 75, "MAG_CALIB": 17.5},
        ]
        write_pair(tmp_path / "in", "one", *rows, shape=(64, 128))
        split = prepare(tmp_path / "in", CONFIG, tmp_path / "store").split("train")
        magnitudes = [split.magnitudes(position) for position in range(2)]
        assert [len(each) for each in magnitudes] == [len(split.boxes(position)) for position in range(2)] == [2, 2]
        assert np.array_equal(np.concatenate(magnitudes), [15.25, np.nan, np.nan, 17.5], equal_nan=True)

    def test_zscale_limits_are_those_of_the_whole_frame(self, store, survey):
        for entry in store.manifest["frames"]:
            if entry["state"] == "used":
                counts = fits.getdata(survey / entry["path"]).astype(float)
                limits = ZScaleInterval(n_samples=counts.size).get_limits(counts)
                expected = [(limit - entry["background"]) / entry["rms"] for limit in limits]
                assert entry["zscale"][0] < 0 < entry["zscale"][1]
                assert entry["zscale"] == pytest.approx(expected, rel=0.3)

    def test_boxes_lie_in_their_tile(self, store):
        for split, position in all_tiles(store):
            for boxes in (split.boxes(position), split.ignored(position)):
                assert ((boxes >= 0) & (boxes <= 64)).all()
                assert (boxes[:, 2:] > boxes[:, :2]).all()

    def test_manifest_says_what_it_was_made_from(self, store, survey):
        manifest = store.manifest
        assert manifest["config"]["size"] == 64 and manifest["config"]["box.k"] == 2.0
        assert set(manifest["versions"]) == {"python", "numpy", "astropy", "sep", "satdet"}
        assert manifest["source"] == str(survey.resolve())
        for entry in manifest["frames"]:
            assert [file["path"] for file in entry["files"]] == [entry["path"], f"{entry['name']}_trl.dat"]
            assert all(file["size"] > 0 and len(file["sha256"]) == 64 for file in entry["files"])

    def test_a_frame_without_ground_truth_is_set_apart(self, tmp_path):
        write_catalogue(write_frame(tmp_path / "in" / "bare.fits.gz"))
        write_pair(tmp_path / "in", "good")
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        assert states(store) == {"bare": "apart", "good": "used"}
        assert store.manifest["frames"][0]["rms"] == pytest.approx(10, rel=0.1)


class TestBoxes:
    def store_of(self, tmp_path: Path, *rows: dict, **kwargs) -> TileStore:
        write_pair(tmp_path / "in", "one", *rows, **kwargs)
        return prepare(tmp_path / "in", CONFIG, tmp_path / "store")

    @pytest.mark.parametrize(
        ("row", "half"),
        [
            ({}, 8),
            ({"ELLIPTICITY": 0.6}, 16),
            ({"ELLIPTICITY": 0.5}, 8),
            ({"MAG_CALIB": 13.9}, 12),
            ({"ELLIPTICITY": 0.6, "MAG_CALIB": 13.9}, 12),
        ],
    )
    def test_the_reports_rule(self, tmp_path, row, half):
        split = self.store_of(tmp_path, row).split("train")
        assert np.allclose(split.boxes(0), [[32 - half, 32 - half, 32 + half, 32 + half]], atol=1e-3)

    @pytest.mark.parametrize(
        ("rule", "row", "half"),
        [
            ({"k": 1.0}, {}, 4),
            ({"elongated_k": 3.5, "elongated_ellipticity": 0.2}, {"ELLIPTICITY": 0.3}, 14),
            ({"bright_k": 2.5, "bright_magnitude": 15.0}, {"MAG_CALIB": 14.5}, 10),
        ],
    )
    def test_the_rule_is_the_configurations(self, tmp_path, rule, row, half):
        write_pair(tmp_path / "in", "one", row)
        config = TilesConfig(size=64, box=BoxConfig(**rule))
        split = prepare(tmp_path / "in", config, tmp_path / "store").split("train")
        assert np.allclose(split.boxes(0), [[32 - half, 32 - half, 32 + half, 32 + half]], atol=1e-3)

    @pytest.mark.parametrize(
        ("rule", "rows", "counts"),
        [
            ({"max_flags": 2}, [{"FLAGS": 2}, {"FLAGS": 3}], (1, 1)),
            ({"unmeasured_flux_radius": 77.0}, [{"FLUX_RADIUS": 77}, {"FLUX_RADIUS": 99}], (1, 0)),
            ({"max_flux_radius": 5.0}, [{"FLUX_RADIUS": 5}, {"FLUX_RADIUS": 4.9}], (1, 0)),
        ],
    )
    def test_thresholds_are_the_configurations(self, tmp_path, rule, rows, counts):
        write_pair(tmp_path / "in", "one", *rows)
        config = TilesConfig(size=64, box=BoxConfig(**rule))
        entry = prepare(tmp_path / "in", config, tmp_path / "store").manifest["frames"][0]
        assert (entry["objects"], entry["ignored"]) == counts

    def test_rows_that_are_no_objects_are_ignored_or_counted(self, tmp_path):
        store = self.store_of(
            tmp_path,
            {},
            {"FLAGS": 4, "X_IMAGE": 10.5},
            {"FLUX_RADIUS": 0},
            {"FLUX_RADIUS": 99},
            {"FLUX_RADIUS": 50000},
            {"FWHM_WORLD": 0},
            {"X_IMAGE": "nan"},
            {"X_IMAGE": 900},
        )
        entry = store.manifest["frames"][0]
        assert (entry["objects"], entry["ignored"]) == (1, 1)
        assert entry["dropped"] == {
            "position or size not finite": 1,
            "FWHM_WORLD not above 0": 1,
            "outside the frame": 1,
            "FLUX_RADIUS out of range": 3,
        }
        assert np.allclose(store.split("train").ignored(0), [[2, 24, 18, 40]], atol=1e-3)

    def test_a_pixel_scale_from_any_header(self, tmp_path):
        turned = {"CD1_1": 0.0, "CD1_2": SCALE, "CD2_1": SCALE, "CD2_2": 0.0}
        steps = {"CDELT1": -SCALE, "CDELT2": SCALE}
        unit = {"CDELT1": 1.0, "CDELT2": 1.0, "PC1_1": SCALE, "PC2_2": -SCALE}
        for number, header in enumerate((turned, steps, unit)):
            write_pair(tmp_path / "in", f"frame{number}", header=header)
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        assert [entry["pixel_scale"] for entry in store.manifest["frames"]] == pytest.approx([SCALE] * 3)

    def test_clipping_keeps_what_is_visible_enough(self):
        boxes = np.array([[10, 10, 20, 20], [-5, 0, 5, 10], [-7, 0, 3, 10], [70, 0, 80, 10]], dtype=np.float32)
        ignored = np.array([[60, 60, 70, 70], [-10, -10, 0, 0]], dtype=np.float32)
        corner = np.array([100, 200, 100, 200], dtype=np.float32)
        kept, regions = clip_to_tile(boxes + corner, ignored + corner, (100, 200), 64, 0.4)
        assert kept.tolist() == [[10, 10, 20, 20], [0, 0, 5, 10]]
        assert regions.tolist() == [[60, 60, 64, 64], [0, 0, 3, 10]]


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


class TestAgain:
    def copy(self, survey: Path, tmp_path: Path) -> Path:
        folder = tmp_path / "in"
        folder.mkdir()
        for file in sorted(survey.iterdir()):
            if file.name.startswith(tuple(path.name[:21] for path in sorted(survey.glob("*.gz"))[:4])):
                shutil.copy2(file, folder)
        return folder

    def written(self, store: TileStore) -> int:
        return (store.path / "manifest.json").stat().st_mtime_ns

    def test_nothing_changed_nothing_done(self, survey, store, monkeypatch):
        def refuse(*args, **kwargs):
            raise AssertionError("read again")

        monkeypatch.setattr("satdet.data.ingest.map_in_processes", refuse)
        before = self.written(store)
        assert prepare(survey, CONFIG, store.path).digest == store.digest
        assert self.written(store) == before

    def test_a_touched_file_with_the_same_content_is_no_change(self, survey, tmp_path):
        folder = self.copy(survey, tmp_path)
        before = self.written(prepare(folder, CONFIG, tmp_path / "store"))
        for file in folder.iterdir():
            os.utime(file, (1, 1))
        assert self.written(prepare(folder, CONFIG, tmp_path / "store")) == before

    @pytest.mark.parametrize("change", ["catalogue", "removed", "labels", "config", "damaged store"])
    def test_a_change_makes_a_new_store(self, survey, tmp_path, change):
        folder, config = self.copy(survey, tmp_path), CONFIG
        first = prepare(folder, config, tmp_path / "store")
        entry = next(entry for entry in first.manifest["frames"] if entry["state"] == "used")
        if change == "catalogue":
            path = folder / f"{entry['name']}_trl.dat"
            path.write_text("\n".join(path.read_text().splitlines()[:-3]))
        elif change == "removed":
            (folder / entry["path"]).unlink()
        elif change == "labels":
            (folder / "labels.csv").write_text(f"frame,labels\n{entry['name']},TRACE\n")
        elif change == "config":
            config = TilesConfig(size=32)
        else:
            (first.path / "tiles.f16").write_bytes(b"")
        second = prepare(folder, config, tmp_path / "store")
        assert (second.digest == first.digest) == (change == "damaged store")
        assert TileStore.open(tmp_path / "store").digest == second.digest

    def test_workers_change_nothing(self, survey, store, tmp_path):
        assert prepare(survey, CONFIG, tmp_path / "store", workers=2).digest == store.digest

    def test_a_worker_that_dies_is_one_error(self):
        with pytest.raises(SatdetError, match="worker process died"):
            list(map_in_processes(os._exit, [1, 1], 2))

    def test_the_users_files_are_untouched(self, survey, tmp_path):
        folder = self.copy(survey, tmp_path)
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
        prepare(folder, CONFIG, tmp_path / "store")
        assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before

    def test_nothing_is_left_beside_the_store(self, survey, tmp_path):
        folder = self.copy(survey, tmp_path)
        prepare(folder, CONFIG, tmp_path / "out" / "store")
        with pytest.raises(DataError):
            prepare(folder, TilesConfig(size=1024), tmp_path / "out" / "other")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["store"]

    def test_the_stores_name_follows_from_source_labels_and_config(self, tmp_path):
        path = store_path(tmp_path, Path("in"), CONFIG)
        assert path.parent == tmp_path and path.name.startswith("tiles-") and len(path.name) == 18
        assert path == store_path(tmp_path, Path("in").resolve(), TilesConfig(size=64))
        others = {
            store_path(tmp_path, Path("other"), CONFIG),
            store_path(tmp_path, Path("in"), TilesConfig(size=32)),
            store_path(tmp_path, Path("in"), CONFIG, Path("labels.csv")),
        }
        assert len(others | {path}) == 4

    @pytest.mark.parametrize("target", [".", "in", "notes"])
    def test_a_folder_that_is_no_store_is_never_replaced(self, survey, tmp_path, target):
        folder = self.copy(survey, tmp_path)
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "diary.txt").write_text("dear diary")
        with pytest.raises(StorageError, match="choose another place"):
            prepare(folder, CONFIG, tmp_path / target)
        assert (tmp_path / "notes" / "diary.txt").exists() and len(list(folder.iterdir())) >= 8


class TestFolders:
    def test_frames_below_and_without_gzip_are_found_and_hidden_ones_are_not(self, tmp_path):
        folder = tmp_path / "in"
        write_pair(folder / "night 1", "a")
        write_catalogue(write_frame(folder / "night 2" / "b.fits"), {})
        write_pair(folder / ".trash", "c")
        write_frame(folder / "night 1" / "._a.fits.gz")
        store = prepare(folder, CONFIG, tmp_path / "store")
        assert [entry["path"] for entry in store.manifest["frames"]] == ["night 1/a.fits.gz", "night 2/b.fits"]
        assert set(states(store).values()) == {"used"}

    def test_the_same_frame_twice_is_used_once(self, tmp_path):
        write_catalogue(write_frame(tmp_path / "in" / "a.fits"), {})
        write_frame(tmp_path / "in" / "a.fits.gz")
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        assert [entry["state"] for entry in store.manifest["frames"]] == ["used", "rejected"]
        assert "same frame as a.fits" in store.manifest["frames"][1]["reason"]

    def test_files_without_a_partner_are_reported(self, tmp_path):
        folder = tmp_path / "in"
        reason = None
        write_frame(folder / "lonely.fits.gz")
        write_catalogue(folder / "gone.fits.gz", {})
        (folder / "labels.csv").write_text("frame,labels\nmissing.fits.gz,OK\n")
        reason = reason_of(folder, "lonely")
        assert "no catalogue lonely_trl.dat" in reason
        manifest = TileStore.open(tmp_path / "store").manifest
        assert manifest["catalogues_without_frame"] == ["gone_trl.dat"]
        assert manifest["labels_without_frame"] == ["missing"]

    def test_no_folder_no_frame_no_usable_frame(self, tmp_path):
        with pytest.raises(DataError, match="no such folder"):
            prepare(tmp_path / "nowhere", CONFIG, tmp_path / "store")
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "readme.txt").write_text("nothing here")
        with pytest.raises(DataError, match=r"no frame .* among 1 files"):
            prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        write_frame(tmp_path / "in" / "a.fits.gz")
        write_pair(tmp_path / "in", "b")
        (tmp_path / "in" / "labels.csv").write_text("frame,labels\nb,COMET\n")
        with pytest.raises(DataError, match=r"none of 2 frames .* \(1 excluded, 1 rejected\).*no catalogue.*COMET"):
            prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        assert not (tmp_path / "store").exists()


class TestMalformedFrames:
    def test_cut_off_gzip(self, tmp_path):
        frame = write_pair(tmp_path / "in", "bad")
        frame.write_bytes(frame.read_bytes()[:-2000])
        assert "unreadable or cut off" in reason_of(tmp_path / "in", "bad")

    def test_cut_off_plain_file(self, tmp_path):
        frame = write_frame(tmp_path / "in" / "bad.fits", shape=(128, 128))
        write_catalogue(frame, {})
        frame.write_bytes(frame.read_bytes()[:9000])
        assert "unreadable or cut off" in reason_of(tmp_path / "in", "bad")

    @pytest.mark.parametrize("content", [b"", b"not a frame", gzip.compress(b"nor this"), b"\x1f\x8b\x08"])
    def test_not_a_fits_file(self, tmp_path, content):
        frame = write_pair(tmp_path / "in", "bad")
        frame.write_bytes(content)
        assert "bad.fits.gz: " in reason_of(tmp_path / "in", "bad")

    def test_a_cube(self, tmp_path):
        write_pair(tmp_path / "in", "bad", pixels=np.ones((3, 64, 64), dtype=np.float32))
        assert "64 x 64 x 3 px has 3 axes" in reason_of(tmp_path / "in", "bad")

    def test_no_image(self, tmp_path):
        frame = write_pair(tmp_path / "in", "bad")
        fits.PrimaryHDU().writeto(frame, overwrite=True)
        assert "holds no image" in reason_of(tmp_path / "in", "bad")

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ({}, "no pixel scale"),
            ({"CD1_1": 0.0, "CD2_2": 0.0}, "a pixel scale of 0 deg/px"),
            ({"CDELT1": SCALE, "CDELT2": 0.0}, "a pixel scale of 0 deg/px"),
            ({"CD1_1": "none", "CD2_2": SCALE}, "CD1_1 = 'none' is not a number"),
        ],
    )
    def test_pixel_scale(self, tmp_path, header, message):
        write_pair(tmp_path / "in", "bad", header=header)
        assert message in reason_of(tmp_path / "in", "bad")

    def test_smaller_than_a_tile(self, tmp_path):
        write_pair(tmp_path / "in", "bad", shape=(64, 63))
        assert "63 x 64 px is smaller than a tile of 64 px" in reason_of(tmp_path / "in", "bad")

    @pytest.mark.parametrize(("value", "message"), [(7.0, "no noise"), (np.nan, "not one pixel is a number")])
    def test_nothing_in_the_pixels(self, tmp_path, value, message):
        write_pair(tmp_path / "in", "bad", pixels=np.full((64, 64), value, dtype=np.float32))
        assert message in reason_of(tmp_path / "in", "bad")

    def test_missing_and_saturated_pixels_do_not_spoil_the_noise(self, tmp_path):
        pixels = np.random.default_rng(0).normal(1000, 10, (128, 128)).astype(np.float32)
        pixels[:, :20] = np.nan
        pixels[50:60, 50:60] = 3e7
        frame = read_frame(write_frame(tmp_path / "a.fits.gz", pixels=pixels))
        units = to_noise_units(frame, tmp_path / "a.fits.gz")
        assert units.background == pytest.approx(1000, abs=2) and units.rms == pytest.approx(10, rel=0.1)
        assert np.isfinite(units.pixels).all()
        assert (units.pixels[:, :20] == 0).all() and (units.pixels[50:60, 50:60] == 60000).all()

    def test_integers_and_extensions_are_read(self, tmp_path):
        counts = np.arange(64 * 64).reshape(64, 64)
        write_frame(tmp_path / "a.fits.gz", pixels=counts.astype(np.uint16))
        assert (read_frame(tmp_path / "a.fits.gz").pixels == counts).all()
        image = fits.ImageHDU(counts.astype(np.int32), fits.Header({"CD1_1": SCALE, "CD2_2": SCALE}))
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "b.fits")
        assert (read_frame(tmp_path / "b.fits").pixels == counts).all()

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FrameError, match="unreadable"):
            read_frame(tmp_path / "none.fits.gz")


class TestCatalogues:
    def test_any_order_more_columns_and_any_line_end(self, tmp_path):
        columns = ["FLAGS", "MAG_AUTO", *reversed([name for name in ROW if name != "FLAGS"])]
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {"X_IMAGE": 7.25}, columns=columns, end="\r\n")
        catalogue = read_catalogue(path)
        assert catalogue.x.tolist() == [32.5, 7.25] and catalogue.magnitude.tolist() == [16, 16]

    def test_a_header_alone_has_no_rows(self, tmp_path):
        assert len(read_catalogue(write_catalogue(tmp_path / "a.fits.gz"))) == 0

    def test_a_missing_column_is_named(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, columns=[name for name in ROW if name != "FWHM_WORLD"])
        with pytest.raises(CatalogueError, match=r"a_trl.dat: no column FWHM_WORLD; it has X_IMAGE"):
            read_catalogue(path)

    def test_a_cell_that_is_no_number_is_named_with_its_line(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {"FLUX_RADIUS": "2,5"})
        with pytest.raises(CatalogueError, match=r"a_trl.dat line 9: FLUX_RADIUS = '2,5' is not a number"):
            read_catalogue(path)

    def test_a_short_row_is_named_with_its_line(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {})
        path.write_text(path.read_text().removesuffix(" 16.0\n"))
        with pytest.raises(CatalogueError, match=r"a_trl.dat line 9: 6 values for 7 columns"):
            read_catalogue(path)

    @pytest.mark.parametrize("content", [b"", b"1 2 3\n", b"\x00\xff\xfe\n", b"# a remark\n"])
    def test_no_header(self, tmp_path, content):
        frame = write_pair(tmp_path / "in", "bad")
        frame.with_name("bad_trl.dat").write_bytes(content)
        assert "no ASCII_HEAD header" in reason_of(tmp_path / "in", "bad")

    def test_another_frames_catalogue(self, tmp_path):
        write_pair(tmp_path / "in", "bad", {"X_IMAGE": 900}, {"X_IMAGE": 800}, {})
        assert "2 of 3 positions lie outside" in reason_of(tmp_path / "in", "bad")

    def test_unreadable(self, tmp_path):
        with pytest.raises(CatalogueError, match="unreadable"):
            read_catalogue(tmp_path)


class TestLabels:
    def test_names_with_or_without_ending_and_several_labels(self, tmp_path):
        path = tmp_path / "labels.csv"
        rows = "frame,labels,note", "a.fits.gz,OK; GALAXY,", "b,,nothing", "night/c.fits,ESO,x"
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
        assert read_labels(path) == {"a": ("OK", "GALAXY"), "b": (), "c": ("ESO",)}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("name,labels\na,OK\n", "no column frame"),
            ("", "no column frame, labels"),
            ("frame,labels\na,OK\na,ESO\n", "line 3: frame a is listed twice"),
        ],
    )
    def test_a_bad_label_file(self, tmp_path, content, message):
        write_pair(tmp_path / "in", "a")
        (tmp_path / "other.csv").write_text(content)
        with pytest.raises(DataError, match=message):
            prepare(tmp_path / "in", CONFIG, tmp_path / "store", labels=tmp_path / "other.csv")

    def test_a_missing_label_file(self, tmp_path):
        write_pair(tmp_path / "in", "a")
        with pytest.raises(DataError, match=r"none.csv: the label file cannot be read"):
            prepare(tmp_path / "in", CONFIG, tmp_path / "store", labels=tmp_path / "none.csv")

    def test_a_label_file_of_ones_own_wins(self, tmp_path):
        write_pair(tmp_path / "in", "a")
        write_pair(tmp_path / "in", "b")
        (tmp_path / "in" / "labels.csv").write_text("frame,labels\na,ESO\nb,ESO\n")
        (tmp_path / "mine.csv").write_text("frame,labels\na,OK\nb,ESO\n")
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store", labels=tmp_path / "mine.csv")
        assert states(store) == {"a": "used", "b": "excluded"}
        taking_all = TilesConfig(size=64, accepted_labels=("ESO",))
        store = prepare(tmp_path / "in", taking_all, tmp_path / "store")
        assert states(store) == {"a": "used", "b": "used"}


class TestCommandLine:
    def run(self, *arguments: object) -> int:
        return command.main([str(argument) for argument in arguments])

    def test_summary(self, survey, tmp_path, capsys):
        arguments = survey, "--out", tmp_path / "store", "--set", "tiles.size=64", "--set", "tiles.overlap=8"
        assert self.run(*arguments) == 0
        text = capsys.readouterr().out
        store = TileStore.open(tmp_path / "store")
        assert f"{store.manifest['tiles']} tiles of 64 px" in text and "10 in all" in text and "train" in text
        assert store.manifest["config"]["overlap"] == 8
        assert self.run(*arguments, "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        assert sum(summary["frames"].values()) == 10 and summary["digest"] == store.digest

    def test_rejected_frames_are_listed_up_to_twenty(self, tmp_path, capsys):
        write_pair(tmp_path / "in", "good")
        for number in range(23):
            (tmp_path / "in" / f"bad{number:02d}.fits.gz").write_bytes(b"")
        assert self.run(tmp_path / "in", "--out", tmp_path / "store", "--set", "tiles.size=64") == 0
        text = capsys.readouterr().out
        assert text.count("rejected: ") == 21 and "and 3 more" in text and "bad19" in text and "bad20" not in text

    def test_strict_stops_at_the_first(self, tmp_path, capsys):
        write_pair(tmp_path / "in", "good")
        write_frame(tmp_path / "in" / "lonely.fits.gz")
        arguments = tmp_path / "in", "--out", tmp_path / "store", "--set", "tiles.size=64"
        assert self.run(*arguments) == 0
        capsys.readouterr()
        assert self.run(*arguments, "--strict") == 4
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "lonely.fits.gz: no catalogue" in error
        with pytest.raises(CatalogueError):
            self.run(*arguments, "--strict", "--debug")

    def test_wrong_input_is_one_line_and_a_status(self, tmp_path, capsys):
        for arguments, status in (
            ((tmp_path / "none",), 4),
            ((tmp_path, "--set", "tiles.sise=3"), 2),
            ((tmp_path, "--set", "tiles.size=many"), 2),
            ((tmp_path, "--set", "optimizer.name=adam"), 2),
            ((tmp_path, "--set", "tiles.size"), 2),
        ):
            assert self.run(*arguments) == status
            assert capsys.readouterr().err.count("\n") == 1
        with pytest.raises(ConfigError, match=r"tiles\.size"):
            self.run(tmp_path, "--set", "tiles.sise=3", "--debug")

    def test_the_default_place_is_the_platforms(self, survey, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert self.run(survey, "--set", "tiles.size=64") == 0
        expected = store_path(Path("runs/data"), survey, CONFIG)
        assert TileStore.open(expected).manifest["counts"]["frames"]["used"] > 0
        assert str(expected) in capsys.readouterr().out

    def test_an_interruption_leaves_nothing_and_blames_no_frame(self, survey, tmp_path, monkeypatch, capsys):
        def interrupt(content):
            raise KeyboardInterrupt

        monkeypatch.setattr("gzip.decompress", interrupt)
        assert self.run(survey, "--out", tmp_path / "out" / "store", "--set", "tiles.size=64") == 130
        assert capsys.readouterr().err == "interrupted\n"
        assert list((tmp_path / "out").iterdir()) == []

    def test_progress_counts_every_frame(self, tmp_path):
        seen = []
        write_pair(tmp_path / "in", "a")
        write_pair(tmp_path / "in", "b")
        prepare(tmp_path / "in", CONFIG, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 2), (2, 2)]

    def test_the_module_runs_and_its_help_imports_nothing_heavy(self):
        code = (
            "import sys; from satdet.prepare import main\n"
            "try: main(['--help'])\n"
            "except SystemExit: pass\n"
            "print([name for name in ('numpy', 'astropy', 'sep', 'torch') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("[]")
        module = [sys.executable, "-m", "satdet.prepare", "/nowhere"]
        assert subprocess.run(module, capture_output=True, check=False).returncode == 4
