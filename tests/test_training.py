"""Training at its boundary: real tiles, a real detector, real files, a real kill."""

import json
import logging
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from satdet.config import TrialConfig, metric_names, with_values
from satdet.data.store import TileStore, TileStoreWriter
from satdet.errors import CheckpointError, ConfigError, NonFiniteLossError, StorageError
from satdet.metrics import DetectionMetrics
from satdet.training import (
    BatchProgress,
    Callback,
    SpeedGuard,
    StopTraining,
    export_model,
    files,
    hardware,
    hardware_name,
    load_model,
    retire_checkpoints,
    train,
)
from satdet.training.progress import Progress

SIZE = 64
BATCHES = 2
CONFIG = with_values(
    TrialConfig(),
    {
        "tiles.size": SIZE,
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.rpn_samples": 64,
        "detector.box_samples": 32,
        "detector.proposals_before_nms": 200,
        "detector.proposals_after_nms": 50,
        "detector.max_detections": 30,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 1e-3,
        "optimizer.max_gradient_norm": 10.0,
        "training.batch_size": 4,
        "training.epochs": 3,
        "training.patience": None,
    },
)
TIMINGS = {"images_per_second", "seconds", "seconds_training", "seconds_evaluation"}


class Recorder(Callback):
    """Keeps what it is shown, and counts in its state."""

    def __init__(self):
        self.batches = []
        self.epochs = []
        self.count = 0

    def on_batch_end(self, progress):
        self.batches.append(progress)
        self.count += 1

    def on_epoch_end(self, report):
        self.epochs.append(report.epoch)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The same number of threads in each process, on which the last bit of sums depends; one suits a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_litter(tmp_path):
    """A checkpoint has 340 MB; pytest would keep those of three runs."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eight training and four validation tiles with three bright blobs each."""
    path = tmp_path_factory.mktemp("tiles") / "store"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    with TileStoreWriter(path, SIZE) as writer:
        for number in range(12):
            image = rng.normal(size=(SIZE, SIZE))
            centres = rng.uniform(8, SIZE - 8, (3, 2))
            for x, y in centres:
                image += 40 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 12)
            boxes = np.hstack([centres - 6, centres + 6]).astype(np.float32)
            split = "train" if number < 8 else "validation"
            writer.add(image, boxes, np.empty((0, 4)), frame=0, split=split, origin=(0, 0))
        writer.finish({"config": {"size": SIZE}, "frames": [{"name": "frame"}], "counts": {}})
    return TileStore.open(path)


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory):
    """Three epochs without an interruption: directory, reports, callback."""
    directory = tmp_path_factory.mktemp("straight")
    recorder = Recorder()
    reports = list(train(CONFIG, store, directory, seed=1, callbacks=[recorder], device="cpu"))
    yield directory, reports, recorder
    shutil.rmtree(directory)


def copy_files(source, target, *patterns):
    target.mkdir()
    for pattern in patterns:
        for path in source.glob(pattern):
            shutil.copyfile(path, target / path.name)
    return target


def newest(directory):
    path, content, _ = files.newest_epoch(directory)
    assert path is not None
    return content


