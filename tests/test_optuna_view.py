"""The Optuna view: a study as Optuna itself reads it, made from the record alone, whatever becomes of its file."""

import ast
import dataclasses
from pathlib import Path

import pytest
from optuna import create_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

import experiments
import search_spaces
from experiments.record import read_record
from experiments.state import SearchState
from experiments.trackers import TrackerState
from experiments.trackers.optuna import OptunaTracker
from experiments.trackers.study import StudyView, distribution_of
from search_spaces.declare import (
    Beta,
    Choice,
    Constant,
    Fragments,
    IntUniform,
    InverseLogUniform,
    LogNormal,
    LogUniform,
    Normal,
    Permutation,
    Quantised,
    Random,
    SearchSpace,
    Uniform,
    When,
)
from tests.tracked import TRAINING, Tracked, evaluation, training


@pytest.fixture
def tracked(tmp_path) -> Tracked:
    tracked = Tracked(tmp_path, training())
    tracked.record()
    return tracked


def test_study_has_our_numbers_states_values_and_reasons(tracked):
    assert tracked.send("optuna").done
    trials = tracked.study()
    assert [trial.state.name for trial in trials] == [
        "COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "PRUNED", "FAIL", "RUNNING", "WAITING",
    ]  # fmt: skip
    assert [trial.number for trial in trials] == list(range(8))
    assert trials[1].values == [0.3, 0.5]  # of the best epoch, not the last
    assert trials[1].intermediate_values == {1: 0.2, 2: 0.3, 3: 0.25}
    assert trials[4].intermediate_values == {1: 0.1, 2: 0.15}
    assert trials[6].user_attrs["status"] == "paused"
    assert trials[3].user_attrs == {
        "trial_id": "t0003", "search_id": "5ea2c4", "seed": 3, "cell": "aspect_ratios=[1.0] learning_rate=0.003",
        "status": "stopped", "suggested_by": "model", "suggested": {"by": "model", "known": 3},
        "stop_reason": "slow_speed_global", "stop_detail": "3 of 9 images/s", "hardware": "cpu",
    }  # fmt: skip


def test_parameters_are_the_declared_ones_and_a_good_point_outside_of_the_space_is_noted(tracked):
    assert tracked.send("optuna").done
    first, second, *_, last = tracked.study()
    assert first.params == {"detector.aspect_ratios": "[1.0]"}
    assert first.user_attrs["outside_space"] == {"optimizer.learning_rate": 0.5}
    assert second.params == {"detector.aspect_ratios": "[1.0]", "optimizer.learning_rate": 1e-3}
    assert last.params["detector.aspect_ratios"] == "[0.5, 1.0, 2.0]"
    assert second.distributions == {
        "detector.aspect_ratios": CategoricalDistribution(["[0.5, 1.0, 2.0]", "[1.0]"]),
        "optimizer.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    }


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (Constant(3), CategoricalDistribution([3])),
        (Choice("a", None, True), CategoricalDistribution(["a", None, True])),
        (Permutation(1.0, (2.0, 3.0)), CategoricalDistribution(["[1.0, 2.0, 3.0]", "[2.0, 3.0, 1.0]"])),
        (Fragments(one={}, other={}), CategoricalDistribution(["one", "other"])),
        (IntUniform(2, 9, 3), IntDistribution(2, 8, step=3)),
        (Uniform(0.1, 0.5), FloatDistribution(0.1, 0.5)),
        (LogUniform(1e-4, 1.0), FloatDistribution(1e-4, 1.0, log=True)),
        (InverseLogUniform(1e-4, 1.0), FloatDistribution(1e-4, 1.0, log=True)),
        (Beta(2.0, 3.0), FloatDistribution(0.0, 1.0)),
        (Quantised(Uniform(0.0, 1.0), 0.25), FloatDistribution(0.0, 1.0, step=0.25)),
        (Quantised(Uniform(1.0, 9.0), 4.0), IntDistribution(4, 8, step=4)),
        (Quantised(LogUniform(2.0, 64.0), 2.0), IntDistribution(2, 64, log=True)),
    ],
)
def test_domain_has_its_native_distribution(domain, expected):
    assert distribution_of(domain) == expected


@pytest.mark.parametrize(("domain", "log"), [(Normal(5.0, 1.0), False), (LogNormal(0.0, 1.0), True)])
def test_domain_without_ends_ends_far_out(domain, log):
    found = distribution_of(domain)
    assert found.log == log
    assert found.low < domain.quantile(1e-6) < domain.quantile(1 - 1e-6) < found.high


def test_of_conditional_domains_the_one_that_counts_is_shown():
    space = SearchSpace(
        {"detector.backbone": Choice("resnet18", "resnet101"), "training.batch_size": Choice(8, 16)},
        conditions=(When("detector.backbone == 'resnet101'", {"training.batch_size": Choice(2, 4)}),),
    )
    experiment = dataclasses.replace(TRAINING, space=space, searcher=Random(seed=1))
    state = SearchState()
    state.apply(
        {"kind": "search", "time": 0.0, "n": 1, "search_id": "x", "declaration": experiment.to_json(), "digest": ""}
    )
    view = StudyView(state.header)
    for number, (backbone, size) in enumerate((("resnet101", 4), ("resnet18", 8), ("resnet101", 8))):
        values = {"detector.backbone": backbone, "training.batch_size": size}
        state.apply({"kind": "suggested", "time": 0.0, "trial": f"t{number}", "values": values, "seed": 0})
    shown = [view.trial(trial) for trial in state.trials.values()]
    assert [set(trial.params) - {"detector.backbone"} for trial in shown] == [
        {"training.batch_size when detector.backbone == 'resnet101'"},
        {"training.batch_size"},
        set(),
    ]
    assert shown[2].user_attrs["outside_space"] == {"training.batch_size": 8}


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_declared_search_has_a_view(name):
    experiment = search_spaces.load(name)
    view = StudyView({"declaration": experiment.to_json(), "search_id": "x"})
    assert len(view.directions) == len(experiment.objectives)


