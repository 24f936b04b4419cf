"""What a trial survives: damaged files, a storage that refuses, too little memory, and its own end."""

import errno
import json
import logging
import os
import random
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from satdet.config import metric_names, with_values
from satdet.errors import CheckpointError, StorageError, StorageLostError, TrainingError
from satdet.training import (
    Callback,
    StopTraining,
    checkpoint_bytes,
    export_model,
    files,
    load_model,
    loop,
    prune_checkpoint,
    retire_checkpoints,
    train,
)
from satdet.training.patience import StoragePatience
from tests.tiny import CONFIG, tiny_detectors, tiny_store

TIMINGS = {"images_per_second", "seconds", "seconds_training", "seconds_evaluation"}
LONGER = with_values(CONFIG, {"training.epochs": 5})
HALVING = with_values(CONFIG, {"training.on_out_of_memory": "halve_micro_batch"})
MEMORY = "CUDA out of memory"


class Watcher(Callback):
    """Counts batches by epoch, over all processes of a trial, and stops it when it is told to."""

    def __init__(self, stop_in=None):
        self.batches = []
        self.count = 0
        self._stop_in = stop_in

    def on_batch_end(self, progress):
        self.batches.append(progress.epoch)
        self.count += 1
        if progress.epoch == self._stop_in:
            raise StopTraining("enough", why="it was told to")

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Refusals:
    """Has the storage refuse to keep files whose names hold a word, so many times."""

    def __init__(self, monkeypatch, word, code, times=10**9):
        self.names = []
        fsync = os.fsync

        def refuse(descriptor):
            name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115, PTH119
            if word in name and len(self.names) < times:
                self.names.append(name)
                raise OSError(code, os.strerror(code))
            fsync(descriptor)

        monkeypatch.setattr(files.os, "fsync", refuse)


