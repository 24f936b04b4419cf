"""On a machine with an NVIDIA GPU: what several workers do, by NCCL; and two trials on one device."""

import json
from pathlib import Path

import pytest
import torch

from satdet.config import with_values
from satdet.training import Meeting, meet, train
from tests.site import Site
from tests.test_worker_trials import DECLARATION
from tests.test_workers import REAL
from tests.tiny import tiny_store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


def test_a_trial_goes_the_way_of_several_workers_on_one_gpu(tmp_path: Path) -> None:
    config = with_values(REAL, {"training.tiles_per_epoch": 4})
    store = tiny_store(tmp_path / "store")
    expected = list(train(config, store, tmp_path / "alone", seed=7))
    with meet(Meeting(rank=0, count=1, file=tmp_path / "meeting", seconds=120)) as workers:
        reports = list(train(config, store, tmp_path / "one", seed=7, workers=workers))
    assert [report.epoch for report in reports] == [1, 2]
    assert reports[0].metrics["loss"] == pytest.approx(expected[0].metrics["loss"], rel=1e-3)


def test_two_trials_share_one_gpu(tmp_path: Path) -> None:
    site = Site(tmp_path, DECLARATION)
    flags = ("--smoke", "--gpus-per-trial", "0.5", "--set", "optimizer.momentum=0.8", "--wandb", "off", "--json")
    done = site.run(*flags)
    trials = json.loads(done.stdout)["trials"]
    assert [trial["status"] for trial in trials] == ["finished", "failed", "finished"], done.stderr
    begun = [trial for trial in trials if trial["status"] == "finished"]
    assert all(trial["epochs"] == 3 for trial in begun)
