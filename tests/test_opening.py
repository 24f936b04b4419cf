"""Going on with a search: only with the declaration that it began with, and the difference is said."""

import dataclasses
import json

import pytest

import search_spaces
from experiments.opening import (
    archive,
    check_ends,
    check_same_file,
    check_unchanged,
    earlier_state,
    lost_lines,
    reopened,
)
from experiments.options import RunOptions
from experiments.paths import storage_paths
from experiments.record import Record
from experiments.state import SearchState
from experiments.stoppers import Budget, SearchEnds
from experiments.trackers import TrackerState
from satdet.errors import StorageError, UsageError
from search_spaces.declare import ASHA, Choice, Forbid, LogUniform, SearchSpace, SpeedGuard
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest

EXPERIMENT = search_spaces.load("sweep_random")


def begun(experiment):
    header = {"declaration": json.loads(json.dumps(experiment.to_json())), "digest": experiment.digest()}
    return SearchState(header=header)


def with_space(**domains):
    known = {path: domain for path, domain in EXPERIMENT.space.domains.items() if path not in domains}
    return dataclasses.replace(EXPERIMENT, space=SearchSpace({**known, **domains}))


@pytest.mark.parametrize("name", search_spaces.names())
def test_the_same_declaration_goes_on(name):
    check_unchanged(begun(search_spaces.load(name)), search_spaces.load(name))


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (with_space(**{"training.batch_size": Choice(4, 8)}), "batch_size.options: [4, 8, 16] -> [4, 8]"),
        (with_space(**{"optimizer.learning_rate": LogUniform(1e-5, 1e-2)}), "learning_rate.low: 1e-06 -> 1e-05"),
        (dataclasses.replace(EXPERIMENT, seeds=2), "seeds: 1 -> 2"),
        (dataclasses.replace(EXPERIMENT, scheduler=ASHA()), "scheduler.kind: 'RunAll' -> 'ASHA'"),
        (dataclasses.replace(EXPERIMENT, stoppers=(SpeedGuard(images_per_second=2.0),)), "stoppers: "),
        (
            dataclasses.replace(
                EXPERIMENT,
                space=SearchSpace(
                    EXPERIMENT.space.domains, constraints=(Forbid("training.batch_size > 8", because="x"),)
                ),
            ),
            "space.constraints: [] -> ",
        ),
        (
            dataclasses.replace(EXPERIMENT, space=SearchSpace(dict(reversed(EXPERIMENT.space.domains.items())))),
            "the order of its paths",
        ),
    ],
)
def test_a_changed_one_is_refused_with_the_difference(changed, difference):
    with pytest.raises(UsageError) as refused:
        check_unchanged(begun(EXPERIMENT), changed)
    assert difference in str(refused.value)
    assert "--fresh" in str(refused.value)


def test_question_and_resources_may_change():
    resources = dataclasses.replace(EXPERIMENT.resources, gpus_per_worker=0.5)
    check_unchanged(begun(EXPERIMENT), dataclasses.replace(EXPERIMENT, question="Why?", resources=resources))


def test_another_checkpoint_is_refused():
    state = SearchState(header={"checkpoint": {"path": "a.pt", "sha256": "aa" * 32}})
    check_same_file(state, {"path": "moved.pt", "sha256": "aa" * 32})
    with pytest.raises(UsageError, match=r"b\.pt is not the checkpoint that the search began with"):
        check_same_file(state, {"path": "b.pt", "sha256": "bb" * 32})


@pytest.fixture
def search(tmp_path):
    storage = storage_paths(tmp_path)
    return storage, storage.search("backbone_ablation")


@pytest.fixture
def ended(search):
    """A search of which one trial was stopped, one failed, and one runs."""
    with begin(search[1].record) as record:
        for number, end in enumerate((BY_ASHA, FAILED, None, COMPLETED)):
            trial = suggest(record, number)
            report(record, trial, 1, 0.3)
            report(record, trial, 2, 0.4, end)
        record.append("session_end", status="finished")
    for trial in ("t0000", "t0001", "t0002"):
        search[1].trial(trial).mkdir(parents=True)
        (search[1].trial(trial) / "epoch-0002-0123456789abcdef.pt").touch()
    return SearchState.of(record.events)


def continuing(*trials, epochs=None):
    return RunOptions(experiment="backbone_ablation", continued=trials, more_epochs=epochs)


def test_an_ended_trial_goes_on_for_so_many_epochs_more(search, ended):
    (change,) = reopened(search[1], ended, continuing("t0000", epochs=20))
    assert change == {
        "trial": "t0000", "config": {"training.epochs": 22}, "after": 2,
        "ended": {"status": "stopped", "stop_reason": "asha"},
    }  # fmt: skip
    ended.apply({"kind": "continued", "n": 99, "time": 0.0, "t": 0.0, **change})
    trial = ended.trials["t0000"]
    assert (trial.status, trial.stop_reason, trial.config["training.epochs"]) == ("pending", None, 22)
    assert trial.continued_after == 2
    assert trial in ended.open_trials()


def test_a_failed_trial_is_begun_again_as_it_was(search, ended):
    (change,) = reopened(search[1], ended, continuing("t0001"))
    assert (change["config"], change["after"]) == ({}, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (continuing("t0009", epochs=1), "unknown trial 't0009'"),
        (continuing("t0002", epochs=1), r"t0002: it has not ended \(running\)"),
        (continuing("t0000"), "it has 2 epochs; how many more"),
        (continuing("t0003", epochs=1), r"t0003 has no checkpoint to go on from \(--keep\)"),
    ],
)
def test_what_cannot_be_continued_is_said(search, ended, options, message):
    with pytest.raises(UsageError, match=message):
        reopened(search[1], ended, options)


def test_more_trials_of_a_search_whose_budget_is_spent_need_a_larger_one(ended):
    spent, larger = (SearchEnds(Budget(epochs=epochs)) for epochs in (8.0, 9.0))
    check_ends(ended, larger, asked=True)
    check_ends(ended, spent, asked=False)
    with pytest.raises(UsageError, match=r"is spent \(.* h, 8 epochs\); say a larger one with --budget"):
        check_ends(ended, spent, asked=True)


@pytest.mark.parametrize("left", [b"", b"00000000 {", None])
def test_trials_without_the_beginning_of_their_record_are_no_search_to_begin_anew(search, ended, left):
    storage, paths = search
    if left is None:
        paths.record.unlink()
    else:
        paths.record.write_bytes(left)
    with pytest.raises(StorageError, match=r"beginning of their record \(record.jsonl\) is lost"):
        earlier_state(paths)
    earlier = earlier_state(paths, fresh=True)
    archive(storage, paths, earlier)
    assert not paths.root.exists()
    (moved,) = storage.archive.iterdir()
    assert moved.name.startswith("backbone_ablation-damaged-") and (moved / "trials" / "t0000").is_dir()


def test_a_driver_that_died_before_its_first_line_has_left_nothing(search):
    search[1].record.parent.mkdir(parents=True)
    search[1].record.touch()
    assert not earlier_state(search[1]).header


def test_a_record_that_has_lost_lines_says_so(search):
    paths = search[1]
    begin(paths.record).close()
    with Record(paths.record) as record:
        assert lost_lines(paths, record) == []
    state = TrackerState.load(paths.trackers, "mlflow")
    state.sequence = 5
    state.save()
    paths.record.write_bytes(paths.record.read_bytes()[:-3])
    with Record(paths.record) as record:
        torn, ahead = lost_lines(paths, record)
    assert "torn line" in torn
    assert "ends with event 1, but a tracker was sent event 5" in ahead