@pytest.fixture(scope="module", autouse=True)
def small():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with tiny_detectors():
        yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def quick_picture(monkeypatch):
    monkeypatch.setattr(loop, "draw_examples", lambda path, detector, tiles: path.write_bytes(b"a picture"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny_store(tmp_path_factory.mktemp("tiles") / "store")


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory):
    """Three epochs, all kept, the best of which is the first, and five: directories."""
    short, long = (tmp_path_factory.mktemp(name) for name in ("short", "long"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_examples", lambda path, detector, tiles: path.write_bytes(b"a picture"))
        run(CONFIG, store, short, keep=9)
        run(LONGER, store, long, keep=9)
    return short, long


@pytest.fixture
def trial(straight, tmp_path):
    """A copy of the three epochs."""
    shutil.copytree(straight[0], tmp_path / "trial")
    return tmp_path / "trial"


def run(config, store, directory, **options):
    return list(train(config, store, directory, **({"seed": 1, "device": "cpu"} | options)))


def scored(*values):
    """Evaluations with these map_50, epoch by epoch."""
    left = iter(values)
    return lambda detect, batches, **options: {"map_50": next(left)}


def epochs_in(directory):
    return [files.epoch_of(path) for path in files.epoch_files(directory)]


def leftovers(directory):
    return list(directory.glob(".*"))


def remarks_of(reports):
    return [remark for report in reports for remark in report.remarks]


def assert_same(directory, other):
    """Weights, optimizer and random state after the last epoch are equal to the bit."""
    (_, first, _), (_, second, _) = files.newest_epoch(directory), files.newest_epoch(other)
    assert len(first["progress"]["history"]) == len(second["progress"]["history"])
    for name, value in first["learner"]["model"].items():
        assert torch.equal(value, second["learner"]["model"][name]), name
    for number, state in first["learner"]["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["learner"]["optimizer"]["state"][number][name]), (number, name)
    assert first["learner"]["steps"] == second["learner"]["steps"]
    assert torch.equal(first["learner"]["random"]["torch"], second["learner"]["random"]["torch"])
    for mine, its in zip(first["progress"]["history"], second["progress"]["history"], strict=True):
        assert {key: mine["metrics"][key] for key in mine["metrics"].keys() - TIMINGS} == {
            key: its["metrics"][key] for key in its["metrics"].keys() - TIMINGS
        }


# --- a damaged checkpoint


def truncated(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def flipped(path, chance):
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def zeroed(path, chance):
    data = bytearray(path.read_bytes())
    start = chance.randrange(0, len(data), 4096)
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


def emptied(path, chance):
    path.write_bytes(b"")


DAMAGES = [(damage, seed) for damage in (truncated, flipped, zeroed) for seed in range(8)] + [(emptied, 0)]


@pytest.mark.parametrize(("damage", "seed"), DAMAGES)
def test_the_newest_whole_checkpoint_is_found(trial, damage, seed):
    newest = files.epoch_files(trial)[0]
    damage(newest, random.Random(seed))
    path, content, damaged = files.newest_epoch(trial)
    assert files.epoch_of(path) == len(content["progress"]["history"]) == 2
    assert damaged == [newest]


@pytest.mark.parametrize("damage", [truncated, flipped, zeroed, emptied])
def test_a_trial_says_what_was_damaged_and_takes_the_same_course(trial, store, straight, damage):
    newest = files.epoch_files(trial)[0]
    damage(newest, random.Random(9))
    reports = run(CONFIG, store, trial, after_epoch=3)
    assert [(report.epoch, report.stop_reason) for report in reports] == [(3, "completed")]
    assert reports[0].remarks == (f"{newest.name} is damaged; went on from epoch 2",)
    assert_same(trial, straight[0])
    assert not newest.exists()
    assert run(CONFIG, store, trial)[-1].remarks == ()


def test_the_best_stands_in_where_it_is_newer_than_what_is_left(trial, store, straight):
    for path in files.epoch_files(trial)[:2]:
        flipped(path, random.Random(0))
    files.epoch_files(trial)[
        2
    ].unlink()  # what a search without much space leaves: the newest and, of epoch 1, the best
    path, content, damaged = files.newest_epoch(trial)
    assert (path.name, len(content["progress"]["history"]), len(damaged)) == ("best.pt", 1, 2)
    reports = run(CONFIG, store, trial)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert reports[0].remarks[0].endswith("are damaged; went on from epoch 1")
    assert_same(trial, straight[0])


def test_a_trial_whose_checkpoints_are_all_damaged_begins_again_and_says_so(trial, store, straight):
    for path in (*files.epoch_files(trial), trial / "best.pt"):
        emptied(path, random.Random(0))
    reports = run(CONFIG, store, trial, after_epoch=2)
    assert [report.epoch for report in reports] == [3]
    (remark,) = reports[0].remarks
    assert remark.count("epoch-000") == 3
    assert remark.endswith("are damaged; began again from the start")
    assert_same(trial, straight[0])


def test_a_trial_whose_checkpoints_are_gone_says_so(store, tmp_path, straight):
    reports = run(CONFIG, store, tmp_path / "trial", after_epoch=2)
    assert reports[0].remarks == ("no checkpoint is left of the first 2 epochs; began again from the start",)
    assert_same(tmp_path / "trial", straight[0])
    assert remarks_of(run(CONFIG, store, tmp_path / "other")) == []


def test_another_trials_checkpoint_is_refused_or_found_damaged(trial, store, tmp_path):
    run(CONFIG, store, tmp_path / "other", seed=2)
    newest, foreign = files.epoch_files(trial)[0], files.epoch_files(tmp_path / "other")[0]
    shutil.copyfile(foreign, newest)  # under the name of another content
    assert files.newest_epoch(trial)[2] == [newest]
    newest.unlink()
    shutil.copyfile(foreign, trial / foreign.name)
    with pytest.raises(CheckpointError, match="seed = 2, this trial has 1"):
        run(CONFIG, store, trial)


def test_a_whole_file_of_something_else_is_refused(trial, store):
    files.write_epoch(trial, 4, {"format": 1, "progress": {"history": []}})
    with pytest.raises(CheckpointError, match=r"epoch-0004-.*this version reads 1"):
        run(CONFIG, store, trial)


@pytest.mark.parametrize("damage", [truncated, flipped, zeroed, emptied])
def test_a_damaged_record_of_a_stop_is_named_and_the_trial_goes_on(store, tmp_path, straight, damage):
    _, report = run(CONFIG, store, tmp_path, callbacks=[Watcher(stop_in=2)])
    assert (report.epoch, report.stop_reason, report.stop_detail) == (1, "enough", "it was told to")
    damage(tmp_path / "stopped.json", random.Random(3))
    reports = run(CONFIG, store, tmp_path, after_epoch=1, callbacks=[Watcher()])
    assert [report.epoch for report in reports] == [2, 3]
    assert reports[0].remarks == ("stopped.json is damaged; the trial goes on after epoch 1",)
    assert_same(tmp_path, straight[0])


@pytest.mark.parametrize("position", range(0, 3000, 100))
def test_no_bit_of_the_record_of_a_stop_can_flip_unnoticed(tmp_path, position):
    path = tmp_path / "stopped.json"
    record = {
        "epoch": 3,
        "reason": "enough",
        "why": "",
        "continue_after": None,
        "identity": {"seed": 1, "x": "y" * 2800},
    }
    files.write_record(path, record)
    assert files.read_record(path) == record
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"stopped\.json: damaged"):
        files.read_record(path)


def test_the_stop_of_another_trial_is_refused(store, tmp_path):
    for seed, name in ((1, "trial"), (2, "other")):
        run(CONFIG, store, tmp_path / name, seed=seed, callbacks=[Watcher(stop_in=2)])
    shutil.copyfile(tmp_path / "other" / "stopped.json", tmp_path / "trial" / "stopped.json")
    with pytest.raises(CheckpointError, match=r"stopped\.json: made with seed = 2"):
        run(CONFIG, store, tmp_path / "trial")


@pytest.mark.parametrize("damage", [truncated, zeroed, emptied])
def test_a_damaged_model_is_refused_and_made_again(trial, store, damage):
    model = trial / "model.pt"
    weights = load_model(model)[0].state_dict()
    damage(model, random.Random(1))
    with pytest.raises(CheckpointError, match=r"model\.pt: damaged"):
        load_model(model)
    assert run(CONFIG, store, trial)[-1].remarks == ()
    assert all(torch.equal(value, weights[name]) for name, value in load_model(model)[0].state_dict().items())


def test_a_lost_best_is_remarked_unless_the_model_has_it(trial, store):
    (trial / "best.pt").unlink()
    model = (trial / "model.pt").read_bytes()
    assert run(CONFIG, store, trial)[-1].remarks == ()
    assert (trial / "model.pt").read_bytes() == model
    (trial / "model.pt").unlink()
    assert run(CONFIG, store, trial)[-1].remarks == ("best.pt is lost; model.pt has epoch 3 in its place",)
    assert files.read(trial / "model.pt")["epoch"] == 3


def test_the_best_of_another_trial_is_not_exported(trial, store, tmp_path):
    run(CONFIG, store, tmp_path / "other", seed=2)
    (trial / "best.pt").unlink()
    (trial / "model.pt").unlink()
    shutil.copyfile(tmp_path / "other" / "best.pt", trial / "best.pt")
    assert run(CONFIG, store, trial)[-1].remarks == ("best.pt is lost; model.pt has epoch 3 in its place",)
    assert files.read(trial / "model.pt")["seed"] == 1


# --- a storage that refuses

PASSING = ["ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV"]


@pytest.mark.parametrize("name", [*PASSING, "ENXIO"])
def test_a_storage_that_comes_back_costs_nothing_but_the_wait(store, tmp_path, straight, monkeypatch, caplog, name):
    refused = Refusals(monkeypatch, "epoch-0002", getattr(errno, name), times=1)
    with caplog.at_level(logging.WARNING):
        reports = run(CONFIG, store, tmp_path, storage_patience=0.01)
    assert len(refused.names) == 1
    assert f"cannot be written now ({os.strerror(getattr(errno, name))}); trying again" in caplog.text
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert leftovers(tmp_path) == []
    monkeypatch.undo()
    assert_same(tmp_path, straight[0])


@pytest.mark.parametrize(
    ("name", "advice"), [("ENOSPC", "free some space"), ("EROFS", "make it writable"), ("ESTALE", "bring it back")]
)
def test_a_storage_that_stays_lost_ends_the_session_and_harms_nothing(
    store, tmp_path, straight, monkeypatch, name, advice
):
    watcher = Watcher()
    code = getattr(errno, name)
    told = []
    with monkeypatch.context() as patch:
        Refusals(patch, "epoch-0002", code)
        running = train(
            CONFIG, store, tmp_path, seed=1, device="cpu", callbacks=[watcher], keep=1, storage_patience=0.01
        )
        with pytest.raises(StorageLostError, match=rf"epoch-0002: {os.strerror(code)}; {advice}") as lost:
            told.extend(report.epoch for report in running)
    assert lost.value.exit_status == 130
    assert told == [1, 2]
    assert max(watcher.batches) == 3  # the epoch that was under way
    assert (epochs_in(tmp_path), leftovers(tmp_path)) == ([1], [])
    assert run(CONFIG, store, tmp_path, after_epoch=2)[-1].remarks == ()
    assert_same(tmp_path, straight[0])


@pytest.mark.parametrize("name", ["EACCES", "ENOTDIR", "EINVAL"])
def test_what_waiting_does_not_help_fails_at_once(store, tmp_path, monkeypatch, name):
    refused = Refusals(monkeypatch, "epoch-0001", getattr(errno, name))
    with pytest.raises(StorageError, match="epoch-0001: cannot be written") as error:
        run(CONFIG, store, tmp_path, storage_patience=60)
    assert not isinstance(error.value, StorageLostError)
    assert len(refused.names) == 1
    assert leftovers(tmp_path) == []


def test_the_error_of_a_full_storage_is_not_lost_in_torch(tmp_path, monkeypatch):
    opened = []
    open_path = Path.open

    def full_at_first(path, *mode):
        opened.append(path)
        return open_path(Path("/dev/full") if len(opened) <= 2 else path, *mode)

    monkeypatch.setattr(Path, "open", full_at_first)
    content = {"weights": torch.zeros(100_000)}
    with pytest.raises(StorageLostError, match=r"epoch-0001: No space left on device; free some space"):
        files.write_epoch(tmp_path, 1, content)
    assert list(tmp_path.iterdir()) == []
    files.write_epoch(tmp_path, 1, content, StoragePatience(0.01))
    assert (len(opened), epochs_in(tmp_path), leftovers(tmp_path)) == (3, [1], [])


def test_a_checkpoint_that_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: disk._replace(free=399_999))
    with pytest.raises(StorageLostError, match="No space left on device"):
        files.write_epoch(tmp_path, 1, {"weights": [torch.zeros(100_000)]})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: disk._replace(total=0, free=0))  # does not say
    files.write_epoch(tmp_path, 1, {"weights": [torch.zeros(100_000)]})


def test_closing_gives_up_what_is_tried_again(store, tmp_path, monkeypatch, caplog):
    refused = Refusals(monkeypatch, "epoch-0002", errno.ENOSPC)
    running = train(CONFIG, store, tmp_path, seed=1, device="cpu", storage_patience=20)
    assert [next(running).epoch, next(running).epoch] == [1, 2]
    running.close()
    assert len(refused.names) <= 3
    assert "epoch-0002: No space left on device" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {
        files.epoch_files(tmp_path)[0].name, "best.pt", "model.pt",
    }  # fmt: skip
    assert epochs_in(tmp_path) == [1]


def test_a_folder_that_is_gone_for_a_while_is_waited_for_and_never_made_anew(store, tmp_path, straight, monkeypatch):
    trial, away = tmp_path / "mount" / "trial", tmp_path / "away"
    running = train(CONFIG, store, trial, seed=1, device="cpu", storage_patience=0.01)
    next(running)
    next(running)
    checkpoints = len(epochs_in(trial))
    trial.parent.rename(away)
    with pytest.raises(StorageLostError, match="No such file or directory; bring it back"):
        list(running)
    with pytest.raises(StorageLostError, match="cannot hold checkpoints"):
        run(CONFIG, store, trial, after_epoch=2, storage_patience=0.01)
    assert not trial.parent.exists()
    away.rename(trial.parent)
    assert 1 <= checkpoints <= len(epochs_in(trial))
    run(CONFIG, store, trial, after_epoch=2)
    assert_same(trial, straight[0])


@pytest.mark.parametrize("word", ["stopped.json", ".model."])
def test_the_other_files_of_a_trial_are_waited_for_too(store, tmp_path, monkeypatch, word):
    refused = Refusals(monkeypatch, word, errno.ENOSPC, times=1)
    stop = {"callbacks": [Watcher(stop_in=2)]}
    assert run(CONFIG, store, tmp_path / "back", **stop, storage_patience=0.01)[-1].stop_reason == "enough"
    assert len(refused.names) == 1
    Refusals(monkeypatch, word, errno.ENOSPC)
    with pytest.raises(StorageLostError, match="No space left on device"):
        run(CONFIG, store, tmp_path / "lost", **stop, storage_patience=0.01)
    assert (epochs_in(tmp_path / "lost"), leftovers(tmp_path / "lost")) == ([1], [])


def test_a_picture_that_cannot_be_kept_does_not_fail_a_finished_trial(store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        Refusals(patch, "detections.png", errno.ENOSPC)
        last = run(CONFIG, store, tmp_path, storage_patience=0.01)[-1]
    assert last.stop_reason == "completed"
    assert last.remarks[0].startswith("no picture was drawn")
    assert not (tmp_path / "detections.png").exists()
    assert run(CONFIG, store, tmp_path)[-1].remarks == ()
    assert (tmp_path / "detections.png").exists()


def test_an_error_of_the_storage_is_not_taken_for_damage(trial, store, monkeypatch):
    digest = files.hashlib.file_digest
    failures = []

    def failing(times):
        def read(file, name):
            if len(failures) < times:
                failures.append(file.name)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return digest(file, name)

        return read

    monkeypatch.setattr(files.hashlib, "file_digest", failing(times=1))
    reports = run(CONFIG, store, trial, after_epoch=3, storage_patience=0.01)
    assert len(failures) == 1
    assert (len(reports), reports[0].remarks) == (1, ())
    monkeypatch.setattr(files.hashlib, "file_digest", failing(times=10**9))
    before = sorted(trial.iterdir())
    with pytest.raises(StorageLostError, match=r"epoch-0003-.*: Input/output error; bring it back"):
        run(CONFIG, store, trial, storage_patience=0.01)
    assert sorted(trial.iterdir()) == before


def test_an_error_while_a_checkpoint_is_unpacked_is_not_damage_either(trial, monkeypatch):
    memory = files._WatchedFile("/proc/self/mem")  # whose first page the kernel refuses to read, with EIO
    with memory, pytest.raises(OSError, match="Input/output error") as error:
        memory.readinto(bytearray(10))
    assert memory.error is error.value

    def readinto(self, buffer):
        self.error = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        raise self.error

    monkeypatch.setattr(files._WatchedFile, "readinto", readinto)
    for read in (lambda: files.newest_epoch(trial), lambda: files.read(trial / "best.pt"), lambda: export_model(trial)):
        with pytest.raises(StorageLostError, match=r"\.pt: Stale file handle"):
            read()
    (trial / "stopped.json").symlink_to("/proc/self/mem")
    with pytest.raises(StorageLostError, match=r"stopped\.json: Input/output error"):
        files.read_record(trial / "stopped.json")


# --- a real file system


@contextmanager
def mounted(path, megabytes):
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this process may not mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_small_disk_fills_up_and_is_freed(store, tmp_path, monkeypatch):
    config = with_values(CONFIG, {"training.epochs": 4})
    with tiny_detectors(ballast=1_000_000):  # 12 MB a checkpoint, of the best epoch the first
        run(config, store, tmp_path / "straight")
        with mounted(tmp_path / "disk", 64) as disk:
            (disk / "other").write_bytes(bytes(36_000_000))
            with pytest.raises(StorageLostError, match=r"epoch-0003: No space left on device"):
                run(config, store, disk / "trial", storage_patience=0.01)
            assert (epochs_in(disk / "trial"), leftovers(disk / "trial")) == ([2, 1], [])
            (disk / "other").unlink()
            run(config, store, disk / "trial", after_epoch=3)
            assert_same(disk / "trial", tmp_path / "straight")


def test_a_disk_that_turns_read_only(store, tmp_path, straight):
    with mounted(tmp_path / "disk", 8) as disk:

        def remount(mode):
            subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)

        running = train(CONFIG, store, disk / "trial", seed=1, device="cpu", storage_patience=0.01)
        next(running)
        next(running)
        running.close()
        remount("ro")
        before = sorted((disk / "trial").iterdir())
        with pytest.raises(StorageLostError, match="epoch-0003: Read-only file system; make it writable"):
            run(CONFIG, store, disk / "trial", after_epoch=2, storage_patience=0.01)
        assert sorted((disk / "trial").iterdir()) == before
        remount("rw")
        run(CONFIG, store, disk / "trial", after_epoch=2)
        assert_same(disk / "trial", straight[0])
        remount("ro")
        assert [report.epoch for report in run(CONFIG, store, disk / "trial", after_epoch=3)] == [3]


# --- what is kept


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_of_the_newest_are_kept_and_the_best(store, tmp_path, monkeypatch, keep):
    monkeypatch.setattr(loop, "evaluate", scored(0.1, 0.5, 0.4, 0.3, 0.2))
    assert remarks_of(run(LONGER, store, tmp_path, keep=keep)) == []
    assert epochs_in(tmp_path) == [5, 4, 3][:keep]
    assert len(files.read(tmp_path / "best.pt")["progress"]["history"]) == 2


def test_retiring_keeps_as_many_as_it_is_told(trial):
    retire_checkpoints(trial, keep=2)
    assert epochs_in(trial) == [3, 2]
    retire_checkpoints(trial)
    assert epochs_in(trial) == [3]
    assert (trial / "best.pt").exists()
    retire_checkpoints(trial / "missing")


def test_pruning_takes_one_step_at_a_time_and_never_the_model(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "evaluate", scored(0.1, 0.5, 0.4, 0.3, 0.2))
    run(LONGER, store, tmp_path, keep=3)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    fifth, fourth, third = (path.name for path in files.epoch_files(tmp_path))
    left = [third, fourth, "best.pt", fifth]
    assert checkpoint_bytes(tmp_path) == sum(sizes[name] for name in left)
    while left:
        assert prune_checkpoint(tmp_path) == sizes[left.pop(0)]
        assert {path.name for path in tmp_path.iterdir()} == {*left, "model.pt", "detections.png"}
        assert checkpoint_bytes(tmp_path) == sum(sizes[name] for name in left)
    assert prune_checkpoint(tmp_path) == 0
    assert load_model(tmp_path / "model.pt")
    assert (checkpoint_bytes(tmp_path / "missing"), prune_checkpoint(tmp_path / "missing")) == (0, 0)


def test_links_to_one_file_count_once_and_go_together(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "evaluate", scored(0.1, 0.2, 0.3))
    run(CONFIG, store, tmp_path, keep=1)
    size = files.epoch_files(tmp_path)[0].stat().st_size
    assert (tmp_path / "best.pt").samefile(files.epoch_files(tmp_path)[0])
    assert checkpoint_bytes(tmp_path) == size
    assert prune_checkpoint(tmp_path) == size
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "detections.png"}


def test_a_pruned_best_leaves_its_model_as_it_is(trial, store):
    model = (trial / "model.pt").read_bytes()
    while (trial / "best.pt").exists():
        prune_checkpoint(trial)
    assert epochs_in(trial) == [3]
    export_model(trial)
    run(LONGER, store, trial, continue_after=3)
    assert (trial / "model.pt").read_bytes() == model
    assert files.read(trial / "model.pt")["epoch"] == 1


# --- too little memory


@pytest.mark.parametrize(("most", "size", "remarks"), [
    (2, 2, [f"{MEMORY}: micro-batch 4 -> 2 from epoch 1 on"]),
    (1, 1, [f"{MEMORY}: micro-batch 4 -> 2 from epoch 1 on", f"{MEMORY}: micro-batch 2 -> 1 from epoch 1 on"]),
])  # fmt: skip
def test_halved_passes_train_as_if_they_had_always_been_so_small(store, tmp_path, most, size, remarks):
    small = with_values(CONFIG, {"training.micro_batch_size": size})
    run(small, store, tmp_path / "small")
    watcher = Watcher()
    with tiny_detectors(most_trained=most):
        reports = run(HALVING, store, tmp_path / "halved", callbacks=[watcher])
    assert list(reports[0].remarks) == remarks
    assert remarks_of(reports[1:]) == []
    assert watcher.count == len(watcher.batches) == 6
    assert_same(tmp_path / "halved", tmp_path / "small")
    content = files.newest_epoch(tmp_path / "halved")[1]
    assert content["learner"]["micro_batch_size"] == size


def test_an_epoch_that_runs_out_of_memory_begins_again_from_its_checkpoint(store, tmp_path):
    trial, watcher = tmp_path / "trial", Watcher()
    running = train(HALVING, store, trial, seed=1, device="cpu", callbacks=[watcher])
    next(running)
    running.close()
    shutil.copytree(trial, tmp_path / "other")
    with tiny_detectors(most_trained=2):
        resumed = run(HALVING, store, trial, after_epoch=1, callbacks=[watcher])
        again = run(HALVING, store, tmp_path / "other", callbacks=[Watcher()])
    assert resumed[0].remarks == (f"{MEMORY}: micro-batch 4 -> 2 from epoch 2 on",)
    assert watcher.count == 6
    assert [len(report.remarks) for report in again] == [0, 1, 0]
    assert_same(trial, tmp_path / "other")


def test_a_resumed_trial_uses_the_reduced_size_at_once(store, tmp_path):
    with tiny_detectors(most_trained=2):
        running = train(HALVING, store, tmp_path, seed=1, device="cpu")
        next(running)
        running.close()
        assert remarks_of(run(HALVING, store, tmp_path, after_epoch=1)) == []
        assert remarks_of(run(LONGER, store, tmp_path, after_epoch=3)) == []  # though the option has changed


@pytest.mark.parametrize(
    ("config", "most", "message"),
    [
        (CONFIG, 2, "a pass of 4 tiles; set training.on_out_of_memory = halve_micro_batch, or a smaller"),
        (HALVING, 0, "a pass of a single tile; use smaller tiles"),
    ],
)
@pytest.mark.parametrize("where", ["most_trained", "most_evaluated"])
def test_too_little_memory_in_the_end_fails_in_one_line(store, tmp_path, config, most, message, where):
    with tiny_detectors(**{where: most}), pytest.raises(TrainingError, match=message) as error:
        run(config, store, tmp_path)
    assert str(error.value).startswith(f"{MEMORY}. Tried to allocate ")
    assert "\n" not in str(error.value)
    assert "total capacity" not in str(error.value)


@pytest.mark.parametrize("most", [1, 2])
def test_evaluation_in_parts_has_the_same_metrics(store, tmp_path, straight, most):
    with tiny_detectors(most_evaluated=most):
        reports = run(HALVING, store, tmp_path)
    steps = [f"{MEMORY}: evaluation batch 4 -> 2", f"{MEMORY}: evaluation batch 2 -> 1"]
    assert list(reports[0].remarks) == steps[: 3 - most]
    assert remarks_of(reports[1:]) == []
    assert_same(tmp_path, straight[0])


# --- on after the end


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_completed_trial_goes_on_as_if_it_had_been_longer(trial, store, straight, interrupted):
    retire_checkpoints(trial)
    if interrupted:
        running = train(LONGER, store, trial, seed=1, device="cpu", after_epoch=3, continue_after=3)
        assert next(running).epoch == 4
        running.close()
    reports = run(LONGER, store, trial, after_epoch=3, continue_after=3)
    assert [(report.epoch, report.stop_reason) for report in reports] == [(4, None), (5, "completed")]
    assert remarks_of(reports) == []
    assert_same(trial, straight[1])


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_trial_that_a_callback_stopped_goes_on(store, tmp_path, straight, interrupted):
    stopped = run(LONGER, store, tmp_path, callbacks=[Watcher(stop_in=3)])
    assert (stopped[-1].epoch, stopped[-1].stop_reason) == (2, "enough")
    options = {"continue_after": 2, "after_epoch": 2}
    if interrupted:
        running = train(LONGER, store, tmp_path, seed=1, device="cpu", callbacks=[Watcher()], **options)
        assert next(running).epoch == 3
        running.close()
    reports = run(LONGER, store, tmp_path, callbacks=[Watcher()], **options)
    assert [report.epoch for report in reports] == [3, 4, 5]
    assert_same(tmp_path, straight[1])
    assert not (tmp_path / "stopped.json").exists()


def test_a_second_stop_ends_the_trial_that_went_on(store, tmp_path):
    run(LONGER, store, tmp_path, callbacks=[Watcher(stop_in=3)])
    for batches in ([3], []):  # the second time from what is on disk
        watcher = Watcher(stop_in=3)
        (last,) = run(LONGER, store, tmp_path, callbacks=[watcher], continue_after=2, after_epoch=2)
        assert (last.epoch, last.stop_reason) == (2, "enough")
        assert watcher.batches == batches
    assert json.loads((tmp_path / "stopped.json").read_text())["continue_after"] == 2


@pytest.mark.parametrize("interrupted", [False, True])
def test_patience_counts_anew_from_where_a_trial_goes_on(store, tmp_path, monkeypatch, interrupted):
    config = with_values(CONFIG, {"training.patience": 2, "training.epochs": 9})
    values = dict(enumerate([0.5, 0.4, 0.3, 0.2, 0.1, 0.6, 0.1], start=1))
    epoch = iter(values)
    monkeypatch.setattr(loop, "evaluate", lambda detect, batches, **options: {"map_50": values[next(epoch)]})
    first = run(config, store, tmp_path)
    assert [report.stop_reason for report in first] == [None, None, "early_stopping"]
    assert run(config, store, tmp_path, after_epoch=3) == first[-1:]
    options = {"after_epoch": 3, "continue_after": 3}
    if interrupted:
        running = train(config, store, tmp_path, seed=1, device="cpu", **options)
        assert next(running).epoch == 4
        running.close()
    reports = run(config, store, tmp_path, **options)
    assert [(report.epoch, report.stop_reason) for report in reports] == [(4, None), (5, "early_stopping")]
    assert run(config, store, tmp_path, after_epoch=5, continue_after=3) == reports[-1:]
    again = run(with_values(config, {"training.epochs": 7}), store, tmp_path, after_epoch=5, continue_after=5)
    assert [(report.epoch, report.stop_reason) for report in again] == [(6, None), (7, "completed")]


def test_going_on_needs_a_checkpoint(trial, store, tmp_path):
    for path in (*files.epoch_files(trial), trial / "best.pt"):
        flipped(path, random.Random(0))
    before = sorted(trial.iterdir())
    with pytest.raises(CheckpointError, match=r"continue from after epoch 3 \(epoch-.*are damaged\)"):
        run(LONGER, store, trial, continue_after=3)
    assert sorted(trial.iterdir()) == before
    with pytest.raises(CheckpointError, match=r"continue from after epoch 3 \(there is none\)"):
        run(LONGER, store, tmp_path / "empty", continue_after=3)


def test_going_on_from_an_older_checkpoint_says_so_and_arrives_at_the_same(trial, store, straight):
    newest = files.epoch_files(trial)[0]
    flipped(newest, random.Random(0))
    reports = run(LONGER, store, trial, after_epoch=3, continue_after=3)
    assert [report.epoch for report in reports] == [4, 5]
    assert reports[0].remarks == (f"{newest.name} is damaged; went on from epoch 2",)
    assert_same(trial, straight[1])


def test_a_trial_stopped_before_its_first_epoch_goes_on_from_its_seed(store, tmp_path, straight):
    (report,) = run(CONFIG, store, tmp_path, callbacks=[Watcher(stop_in=1)])
    assert (report.epoch, set(report.metrics)) == (0, set(metric_names(CONFIG)))
    assert remarks_of(run(CONFIG, store, tmp_path, callbacks=[Watcher()], continue_after=0)) == []
    assert_same(tmp_path, straight[0])
