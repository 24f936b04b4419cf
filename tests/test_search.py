"""The main job at its boundary: the command, real Ray, real trainings, MLflow on SQLite, W&B files read back."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from experiments.record import read_record
from experiments.state import SearchState
from experiments.summary import summarise
from tests.site import Site

TIMED = {"seconds", "seconds_training", "seconds_evaluation", "images_per_second"}
DECLARATION = """
from search_spaces.declare import *

EXPERIMENT = Experiment(
    name="tiny",
    question="Which learning rate?",
    base=REPORT_PROTOCOL,
    space=SearchSpace({"optimizer.learning_rate": Choice(1e-3, 1e-4)}),
    objective=Maximise("map_50"),
    searcher=Grid(),
    scheduler=ASHA(grace_epochs=10),
    stoppers=(SpeedGuard(images_per_second=0.001),),
    smoke=smoke_of(
        {"tiles.size": 64, "detector.backbone": "resnet18", "training.epochs": 3, "training.batch_size": 4,
         "training.tiles_per_epoch": 8, "detector.max_detections": 60},
        frames=3, size=256,
    ),
)
"""


def curves(summary_of: Site) -> dict[str, list[dict[str, float]]]:
    """Every trial's metrics by epoch, without those that measure time."""
    state = SearchState.of(read_record(summary_of.search / "record.jsonl"))
    return {
        trial.trial_id: [
            {"epoch": epoch, **{name: value for name, value in metrics.items() if name not in TIMED}}
            for epoch, _, metrics in trial.results
        ]
        for trial in state.trials.values()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search that ran to its end undisturbed."""
    site = Site(tmp_path_factory.mktemp("finished"), DECLARATION)
    done = site.run("--smoke", "--json")
    assert done.returncode == 0, done.stderr
    return site, done


def test_search_finishes_with_a_summary(finished):
    site, done = finished
    summary = json.loads(done.stdout)
    assert summary == site.summary()
    assert summary["status"] == "finished"
    assert [trial["status"] for trial in summary["trials"]] == ["finished", "finished"]
    assert [trial["config"]["optimizer.learning_rate"] for trial in summary["trials"]] == [1e-3, 1e-4]
    for trial in summary["trials"]:
        assert trial["epochs"] == 3
        assert trial["stop_reason"] == "completed"
        assert all(abs(value) < float("inf") for value in trial["last"].values())
        assert Path(trial["checkpoint"]).is_file()
        assert len(list(Path(trial["directory"]).glob("epoch-*.pt"))) == 1
        assert trial["error"] is None
    scores = {trial["id"]: trial["best"]["map_50"] for trial in summary["trials"]}
    assert summary["best"] == max(scores, key=scores.__getitem__)


def test_progress_is_told_line_by_line_in_a_pipe(finished):
    _, done = finished
    assert "t0000 0.001: epoch 1/3 map_50" in done.stderr
    assert "2/2 trials ended" in done.stderr
    assert "left" in done.stderr


def test_summary_can_be_made_again_from_the_record(finished):
    site, _ = finished
    from experiments.paths import SearchPaths

    assert summarise(SearchPaths(site.search)) == site.summary()


def test_mlflow_has_a_parent_and_a_child_a_trial(finished):
    site, _ = finished
    parents, children = site.mlflow_runs()
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    summary = site.summary()
    assert [child.info.run_id for child in children] == [trial["mlflow_run_id"] for trial in summary["trials"]]
    for child, trial in zip(children, summary["trials"], strict=True):
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert child.data.tags["search_id"] == summary["search_id"]
        assert child.data.tags["stop_reason"] == "completed"
        assert child.data.params["optimizer.learning_rate"] == str(trial["config"]["optimizer.learning_rate"])
        assert child.data.params["detector.backbone"] == "resnet18"
        assert site.steps(child.info.run_id, "map_50") == [1, 2, 3]
        assert child.data.metrics["loss"] == pytest.approx(trial["last"]["loss"])
        artifacts = Path(child.info.artifact_uri.removeprefix("file://"))
        assert {"model.pt", "detections.png"} <= {file.name for file in artifacts.iterdir()}


def test_wandb_files_hold_configuration_history_and_summary(finished):
    site, _ = finished
    runs = site.wandb_runs()
    summary = site.summary()
    assert set(runs) == {trial["wandb_run_id"] for trial in summary["trials"]}
    for trial in summary["trials"]:
        run = runs[trial["wandb_run_id"]]
        assert run["group"] == "tiny"
        assert run["config"]["optimizer.learning_rate"] == trial["config"]["optimizer.learning_rate"]
        epochs = [row for row in run["history"] if "map_50" in row]
        assert [row["epoch"] for row in epochs] == [1, 2, 3]
        assert epochs[-1]["loss"] == pytest.approx(trial["last"]["loss"])
        assert run["summary"]["stop_reason"] == "completed"
        assert run["summary"]["best/map_50"] == pytest.approx(trial["best"]["map_50"])
        assert run["exit_code"] == 0


def test_finished_search_is_never_overwritten_silently(finished):
    site, _ = finished
    before = site.summary()
    again = site.run("--smoke")
    assert again.returncode == 2
    assert "--fresh" in again.stderr and again.stderr.count("\n") == 1
    assert site.summary() == before


def test_interrupted_twice_the_search_ends_as_if_never(finished, tmp_path):
    undisturbed, _ = finished
    site = Site(tmp_path, DECLARATION)

    process = site.start("--smoke")
    site.wait_for_results(process, 1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130, said
    assert "resume with: python -m experiments.run" in said
    assert site.summary()["status"] == "interrupted"
    ids = {trial["id"]: trial["mlflow_run_id"] for trial in site.summary()["trials"]}

    refused = site.run("--smoke")
    assert refused.returncode == 2
    assert "--resume" in refused.stderr and "--fresh" in refused.stderr

    seen = site.results()
    process = site.start("--resume")
    site.wait_for_results(process, seen + 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)

    changed = site.run("--resume", "--set", "training.batch_size=8")
    assert changed.returncode == 2
    assert "training.batch_size: 4 -> 8" in changed.stderr

    done = site.run("--resume")
    assert done.returncode == 0, done.stderr
    assert [trial["status"] for trial in site.summary()["trials"]] == ["finished", "finished"]
    assert curves(site) == curves(undisturbed)

    parents, children = site.mlflow_runs()
    assert [run.info.status for run in (*parents, *children)] == ["FINISHED"] * 3
    assert {child.data.tags["trial_id"]: child.info.run_id for child in children}.items() >= ids.items()
    for child in children:
        for metric in ("map_50", "loss", "seconds"):
            assert site.steps(child.info.run_id, metric) == [1, 2, 3]
    for run in site.wandb_runs().values():
        assert [row["epoch"] for row in run["history"] if "map_50" in row] == [1, 2, 3]

    record = site.search / "record.jsonl"
    whole = record.read_bytes()
    record.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 1])
    assert read_record(record)[-1]["kind"] != "session_end"
    at_the_very_end = site.run("--resume")
    assert at_the_very_end.returncode == 0, at_the_very_end.stderr
    assert site.summary()["status"] == "finished"
    assert curves(site) == curves(undisturbed)


def test_trial_that_fails_is_reported_and_the_search_goes_on(finished, tmp_path):
    site = Site(tmp_path, DECLARATION)
    site.storage.mkdir()
    (site.storage / "data").symlink_to(finished[0].storage / "data")
    process = site.start("--smoke", "--wandb", "off", "--set", "training.epochs=1")
    blocked = site.search / "trials" / "t0000"
    while not site.search.exists():
        time.sleep(0.01)
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file where the trial's folder should be")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 3, said
    first, second = site.summary()["trials"]
    assert (first["status"], first["stop_reason"]) == ("failed", "error")
    assert "t0000" in first["error"]
    assert second["status"] == "finished"
    _, children = site.mlflow_runs()
    assert [child.info.status for child in children] == ["FAILED", "FINISHED"]
    assert "t0000" in children[0].data.tags["error"]


def test_budget_and_trial_caps_end_the_search_cleanly(finished, tmp_path):
    site = Site(tmp_path, DECLARATION)
    site.storage.mkdir()
    (site.storage / "data").symlink_to(finished[0].storage / "data")
    done = site.run("--smoke", "--trials", "1", "--budget", "1epochs", "--wandb", "off")
    assert done.returncode == 0, done.stderr
    (trial,) = site.summary()["trials"]
    assert (trial["status"], trial["stop_reason"]) == ("stopped", "budget")
    assert 1 <= trial["epochs"] < 3
