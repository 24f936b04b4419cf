"""A storage that is full, breaks off or is read-only while a search runs; the long version is a benchmark."""

import subprocess

import pytest

from benchmarks.chaos_support import SmallSearch, scratch
from benchmarks.storage_faults import CHECKPOINT_BYTES, Faulty, Trouble
from benchmarks.volume import Volume
from experiments.record import read_record


@pytest.fixture
def trouble(tmp_path):
    """A search whose storage is a small file system of its own."""
    volume = Volume(tmp_path, 1300)
    try:
        volume.__enter__()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here ({error})")
    site = SmallSearch("grid", epochs=4).site(tmp_path)
    site.storage.symlink_to(volume.path)
    with scratch() as environment:
        made = Trouble(volume, site, environment, Faulty("test"))
        yield made
        made.end()
    volume.__exit__(None, None, None)


def test_search_goes_on_when_its_storage_is_back(trouble):
    trouble.start("--smoke", "--trials", "1", "--wandb", "off")
    trouble.after_results(1)
    trouble.volume.fill(leave=CHECKPOINT_BYTES // 5)
    trouble.for_seconds(5)
    trouble.volume.relieve()
    trouble.after_results(3)
    trouble.volume.break_off()
    trouble.for_seconds(3)
    trouble.volume.bring_back()
    trouble.ends_with(0)
    assert trouble.faulty.wrong == []
    events = read_record(trouble.site.search / "record.jsonl")
    assert [event["epoch"] for event in events if event["kind"] == "result"] == [1, 2, 3, 4]
    assert [trial["status"] for trial in trouble.site.summary()["trials"]] == ["finished"]


def test_read_only_storage_is_refused_in_one_line(trouble):
    trouble.volume.bring_back(read_only=True)
    trouble.start("--smoke")
    trouble.ends_with(2)
    assert trouble.faulty.wrong == []
    (said,) = trouble.faulty.said
    assert said.startswith(f"error: {trouble.volume.path}: the storage cannot be written (Read-only file system)")
