"""A search whose trials have two workers each, under real Ray: one is lost, one trial fails, and a resume has one."""

import json
import os
import signal
import time

import psutil
import pytest

from experiments.busy import BusyWatch
from experiments.live import LiveSearch
from experiments.record import read_record
from experiments.resources import TrialResources
from experiments.trial_run import Outcome
from experiments.worker_group import common
from satdet.errors import LostWorkerError
from tests.searches import begin
from tests.site import Site

DECLARATION = """
from search_spaces.declare import *

EXPERIMENT = Experiment(
    name="tiny",
    question="Which learning rate?",
    base=REPORT_PROTOCOL,
    space=SearchSpace({"optimizer.learning_rate": Choice(1e-3, 1e18, 1e-4)}),
    objective=Maximise("map_50"),
    searcher=Grid(),
    smoke=smoke_of(
        {"tiles.size": 64, "detector.backbone": "resnet18", "training.epochs": 3, "training.batch_size": 4,
         "training.tiles_per_epoch": 8, "detector.max_detections": 60, "optimizer.name": "sgd"},
        frames=3, size=256,
    ),
)
"""


def trial_workers(driver: int) -> list[int]:
    """Processes of a driver's own Ray that train a trial together with others."""
    below = psutil.Process(driver).children(recursive=True)
    return sorted(each.pid for each in below if " ".join(each.cmdline()).startswith("ray::TrialWorker"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("workers"), DECLARATION)
    flags = ("--smoke", "--trials", "2", "--workers-per-trial", "2", "--cpus-per-trial", "2", "--wandb", "off")
    process = site.start(*flags, "--json")
    site.wait_for_results(process, 1)
    lost_at = time.monotonic()
    workers = trial_workers(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    while not any(event["kind"] == "retried" for event in read_record(site.search / "record.jsonl")):
        assert time.monotonic() < lost_at + 60, "nobody noticed"
        time.sleep(0.1)
    noticed = time.monotonic() - lost_at
    out, err = process.communicate(timeout=300)
    resumed = site.run("--smoke", "--resume", "--trials", "3", "--workers-per-trial", "1", "--json")
    return site, workers, noticed, (process.returncode, out, err), resumed


def test_a_lost_worker_ends_the_attempt_within_30_seconds_and_the_trial_is_tried_again(searched):
    site, workers, noticed, (status, out, err), _ = searched
    assert len(workers) == 2
    assert noticed < 30
    assert status == 3, err  # the other trial fails
    trial = json.loads(out)["trials"][0]
    assert (trial["status"], trial["epochs"]) == ("finished", 3)
    events = read_record(site.search / "record.jsonl")
    (retried,) = [event for event in events if event["kind"] == "retried"]
    assert retried["trial"] == "t0000" and "worker" in retried["error"] and "lost" in retried["error"]
    epochs = [event["epoch"] for event in events if event["kind"] == "result" and event["trial"] == "t0000"]
    assert epochs == [1, 2, 3]
    assert (site.search / "trials" / "t0000" / "model.pt").exists()
    hardware = [event["hardware"] for event in events if event["kind"] == "result" and event["trial"] == "t0000"]
    assert all(each.startswith("2 x ") for each in hardware)


def test_a_failure_of_two_workers_is_the_trials_own(searched):
    site, _, _, (_, out, _), _ = searched
    failed = json.loads(out)["trials"][1]
    assert failed["status"] == "failed" and "NonFiniteLossError" in failed["error"]
    assert "NonFiniteLossError" in (site.search / "trials" / "t0001" / "error.txt").read_text()
    begun = [event for event in read_record(site.search / "record.jsonl") if event["kind"] == "started"]
    assert [event["trial"] for event in begun].count("t0001") == 1  # it is not tried again


def test_a_resume_may_have_another_number_of_workers(searched):
    site, _, _, _, resumed = searched
    assert resumed.returncode == 3, resumed.stderr
    third = json.loads(resumed.stdout)["trials"][2]
    assert (third["status"], third["epochs"]) == ("finished", 3)
    begun = [event for event in read_record(site.search / "record.jsonl") if event["kind"] == "started"]
    assert [(event["trial"], event["workers"]) for event in begun] == [
        ("t0000", 2), ("t0000", 2), ("t0001", 2), ("t0002", 1),
    ]  # fmt: skip


def test_what_cannot_be_divided_or_placed_is_refused(tmp_path):
    site = Site(tmp_path, DECLARATION)
    wide = site.run("--smoke", "--workers-per-trial", "64", "--wandb", "off")
    assert wide.returncode == 2
    assert "a trial asks for 64 CPUs and 0 GPUs for 64 workers; there are" in wide.stderr
    assert "Traceback" not in wide.stderr


def outcome(*remarks, error=None, lost_another=False):
    result = {"epoch": 1, "remarks": list(remarks)} if error is None else {"epoch": 0, "error": error}
    return Outcome(result=result, failed=error is not None, lost_another=lost_another)


def test_what_several_workers_say_is_the_leaders_word_or_the_cause_of_a_failure():
    said = common({1: outcome("no copy here", "slow"), 0: outcome("slow")})
    assert said.result == {"epoch": 1, "remarks": ["slow", "no copy here"]}
    gone = outcome(error="LostWorkerError: no answer", lost_another=True)
    assert common({0: gone, 1: outcome(error="ValueError: bad")}).result["error"] == "ValueError: bad"
    with pytest.raises(LostWorkerError, match="no answer"):
        common({1: gone, 0: outcome()})


def test_a_busy_cluster_is_said_once_a_minute(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("experiments.busy.time.monotonic", lambda: now[0])
    said: list[str] = []
    watch = BusyWatch(TrialResources(cpus=4, gpus=1.0, concurrency=2), lambda: "1 CPUs and 0 GPUs", said.append)
    with begin(tmp_path / "record.jsonl") as record:
        live = LiveSearch(record)
        live.listen(watch.event)
        live.note("suggested", trial="t0000", values={"detector.backbone": "resnet18"}, seed=0)
        for seconds in (10, 21, 50, 82):
            now[0] = 1000.0 + seconds
            watch.look(live.state)
        needs = "it takes 4 CPUs and 1 GPUs a trial, and 1 CPUs and 0 GPUs are free now"
        assert said == [f"waiting for room on the cluster: {needs}"] * 2
        live.note("started", trial="t0000")
        now[0] = 2000.0
        watch.look(live.state)
        assert len(said) == 2
