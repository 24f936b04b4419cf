"""One driver a search: on one machine, between machines, and on file systems that have no locks."""

import dataclasses
import fcntl
import json
import subprocess
import sys
import time

import pytest

from experiments import lock
from experiments.lock import Driver, sole_driver
from satdet.errors import StorageError

HOLD = """
import sys, pathlib
from experiments.lock import sole_driver
with sole_driver(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def holder(path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def no_locks(monkeypatch):
    """A file system on which every flock succeeds, whoever holds it."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def elsewhere(path, **changes):
    """Write as a driver on another machine has."""
    driver = dataclasses.replace(Driver.this(), host="gpu7", process=4711, kernel="another boot", **changes)
    path.touch()
    lock.FileSign(path).write(driver)
    return driver


def test_second_driver_is_refused_at_once_and_told_who_holds_it(path, holder):
    began = time.monotonic()
    with pytest.raises(StorageError, match=f"run by process {holder.pid} on "), sole_driver(path):
        pass
    assert time.monotonic() - began < 2.0


def test_a_killed_driver_leaves_nothing_to_wait_for(path, holder):
    holder.kill()
    holder.wait()
    with sole_driver(path) as ownership:
        assert json.loads(path.read_text())["process"] != holder.pid
        assert ownership.lost is None
    assert path.read_text().strip() == ""


def test_a_living_driver_is_seen_where_the_file_system_has_no_locks(path, holder, no_locks):
    with pytest.raises(StorageError, match=f"process {holder.pid} on "), sole_driver(path):
        pass


def test_another_process_of_the_same_number_is_not_the_driver(path, no_locks):
    path.touch()
    lock.FileSign(path).write(dataclasses.replace(Driver.this(), started="1"))
    with sole_driver(path) as ownership:
        assert ownership.lost is None


def test_a_driver_on_another_machine_is_known_by_its_beats(path, no_locks):
    other = lock.Ownership(lock.FileSign(path), elsewhere(path))
    try:
        began = time.monotonic()
        with pytest.raises(StorageError, match="process 4711 on gpu7"), sole_driver(path):
            pass
        assert time.monotonic() - began < 2.0
    finally:
        other.release()
    with sole_driver(path):
        pass


def test_one_that_gives_no_sign_of_life_is_taken_over_and_notices_when_it_wakes(path, no_locks, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_LEASE_SECONDS", 2.0)
    sleeping = lock.Ownership(lock.FileSign(path), elsewhere(path))
    sleeping._released.set()  # as a machine that sleeps: no beat, but no goodbye either
    sleeping._thread.join()
    with sole_driver(path) as ownership:
        assert "process 4711 on gpu7, which gives no sign of life" in capsys.readouterr().err
        sleeping._released.clear()
        sleeping._beat()
        assert sleeping.lost is not None and sleeping.lost.token == json.loads(path.read_text())["token"]
        time.sleep(3 * lock._BEAT_SECONDS)
        assert ownership.lost is None
    assert path.read_text().strip() == ""


def test_what_an_earlier_version_wrote_is_no_driver(path):
    path.write_text("process 12 on somewhere")
    with sole_driver(path):
        assert json.loads(path.read_text())["token"]