def flip_a_byte(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def timeless(report):
    return {key: value for key, value in report.metrics.items() if key not in TIMINGS}


def assert_same_course(directory, other):
    """Weights, optimizer and metrics of the newest checkpoints are equal to the bit."""
    first, second = newest(directory), newest(other)
    assert first["learner"].keys() == second["learner"].keys()
    for weights in {"model", "ema"} & first["learner"].keys():
        assert first["learner"][weights].keys() == second["learner"][weights].keys()
        for name, value in first["learner"][weights].items():
            assert torch.equal(value, second["learner"][weights][name]), name
    for number, state in first["learner"]["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, second["learner"]["optimizer"]["state"][number][name]), (number, name)
    assert first["learner"]["steps"] == second["learner"]["steps"]
    assert torch.equal(first["learner"]["random"]["torch"], second["learner"]["random"]["torch"])


# --- an uninterrupted trial


def test_every_epoch_reports_all_metrics_finite(straight):
    _, reports, _ = straight
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert [report.stop_reason for report in reports] == [None, None, "completed"]
    for report in reports:
        assert set(report.metrics) == set(metric_names(CONFIG))
        assert all(type(value) is float and math.isfinite(value) for value in report.metrics.values())
        parts = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
        assert report.metrics["loss"] == pytest.approx(sum(report.metrics[part] for part in parts))
        assert report.metrics["learning_rate"] == pytest.approx(1e-3)
        assert report.metrics["parameters"] == report.metrics["parameters_trained"] == 28_277_209
        assert report.metrics["images_per_second"] == pytest.approx(8 / report.metrics["seconds_training"])
    best = np.maximum.accumulate([report.metrics["map_50"] for report in reports])
    assert [report.metrics["best_map_50"] for report in reports] == best.tolist()
    assert [report.improved for report in reports] == [True, *(np.diff(best) > 0).tolist()]


def test_the_loss_falls_and_every_parameter_is_trained(straight):
    directory, reports, _ = straight
    assert reports[2].metrics["loss"] < 0.8 * reports[0].metrics["loss"]
    newer, older = (files.read(path)["learner"]["model"] for path in files.epoch_files(directory))
    detector, _ = load_model(directory / files.MODEL)
    for name, parameter in detector.named_parameters():
        assert parameter.requires_grad, name
        assert not torch.equal(newer[name], older[name]), name


def test_callbacks_see_every_batch_and_epoch(straight):
    _, reports, recorder = straight
    assert [(each.epoch, each.batch, each.batches, each.images) for each in recorder.batches] == [
        (epoch, batch, BATCHES, 4) for epoch in (1, 2, 3) for batch in (1, 2)
    ]
    assert recorder.epochs == [1, 2, 3]
    for report in reports:
        seconds = sum(each.seconds for each in recorder.batches if each.epoch == report.epoch)
        assert 0 < seconds <= report.metrics["seconds_training"]


def test_the_files_of_a_finished_trial(straight):
    directory, reports, _ = straight
    epochs = files.epoch_files(directory)
    assert [files.epoch_of(path) for path in epochs] == [3, 2]
    best = max(report.epoch for report in reports if report.improved)
    names = {*(path.name for path in epochs), "best.pt", "model.pt", "detections.png"}
    assert {path.name for path in directory.iterdir()} == names
    content = torch.load(directory / "best.pt", weights_only=True)
    assert len(content["progress"]["history"]) == best
    assert set(content) == {"format", "identity", "learner", "progress", "callbacks"}
    assert content["identity"]["config"]["optimizer.learning_rate"] == 1e-3
    assert (directory / "detections.png").read_bytes().startswith(b"\x89PNG")
    if best >= 2:
        assert (directory / "best.pt").samefile(epochs[3 - best])


def test_the_model_is_the_best_epochs_and_detects(straight, store):
    directory, reports, _ = straight
    detector, config = load_model(directory / "model.pt")
    assert config == CONFIG
    assert not detector.training
    best = files.read(directory / "best.pt")["learner"]["model"]
    assert all(torch.equal(value, best[name]) for name, value in detector.state_dict().items())
    content = files.read(directory / "model.pt")
    assert content["metrics"]["map_50"] == max(report.metrics["map_50"] for report in reports)
    assert content["normalisation"] == "clipped_sigma"
    assert (directory / "model.pt").stat().st_size < 0.4 * (directory / "best.pt").stat().st_size
    with torch.inference_mode():
        found = detector(torch.zeros(1, 1, SIZE, SIZE))
    assert len(found) == 1
    assert found[0]["boxes"].shape[1:] == (4,)


# --- the end is told again, and nothing is trained


@pytest.mark.parametrize(("after", "epochs"), [(3, [3]), (1, [2, 3])])
def test_a_finished_trial_tells_its_last_report_again(straight, store, after, epochs):
    directory, reports, _ = straight
    recorder = Recorder()
    again = list(train(CONFIG, store, directory, seed=1, after_epoch=after, callbacks=[recorder], device="cpu"))
    assert again == reports[epochs[0] - 1 :]
    assert again[-1].stop_reason == "completed"
    assert recorder.batches == []


# --- interruption


def test_a_killed_trial_resumes_to_the_same_bits(straight, store, tmp_path):
    directory, reports, straight_recorder = straight
    victim = tmp_path / "victim"
    script = f"""
        import os, signal, time, torch
        from pathlib import Path
        from satdet.data.store import TileStore
        from satdet.training import train
        from tests.test_training import CONFIG, Recorder

        class Killer(Recorder):
            def on_batch_end(self, progress):
                super().on_batch_end(progress)
                if progress.epoch == 2:
                    while not list(Path({str(victim)!r}).glob("epoch-0001-*.pt")):
                        time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGKILL)

        Killer.__name__ = "Recorder"
        torch.set_num_threads(1)
        for _ in train(CONFIG, TileStore.open({str(store.path)!r}), Path({str(victim)!r}), seed=1,
                       callbacks=[Killer()], device="cpu"):
            pass
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (victim / ".epoch-0002.tmp").write_bytes(b"half a checkpoint")
    (victim / "epoch-0002.pt").write_bytes(b"not a name of ours")

    torch.manual_seed(12345)  # whatever the process drew before must not matter
    recorder = Recorder()
    resumed = list(train(CONFIG, store, victim, seed=1, callbacks=[recorder], device="cpu"))
    assert [report.epoch for report in resumed] == [1, 2, 3]
    assert [timeless(report) for report in resumed] == [timeless(report) for report in reports]
    assert [report.stop_reason for report in resumed] == [None, None, "completed"]
    assert_same_course(victim, directory)
    assert [each.epoch for each in recorder.batches] == [2, 2, 3, 3]
    assert recorder.count == straight_recorder.count
    assert not list(victim.glob(".*.tmp"))


def test_a_trial_that_averages_accumulates_and_alternates_resumes_to_the_same_bits(store, tmp_path):
    values = {
        "detector.freezing.mode": "alternating", "detector.freezing.period": 1,
        "optimizer.name": "sgd", "optimizer.schedule": "step", "optimizer.step_epochs": 1, "optimizer.warmup_steps": 1,
        "training.ema_decay": 0.8, "training.micro_batch_size": 3,
    }  # fmt: skip
    config = with_values(CONFIG, values)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    reports = list(train(config, store, straight, seed=1, device="cpu"))
    for after in (0, 1):  # ends each process after one epoch: one frozen, one not
        running = train(config, store, broken, seed=1, device="cpu", after_epoch=after)
        next(running)
        running.close()
    resumed = list(train(config, store, broken, seed=1, device="cpu"))
    assert [timeless(report) for report in resumed] == [timeless(report) for report in reports]
    assert_same_course(broken, straight)
    totals = [report.metrics["parameters"] for report in reports]
    trained = [report.metrics["parameters_trained"] for report in reports]
    assert trained[0] == trained[2] < trained[1] == totals[0] == totals[2]
    assert [report.metrics["learning_rate"] for report in reports] == pytest.approx([1e-3, 1e-4, 1e-5])
    learner = files.read(straight / "best.pt")["learner"]
    exported = load_model(straight / "model.pt")[0].state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in learner["ema"].items())
    assert not torch.equal(learner["model"]["rpn.head.cls_logits.weight"], exported["rpn.head.cls_logits.weight"])


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(straight, store, tmp_path, caplog):
    directory, reports, _ = straight
    copied = copy_files(directory, tmp_path / "copy", "epoch-*.pt", "best.pt")
    damaged = files.epoch_files(copied)[0]
    flip_a_byte(damaged)
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        again = list(train(CONFIG, store, copied, seed=1, callbacks=[recorder], device="cpu"))
    assert damaged.name in caplog.text
    assert [each.epoch for each in recorder.batches] == [3, 3]
    assert [timeless(report) for report in again] == [timeless(report) for report in reports]
    assert_same_course(copied, directory)
    assert [files.epoch_of(path) for path in files.epoch_files(copied)] == [3, 2]


def test_a_retired_trial_keeps_its_newest_and_its_best(straight, tmp_path):
    directory, _, _ = straight
    copied = copy_files(directory, tmp_path / "copy", "epoch-*.pt", "best.pt")
    retire_checkpoints(copied)
    assert [files.epoch_of(path) for path in files.epoch_files(copied)] == [3]
    assert (copied / "best.pt").exists()


def test_a_truncated_checkpoint_is_passed_over(straight, tmp_path):
    directory, _, _ = straight
    copied = copy_files(directory, tmp_path / "copy", "epoch-*.pt")
    torn = files.epoch_files(copied)[0]
    os.truncate(torn, 1000)
    path, content, damaged = files.newest_epoch(copied)
    assert damaged == [torn]
    assert files.epoch_of(path) == 2
    assert len(content["progress"]["history"]) == 2
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        files.read(torn)


def test_a_damaged_best_file_is_replaced_by_the_newest_in_the_export(straight, tmp_path, caplog):
    directory, _, _ = straight
    copied = copy_files(directory, tmp_path / "copy", "epoch-0003-*.pt", "best.pt")
    flip_a_byte(copied / "best.pt")
    with caplog.at_level(logging.WARNING):
        model = files.read(export_model(copied))
    assert "is exported in its place" in caplog.text
    assert model["epoch"] == 3
    shutil.rmtree(copied)
    copied.mkdir()
    with pytest.raises(CheckpointError, match="no whole checkpoint to export"):
        export_model(copied)


def test_a_closed_generator_leaves_a_model_and_another_trial_is_refused(store, tmp_path):
    running = train(CONFIG, store, tmp_path, seed=1, device="cpu")
    assert next(running).epoch == 1
    running.close()
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "model.pt", files.epoch_files(tmp_path)[0].name}
    assert load_model(tmp_path / "model.pt")[1] == CONFIG

    other = with_values(CONFIG, {"optimizer.learning_rate": 2e-3})
    with pytest.raises(CheckpointError, match=r"optimizer.learning_rate = 0.001, this trial has 0.002"):
        next(train(other, store, tmp_path, seed=1))
    with pytest.raises(CheckpointError, match="seed = 1, this trial has 2"):
        next(train(CONFIG, store, tmp_path, seed=2))
    longer = with_values(CONFIG, {"training.epochs": 9, "training.patience": 3})
    resumed = train(longer, store, tmp_path, seed=1)
    assert next(resumed).epoch == 1
    resumed.close()


# --- ends before the last epoch


def test_early_stopping_and_a_validation_that_is_never_augmented(store, tmp_path, monkeypatch):
    seen = []
    update = DetectionMetrics.update

    def spy(self, predictions, targets, **sizes):
        seen.extend(target["boxes"] for target in targets)
        update(self, predictions, targets, **sizes)

    monkeypatch.setattr(DetectionMetrics, "update", spy)
    config = with_values(CONFIG, {"training.patience": 1, "training.min_improvement": 2.0, "training.epochs": 9})
    reports = list(train(config, store, tmp_path, seed=3, device="cpu"))
    assert [report.stop_reason for report in reports] == [None, "early_stopping"]
    validation = store.split("validation")
    assert len(seen) == 8
    for number, boxes in enumerate(seen):
        assert np.array_equal(boxes.numpy(), validation.boxes(number % 4))


def test_a_trial_stopped_before_its_first_epoch_reports_zeros(store, tmp_path):
    guard = SpeedGuard(iterations_per_second=1e9, warmup_batches=0)
    for _ in range(2):  # the second time from what is on disk
        (report,) = train(CONFIG, store, tmp_path, seed=1, callbacks=[guard], device="cpu")
        assert (report.epoch, report.improved, report.stop_reason) == (0, False, "slow_speed_global")
        assert report.metrics == dict.fromkeys(metric_names(CONFIG), 0.0)
    assert {path.name for path in tmp_path.iterdir()} == {"stopped.json"}
    stopped = json.loads((tmp_path / "stopped.json").read_text())
    assert (stopped["reason"], stopped["why"]) == (report.stop_reason, report.stop_detail)


def test_a_loss_that_is_not_finite_is_named_with_its_step(store, tmp_path):
    config = with_values(CONFIG, {"optimizer.learning_rate": 1e20, "optimizer.max_gradient_norm": None})
    with pytest.raises(NonFiniteLossError, match=r"^loss_\w+ is (nan|inf) in epoch 1, step 2; lower"):
        list(train(config, store, tmp_path, seed=1, device="cpu"))


# --- wrong input


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(ConfigError, match="batch_size = 9 is larger than the 8 training tiles"):
        next(train(with_values(CONFIG, {"training.batch_size": 9}), store, tmp_path / "trial", seed=1))
    assert not (tmp_path / "trial").exists()


def test_a_store_made_by_other_rules_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"tiles.size = 128, but .* was made with 64"):
        next(train(with_values(CONFIG, {"tiles.size": 128}), store, tmp_path, seed=1))


def test_a_directory_that_cannot_be_is_a_storage_error(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot hold checkpoints"):
        next(train(CONFIG, store, tmp_path / "file", seed=1))


def test_linking_the_best_file_again_leaves_nothing_behind(tmp_path):
    first, second = (files.write_epoch(tmp_path, epoch, {"epoch": epoch}) for epoch in (1, 2))
    for path in (first, first, second):
        files.link_best(path)
        assert (tmp_path / "best.pt").samefile(path)
    assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "best.pt"}


def test_a_full_disk_leaves_no_partial_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="epoch-0001: cannot be written"):
            files.write_epoch(tmp_path, 1, {"tensor": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_model_is_refused(tmp_path, straight):
    directory, _, _ = straight
    with pytest.raises(CheckpointError, match=r"best\.pt: not a model of format 1"):
        load_model(directory / "best.pt")
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_model(tmp_path / "model.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="it holds a list"):
        load_model(tmp_path / "list.pt")


# --- parts


def evaluated(map_50):
    return dict.fromkeys(["map", "map_50", "seconds_evaluation"], map_50)


def trained():
    return {"loss": 1.0, "seconds_training": 2.0}


def test_an_epoch_without_evaluation_carries_the_last_one_on():
    progress = Progress(with_values(CONFIG, {"evaluation.every": 2, "training.epochs": 5}))
    due = [progress.evaluation_due(epoch) for epoch in range(1, 6)]
    assert due == [False, True, False, True, True]
    values = [None, 0.5, None, 0.25, 0.75]
    reports = [progress.record(trained(), None if value is None else evaluated(value)) for value in values]
    assert [report.metrics["map_50"] for report in reports] == [0.0, 0.5, 0.5, 0.25, 0.75]
    assert [report.metrics["best_map_50"] for report in reports] == [0.0, 0.5, 0.5, 0.5, 0.75]
    assert [report.metrics["seconds_evaluation"] for report in reports] == [0.0, 0.5, 0.0, 0.25, 0.75]
    assert [report.improved for report in reports] == [False, True, False, False, True]
    assert all(set(report.metrics) == set(metric_names(CONFIG)) for report in reports)


def test_small_improvements_are_kept_but_do_not_delay_early_stopping():
    progress = Progress(
        with_values(CONFIG, {"training.patience": 2, "training.min_improvement": 0.1, "training.epochs": 9})
    )
    reports = [progress.record(trained(), evaluated(value)) for value in (0.2, 0.4, 0.45, 0.49)]
    assert [report.improved for report in reports] == [True] * 4
    assert [report.stop_reason for report in reports] == [None, None, None, "early_stopping"]


def test_patience_none_never_stops_early_and_more_epochs_reopen_a_trial():
    progress = Progress(CONFIG)
    reports = [progress.record(trained(), evaluated(0.0)) for _ in range(3)]
    assert [report.stop_reason for report in reports] == [None, None, "completed"]
    longer = Progress(with_values(CONFIG, {"training.epochs": 4}), progress.state_dict())
    past, last = longer.reports()
    assert [report.stop_reason for report in past] == [None] * 3
    assert last is None


def test_the_guard_averages_over_the_trial_and_leaves_warm_up_out():
    def batch(seconds):
        return BatchProgress(epoch=1, batch=1, batches=9, images=4, seconds=seconds)

    guard = SpeedGuard(images_per_second=2.0, warmup_batches=1)
    guard.on_batch_end(batch(100.0))
    guard.on_batch_end(batch(1.0))
    guard.on_batch_end(batch(2.9))  # alone too slow, on the average not
    resumed = SpeedGuard(images_per_second=2.0, warmup_batches=1)
    resumed.load_state_dict(guard.state_dict())
    resumed.on_batch_end(batch(100.0))
    with pytest.raises(StopTraining) as stop:
        resumed.on_batch_end(batch(2.2))
    assert stop.value.reason == "slow_speed_global"
    assert stop.value.why == "1.97 images/s on average over 3 batches; 2 needed"
    SpeedGuard(iterations_per_second=0.25, warmup_batches=0).on_batch_end(batch(3.9))
    with pytest.raises(StopTraining):
        SpeedGuard(iterations_per_second=0.25, warmup_batches=0).on_batch_end(batch(4.1))
    SpeedGuard(warmup_batches=0).on_batch_end(batch(1e9))


def test_the_guard_compares_with_what_is_usual_at_the_same_epoch_on_the_same_hardware():
    def rate(speed, epoch, **options):
        options = {"of_median": 0.5, "medians": {"this": [8.0, 4.0]}, "hardware": "this"} | options
        guard = SpeedGuard(warmup_batches=0, **options)
        guard.on_batch_end(BatchProgress(epoch=epoch, batch=1, batches=9, images=8, seconds=8 / speed))

    rate(4.1, epoch=1)
    with pytest.raises(StopTraining) as stop:
        rate(3.9, epoch=1)
    assert stop.value.reason == "slow_speed_global"
    assert stop.value.why == "3.9 images/s on average over 1 batch; 4 needed, 0.5 of the 8 that are usual on this"
    for epoch in (2, 3, 60):
        rate(2.1, epoch)
        with pytest.raises(StopTraining):
            rate(1.9, epoch)
    rate(0.1, epoch=1, hardware="other")
    rate(0.1, epoch=1, of_median=None)
    rate(0.1, epoch=1, medians=None)
    with pytest.raises(StopTraining, match="5 needed"):
        rate(4.1, epoch=1, images_per_second=5.0)


def test_hardware_has_a_name(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(hardware, "_CPU_INFO", info)
    monkeypatch.setattr(hardware.platform, "processor", lambda: "arm")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Device {device.index}")
    assert hardware_name(cpu, 2) == "arm, 2 threads"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU: 2 GHz\n\nprocessor\t: 1\nmodel name\t: Other\n")
    assert hardware_name(cpu, 1) == "Some CPU: 2 GHz, 1 thread"
    info.write_text("processor\t: 0\n")
    assert hardware_name(cpu, 2) == "arm, 2 threads"
    assert hardware_name(torch.device("cuda:1"), 2) == "Device 1"