def test_running_trial_goes_on_as_the_same_one_after_an_interruption(tracked):
    shown = Tracked(tracked.storage.root / "other", training())
    shown.record(21)
    assert shown.send("optuna").done
    before = shown.study()
    assert [trial.state for trial in before[:4]] == [*[OptunaState.RUNNING] * 3, OptunaState.PRUNED]
    shown.record()
    assert shown.send("optuna").done
    after = shown.study()
    assert [trial._trial_id for trial in after[:6]] == [trial._trial_id for trial in before]
    assert after[0].state is OptunaState.COMPLETE and after[0].intermediate_values == {1: 0.3, 2: 0.4}
    assert after[0].datetime_start == before[0].datetime_start


def test_objectives_and_the_question_are_the_study_s(tracked):
    assert tracked.send("optuna").done
    storage = RDBStorage(tracked.storage.optuna_uri)
    (study,) = storage.get_all_studies()
    storage.engine.dispose()
    assert study.directions == [StudyDirection.MAXIMIZE] * 2
    assert study.user_attrs == {"search_id": "5ea2c4", "question": TRAINING.question}


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"not a database" * 999)])
def test_file_that_is_lost_or_damaged_is_made_again_from_the_record(tracked, damage):
    assert tracked.send("optuna").done
    whole = tracked.shown("optuna")
    file = tracked.storage.root / "optuna.db"
    damage(file)
    left = file.read_bytes() if file.exists() else None
    assert tracked.send("optuna").done
    assert tracked.shown("optuna") == whole
    aside = file.with_name("optuna.db.damaged")
    assert (aside.read_bytes() if aside.exists() else None) == left


def test_file_that_is_taken_away_from_a_search_at_work_is_made_again(tracked):
    tracker = OptunaTracker(tracked.settings, TrackerState.load(tracked.search.trackers, "optuna"))
    state = SearchState()
    for event in read_record(tracked.search.record):
        state.apply(event)
        tracker.apply(event, state)
    tracker.settle(final=False)
    whole = tracked.shown("optuna")
    (tracked.storage.root / "optuna.db").unlink()
    tracker.settle(final=False)
    tracker.close()
    assert tracked.shown("optuna") == whole


def test_crash_between_two_writes_leaves_nothing_twice(tracked, monkeypatch):
    whole = Tracked(tracked.storage.root / "other", training())
    whole.record()
    assert whole.send("optuna").done
    early = Tracked(tracked.storage.root / "again", training())
    early.record(20)
    assert early.send("optuna").done
    early.record()
    for write in ("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_state_values", "create_new_trial"):
        with monkeypatch.context() as patch:
            real = getattr(RDBStorage, write)

            def failing(*arguments, real=real):
                real(*arguments)
                raise ConnectionError("gone after it was written")

            patch.setattr(RDBStorage, write, failing)
            assert not early.send("optuna").done
    assert early.send("optuna").done
    assert early.shown("optuna") == whole.shown("optuna")


def test_a_later_search_of_the_same_name_has_a_study_of_its_own(tracked):
    assert tracked.send("optuna").done
    first = tracked.shown("optuna")
    tracked.search.root.rename(tracked.storage.root / "elsewhere")
    tracked.script[0][1]["search_id"] = "0ther"
    tracked.record(17)
    assert tracked.send("optuna").done
    assert len(tracked.study(f"{tracked.search.name}-0ther")) == 6
    assert tracked.shown("optuna") == first


def test_what_a_crash_or_somebody_else_left_under_the_name(tmp_path):
    for left, studies in ((0, ["nms_grid"]), (1, ["nms_grid", "nms_grid-5ea2c4"])):
        tracked = Tracked(tmp_path / str(left), evaluation())
        tracked.record()
        storage = RDBStorage(tracked.storage.optuna_uri)
        foreign = create_study(study_name="nms_grid", direction="maximize", storage=storage)
        for _ in range(left):
            foreign.ask()
        assert tracked.send("optuna").done
        assert [study.study_name for study in storage.get_all_studies()] == studies
        storage.engine.dispose()


def test_no_file_before_the_first_epoch(tracked):
    tracker = OptunaTracker(tracked.settings, TrackerState.load(tracked.search.trackers, "optuna"))
    state = SearchState()
    *before, first = read_record(tracked.search.record)[:15]
    for event in before:
        state.apply(event)
        tracker.apply(event, state)
    tracker.settle(final=False)
    assert not (tracked.storage.root / "optuna.db").exists()
    state.apply(first)
    tracker.apply(first, state)
    tracker.settle(final=False)
    tracker.close()
    assert len(tracked.study()) == 6


def test_only_the_tracker_knows_where_the_view_is():
    root = Path(experiments.__file__).parent
    for file in root.rglob("*.py"):
        tree = ast.walk(ast.parse(file.read_text()))
        touches = any(
            (isinstance(node, ast.Attribute) and node.attr in ("optuna_uri", "load_study", "RDBStorage", "get_storage"))
            or (isinstance(node, ast.keyword) and node.arg == "storage" and file.parent.name == "searchers")
            for node in tree
        )
        assert touches == (file.relative_to(root).as_posix() == "trackers/optuna.py"), file
