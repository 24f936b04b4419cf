"""Files of W&B that are not whole: seen, and written anew from the record."""

import shutil
import time

import pytest

from experiments.paths import storage_paths
from experiments.record import read_record
from experiments.state import SearchState
from experiments.trackers import TrackerSettings, TrackerState, wandb
from experiments.trackers.wandb import WandbTracker
from experiments.trackers.wandb_files import is_whole
from satdet.errors import StorageError
from tests.searches import COMPLETED, begin, report, suggest


class Site:
    def __init__(self, root):
        self.storage = storage_paths(root)
        self.search = self.storage.search("backbone_ablation")
        with begin(self.search.record) as record:
            trial = suggest(record, 0)
            for epoch in range(1, 41):
                report(record, trial, epoch, epoch / 50, COMPLETED if epoch == 40 else None)
        self.settings = TrackerSettings(
            storage=self.storage, search=self.search, tracking_uri=self.storage.mlflow_uri, wandb="offline"
        )
        self.state = TrackerState.load(self.search.trackers, "wandb")

    def tracker(self):
        """One that has been given the whole record."""
        tracker, search = WandbTracker(self.settings, self.state), SearchState()
        tracker.connect()
        for event in read_record(self.search.record):
            search.apply(event)
            tracker.apply(event, search)
        assert tracker.settle(final=True)
        return tracker, search

    def file(self):
        (folder,) = self.storage.wandb.glob("offline-run-*")
        (file,) = folder.glob("run-*.wandb")
        return file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("written"))
    tracker, search = site.tracker()
    tracker.finish(search)
    return site


def test_a_whole_file_is_whole_and_its_trial_complete(written):
    assert is_whole(written.file().parent)
    assert list(written.state.complete) == ["t0000"]
    assert written.file().stat().st_size > 1 << 15  # more than a block


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-40],
        lambda content: content[:33000] + bytes(200) + content[33200:],
        lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:],
    ],
)
def test_a_damaged_one_is_not(written, tmp_path, damage):
    file = tmp_path / written.file().name
    file.write_bytes(damage(written.file().read_bytes()))
    assert not is_whole(tmp_path)


def test_without_a_file_a_folder_is_not(tmp_path):
    assert not is_whole(tmp_path)


def test_what_got_lost_on_the_way_to_the_disk_is_written_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "_CLOSE_SECONDS", 0.0)
    site = Site(tmp_path)
    tracker, search = site.tracker()
    site.file().unlink()
    with pytest.raises(StorageError, match=r"the file of t0000 in .* is not whole"):
        tracker.finish(search)
    assert site.state.complete == {}
    tracker, search = site.tracker()
    tracker.finish(search)
    assert is_whole(site.file().parent) and list(site.state.complete) == ["t0000"]


def test_a_file_that_is_only_late_is_waited_for(tmp_path):
    site = Site(tmp_path)
    tracker, search = site.tracker()
    moved = site.file().parent.rename(tmp_path / "elsewhere")
    assert tracker.settle(final=True) and site.state.complete == {}
    moved.rename(site.storage.wandb / f"offline-run-x-{site.state.run_ids['t0000']}")
    deadline = time.monotonic() + 60
    while not site.state.complete and time.monotonic() < deadline:
        assert tracker.settle(final=True)
        time.sleep(0.05)
    tracker.finish(search)
    assert list(site.state.complete) == ["t0000"]
    shutil.rmtree(site.storage.wandb)
