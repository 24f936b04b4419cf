"""Preparation: from a folder of frames and catalogues to a tile store, again and after changes."""

import gzip
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import ZScaleInterval

from satdet._parallel import map_in_processes
from satdet.config import TilesConfig
from satdet.data.ingest import prepare, store_path
from satdet.data.labels import read_labels
from satdet.data.store import SPLITS, TileStore
from satdet.errors import DataError, SatdetError, StorageError
from satdet.simulate import simulate_survey
from tests.surveys import CONFIG, all_tiles, rejection, states, write_catalogue, write_frame, write_pair


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Ten frames of 192 px; never written to."""
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(folder, frames=10, seed=4, size=192)
    return folder


@pytest.fixture(scope="module")
def store(survey, tmp_path_factory):
    return prepare(survey, CONFIG, tmp_path_factory.mktemp("stores") / "tiles")


class TestStore:
    def test_states_add_up(self, store, survey):
        counts = store.manifest["counts"]["frames"]
        assert set(counts) == {"used", "apart", "excluded", "duplicate", "rejected"}
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

    def test_linked_folders_are_searched_once(self, tmp_path):
        folder = tmp_path / "in"
        write_pair(tmp_path / "archive" / "night", "a")
        write_pair(folder, "b")
        for name, target in (("1", tmp_path / "archive"), ("2", tmp_path / "archive"), ("circle", folder)):
            (folder / name).symlink_to(target)
        store = prepare(folder, CONFIG, tmp_path / "store")
        assert [entry["path"] for entry in store.manifest["frames"]] == ["1/night/a.fits.gz", "b.fits.gz"]

    def test_the_same_frame_twice_is_used_once(self, tmp_path):
        write_catalogue(write_frame(tmp_path / "in" / "a.fits"), {})
        with gzip.open(tmp_path / "in" / "a.fits.gz", "wb") as file:
            file.write((tmp_path / "in" / "a.fits").read_bytes())
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        assert [entry["state"] for entry in store.manifest["frames"]] == ["used", "duplicate"]
        assert store.manifest["frames"][1]["reason"] == "the same pixels as a.fits"

    def test_files_without_a_partner_are_reported(self, tmp_path):
        folder = tmp_path / "in"
        reason = None
        write_frame(folder / "lonely.fits.gz")
        write_catalogue(folder / "gone.fits.gz", {})
        (folder / "labels.csv").write_text("frame,labels\nmissing.fits.gz,OK\n")
        reason = rejection(folder, "lonely")
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
