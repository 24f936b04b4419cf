"""Strategies, sweep files and evaluations at their boundary: the command, real Ray, real trainings."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from experiments.evaluation import PATHS
from experiments.record import read_record
from satdet.data.loading import evaluation_loader
from satdet.data.store import TileStore
from satdet.evaluate.data import evaluation_tiles
from satdet.evaluate.grid import evaluate_grid, grid_cells
from satdet.training import files
from satdet.training.export import open_model
from tests.site import Site

TINY = {
    "tiles.size": 64, "detector.backbone": "resnet18", "detector.version": "v1", "training.epochs": 2,
    "training.batch_size": 4, "training.tiles_per_epoch": 8, "detector.max_detections": 60,
}  # fmt: skip
DECLARATION = """
from search_spaces.declare import *

EXPERIMENT = Experiment(
    name="{name}",
    question="?",
    base=REPORT_PROTOCOL,
    objective=Maximise("map_50"),
    smoke=smoke_of({tiny}, frames=3, size=256),
    seeds=1,
    {rest}
)
"""
BRACKETS = """space=SearchSpace(
        {
            "optimizer": {"learning_rate": LogUniform(1e-4, 1e-2)},
            "recipe": Fragments(plain={}, averaged={"training.ema_decay": 0.9}),
        },
        conditions=(When("recipe == 'averaged'", {"optimizer.weight_decay": Choice(0.0, 1e-4)}),),
        constraints=(Forbid("optimizer.learning_rate > 9e-3", because="too large"),),
    ),
    searcher=BOHB(seed=3), trials=3, scheduler=Hyperband(reduction=2, min_epochs=1),
    first=({"optimizer.learning_rate": 1e-3, "recipe": "plain"},),
    stoppers=(Divergence(), SpeedGuard(of_median=0.01, min_finished=1)),"""
TARGET = """space=SearchSpace({"optimizer.learning_rate": LogUniform(1e-4, 1e-2)}),
    searcher=Random(), trials=4, stoppers=(Target(value=0.0),),"""
THRESHOLDS = """space=SearchSpace({"detector.nms_threshold": Choice(0.3, 0.7)}), searcher=Grid(), task="evaluate",
    pictures_of=({"detector.nms_threshold": 0.3},),"""
SWEEP = """
method: bayes
run_cap: 2
metric: {name: map_50, goal: maximize}
parameters:
  lr: {distribution: log_uniform_values, min: 1e-4, max: 1e-2}
  batch_size: {values: [4]}
  epochs: {value: 200}
