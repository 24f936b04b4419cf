"""What a user does with a search besides letting it run: two drivers, a notice, more trials, more epochs."""

import json

import pytest

from experiments.record import read_record
from experiments.state import SearchState
from satdet.training import files
from tests.site import Site
from tests.test_search import DECLARATION, curves

RANDOM = DECLARATION.replace(
    'SearchSpace({"optimizer.learning_rate": Choice(1e-3, 1e-4)})',
    'SearchSpace({"optimizer.learning_rate": LogUniform(1e-4, 1e-2)})',
).replace("Grid(),", "Random(seed=1), trials=2,")
FLAGS = ("--smoke", "--wandb", "offline", "--concurrency", "1", "--set", "training.epochs=2",
         "--set", "optimizer.schedule=constant")  # fmt: skip


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A search left because of a notice, finished, given a third trial, and of the first two more epochs."""
    site = Site(tmp_path_factory.mktemp("extended"), RANDOM)
    notice = site.folder / "notice"
    process = site.start(*FLAGS, "--termination-notice", str(notice))
    site.wait_for_results(process, 1)
    refused = site.run("--resume")
    notice.touch()
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130, said
    assert "notice announces the end of this machine" in said
    outcomes = [
        site.run("--resume", "--storage-patience", "5"),
        site.run("--resume", "--trials", "3"),
        site.run("--continue", "t0000", "--epochs", "+2", "--keep", "1,100MB", "--json"),
    ]
    for done in outcomes:
        assert done.returncode == 0, done.stderr
    return site, refused, outcomes


def test_a_second_driver_is_refused_and_told_who_runs_it(extended):
    site, refused, _ = extended
    assert refused.returncode == 2
    session = next(event for event in read_record(site.search / "record.jsonl") if event["kind"] == "session")
    assert f"is being run by process {session['process']} on {session['host']}" in refused.stderr


def test_a_finished_search_is_given_more_trials(extended):
    site, _, outcomes = extended
    trials = json.loads(outcomes[2].stdout)["trials"]
    assert [trial["id"] for trial in trials] == ["t0000", "t0001", "t0002"]
    assert {trial["status"] for trial in trials} == {"finished"}
    assert [trial["epochs"] for trial in trials] == [4, 2, 2]
    assert len({trial["values"]["optimizer.learning_rate"] for trial in trials}) == 3
    state = SearchState.of(read_record(site.search / "record.jsonl"))
    assert state.options["trials"] == 3
    assert 0 < sum(trial.seconds for trial in state.trials.values()) < state.seconds < 400


def test_a_continued_trial_equals_one_that_was_never_stopped(extended, tmp_path):
    site, _, _ = extended
    twin = Site(tmp_path, RANDOM)
    twin.storage.mkdir()
    (twin.storage / "data").symlink_to(site.storage / "data")
    done = twin.run(*FLAGS, "--set", "training.epochs=4", "--trials", "1", "--wandb", "off")
    assert done.returncode == 0, done.stderr
    assert curves(site)["t0000"] == curves(twin)["t0000"]


def test_all_of_it_is_one_run_a_trial_in_both_trackers(extended):
    site, _, _ = extended
    parents, children = site.mlflow_runs()
    assert [run.info.status for run in (*parents, *children)] == ["FINISHED"] * 4
    for child, epochs in zip(children, (4, 2, 2), strict=True):
        assert site.steps(child.info.run_id, "map_50") == list(range(1, epochs + 1))
        assert child.data.tags["stop_reason"] == "completed"
    assert "continued" in children[0].data.tags
    runs = site.wandb_runs()
    for trial in site.summary()["trials"]:
        run = runs[trial["wandb_run_id"]]
        assert [row["epoch"] for row in run["history"] if "map_50" in row] == list(range(1, trial["epochs"] + 1))
        assert run["config"]["training.epochs"] == trial["epochs"]


def test_no_more_checkpoints_are_kept_than_was_said(extended):
    site, _, _ = extended
    folders = sorted((site.search / "trials").iterdir())
    assert [len(files.epoch_files(folder)) + (folder / files.BEST).exists() for folder in folders] == [0, 0, 0]
    assert all((folder / files.MODEL).is_file() for folder in folders)


def test_what_is_gone_cannot_be_continued_and_is_said(extended):
    site, _, _ = extended
    done = site.run("--continue", "t0001", "--epochs", "+1", "--wandb", "off")
    assert done.returncode == 2
    assert "has no checkpoint to go on from" in done.stderr
    assert site.summary()["trials"][1]["status"] == "finished"