"""


def declared(name, rest):
    return DECLARATION.format(name=name, tiny=TINY, rest=rest)


@pytest.fixture(scope="module")
def brackets(tmp_path_factory):
    """BOHB over a conditional space, killed at its second result and resumed."""
    site = Site(tmp_path_factory.mktemp("brackets"), declared("brackets", BRACKETS), "brackets.py")
    process = site.start("--smoke", "--wandb", "off")
    site.wait_for_results(process, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = site.run("--resume", "--wandb", "off")
    assert done.returncode == 0, done.stderr
    return site


def test_paused_trials_go_on_across_a_crash_and_no_epoch_is_recorded_twice(brackets):
    trials = brackets.summary()["trials"]
    assert trials[0]["suggested"]["by"] == "declared"
    assert sorted((trial["stop_reason"], trial["epochs"]) for trial in trials) == [
        ("completed", 2), ("completed", 2), ("hyperband", 1),
    ]  # fmt: skip
    events = read_record(brackets.search / "record.jsonl")
    reported = [(event["trial"], event["epoch"]) for event in events if event["kind"] == "result"]
    assert len(reported) == len(set(reported)) == 5
    assert {event["hardware"] for event in events if event["kind"] == "result"} != {None}
    stopped = next(trial for trial in trials if trial["stop_reason"] == "hyperband")
    assert "rank 2 of 2" in stopped["stop_detail"]
    assert [decision["action"] for decision in stopped["decisions"]] == ["pause", "stop"]


def test_fragments_and_conditions_reach_the_trial(brackets):
    for trial in brackets.summary()["trials"]:
        averaged = trial["values"]["recipe"] == "averaged"
        assert trial["config"]["training.ema_decay"] == (0.9 if averaged else None)
        assert ("optimizer.weight_decay" in trial["values"]) == averaged
        assert trial["values"]["optimizer.learning_rate"] <= 9e-3
        model = open_model(Path(trial["checkpoint"]))
        assert model.config.optimizer.learning_rate == trial["values"]["optimizer.learning_rate"]


def test_a_promoted_trial_is_one_run_with_every_epoch_once(brackets):
    _, children = brackets.mlflow_runs()
    assert sorted(child.data.tags["stop_reason"] for child in children) == ["completed", "completed", "hyperband"]
    client = MlflowClient(f"sqlite:///{brackets.storage / 'mlflow.db'}")
    for child, trial in zip(children, brackets.summary()["trials"], strict=True):
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "map_50")]
        assert steps == list(range(1, trial["epochs"] + 1))


def test_a_changed_space_is_refused_with_the_difference(brackets):
    text = brackets.declaration.read_text()
    brackets.declaration.write_text(text.replace("LogUniform(1e-4, 1e-2)", "LogUniform(1e-5, 1e-2)"))
    try:
        done = brackets.run("--resume")
    finally:
        brackets.declaration.write_text(text)
    assert done.returncode == 2
    assert "space.domains.optimizer.learning_rate.low: 0.0001 -> 1e-05" in done.stderr


def test_a_model_lost_with_its_process_is_trained_again_and_nothing_else_happens(brackets):
    stopped = next(trial for trial in brackets.summary()["trials"] if trial["stop_reason"] == "hyperband")
    folder = Path(stopped["directory"])
    before = files.read(folder / files.MODEL)
    shutil.rmtree(folder)
    events = read_record(brackets.search / "record.jsonl")
    done = brackets.run("--resume", "--wandb", "off")
    assert done.returncode == 0, done.stderr
    assert f"{stopped['id']}: its model was lost with its process; trained again to epoch 1" in done.stderr
    after = files.read(folder / files.MODEL)
    assert (after["epoch"], after["model"].keys()) == (1, before["model"].keys())
    assert all(torch.equal(after["model"][name], value) for name, value in before["model"].items())
    more = [event["kind"] for event in read_record(brackets.search / "record.jsonl")[len(events) :]]
    assert more == ["session", "session_end"]
    assert brackets.summary()["trials"][int(stopped["id"][1:])] == {**stopped, "checkpoint": str(folder / files.MODEL)}
    (folder / files.MODEL).unlink()
    again = brackets.run("--resume", "--wandb", "off")
    assert again.returncode == 0 and "nothing is left to run" in again.stderr
    assert files.read(folder / files.MODEL)["epoch"] == 1


@pytest.fixture(scope="module")
def data_of(brackets):
    """Puts the simulated frames of the first search where another one looks for them."""

    def link(site):
        site.storage.mkdir()
        (site.storage / "data").symlink_to(brackets.storage / "data")
        return site

    return link


def test_a_target_ends_the_search(data_of, tmp_path):
    site = data_of(Site(tmp_path, declared("target", TARGET), "target.py"))
    done = site.run("--smoke", "--wandb", "off", "--concurrency", "1")
    assert done.returncode == 0, done.stderr
    (trial,) = site.summary()["trials"]
    assert (trial["status"], trial["stop_reason"], trial["epochs"]) == ("stopped", "target_reached", 1)
    assert "the target 0" in trial["stop_detail"]


def test_a_sweep_file_runs_and_is_finished_when_resumed(data_of, tmp_path):
    site = data_of(Site(tmp_path, SWEEP, "sweep.yaml"))
    tiny = [flag for key, value in TINY.items() if key not in ("training.batch_size", "training.epochs")
            for flag in ("--set", f"{key}={value}")]  # fmt: skip
    done = site.run("--smoke", "--wandb", "off", "--set", "training.epochs=1", *tiny)
    assert done.returncode == 0, done.stderr
    summary = site.summary()
    assert [trial["status"] for trial in summary["trials"]] == ["finished"] * 2
    assert all(1e-4 <= trial["config"]["optimizer.learning_rate"] <= 1e-2 for trial in summary["trials"])
    again = site.run("--resume", "--wandb", "off", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["search_id"] == summary["search_id"]


def test_an_evaluation_measures_the_best_model_of_a_search(brackets):
    site = Site.__new__(Site)
    site.__dict__ |= brackets.__dict__ | {"declaration": brackets.folder / "thresholds.py", "name": "thresholds"}
    site.search = site.storage / "thresholds"
    site.declaration.write_text(declared("thresholds", THRESHOLDS))
    refused = site.run("--wandb", "off")
    assert refused.returncode == 2 and "--checkpoint FILE or --best-of SEARCH" in refused.stderr
    done = site.run("--smoke", "--wandb", "off", "--best-of", "brackets", "--trials", "1")
    assert done.returncode == 0, done.stderr
    other = site.storage / "brackets" / "trials" / "t0000" / files.MODEL
    best = Path(next(t["checkpoint"] for t in brackets.summary()["trials"] if t["id"] == brackets.summary()["best"]))
    wrong = next(path for path in brackets.search.glob("trials/*/model.pt") if path != best)
    refused = site.run("--wandb", "off", "--resume", "--trials", "2", "--checkpoint", str(wrong))
    assert refused.returncode == 2 and "is not the checkpoint that the search began with" in refused.stderr
    assert other.exists()
    done = site.run("--wandb", "off", "--resume", "--trials", "2")
    assert done.returncode == 0, done.stderr

    model = open_model(best)
    stores = (TileStore.open(path.parent) for path in site.storage.glob("data/*/manifest.json"))
    tiles = evaluation_tiles(model, next(each for each in stores if each.digest == model.store), "validation")
    cells = grid_cells(model.config.detector, nms_thresholds=(0.3, 0.7))
    expected = evaluate_grid(model.candidates, evaluation_loader(tiles, model.config.evaluation), cells)
    for trial, result in zip(site.summary()["trials"], expected, strict=True):
        assert (trial["status"], trial["epochs"]) == ("finished", 1)
        found = {name: trial["best"][name] for name in result.metrics.compute()}
        assert found == pytest.approx(result.metrics.compute(), abs=1e-6)
        assert set(PATHS) <= set(trial["config"])
    assert (site.search / "trials/t0000/detections.png").exists()
    assert not (site.search / "trials/t0001/detections.png").exists()
