"""Declarations: every experiment builds, and what is wrong in one is refused when it is built."""

import dataclasses
import json

import pytest

import search_spaces
from search_spaces.declare import (
    ASHA,
    REPORT_PROTOCOL,
    Choice,
    ConfigError,
    Experiment,
    Grid,
    Maximise,
    SearchSpace,
    SpeedGuard,
    smoke_of,
)


def declare(**changes):
    values = {
        "name": "sizes",
        "question": "Which batch size?",
        "base": REPORT_PROTOCOL,
        "space": SearchSpace({"training.batch_size": Choice(2, 4)}),
        "objective": Maximise("map_50"),
        "searcher": Grid(),
        "smoke": smoke_of(),
    }
    return Experiment(**{**values, **changes})


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_declared_experiment_builds_in_full_and_scaled_down(name):
    experiment = search_spaces.load(name)
    assert experiment.name == name
    small = experiment.scaled_down()
    assert small.space == experiment.space
    assert type(small.scheduler) is type(experiment.scheduler)
    assert small.digest() != experiment.digest()
    assert json.loads(json.dumps(experiment.to_json())) == experiment.to_json()


def test_backbone_ablation_asks_the_report_question():
    experiment = search_spaces.load("backbone_ablation")
    assert [cell["detector.backbone"] for cell in experiment.space.cells()] == [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
    ]
    assert experiment.base.training.epochs == 60
    assert experiment.base.training.patience == 10
    assert experiment.seeds == 3
    assert isinstance(experiment.scheduler, ASHA)


def test_grid_cells_are_the_product():
    space = SearchSpace({"training.batch_size": Choice(2, 4), "detector.version": Choice("v1", "v2")})
    assert list(space.cells()) == [
        {"training.batch_size": 2, "detector.version": "v1"},
        {"training.batch_size": 2, "detector.version": "v2"},
        {"training.batch_size": 4, "detector.version": "v1"},
        {"training.batch_size": 4, "detector.version": "v2"},
    ]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda: SearchSpace({"weigth_decay": Choice(0.0)}), "did you mean 'optimizer.weight_decay'"),
        (lambda: SearchSpace({"training.batch_size": Choice(2, 0)}), "below its minimum"),
        (lambda: SearchSpace({"training.batch_size": 4}), "write Choice"),
        (lambda: Choice(), "no values"),
        (lambda: Choice(1, 1), "twice"),
        (lambda: declare(objective=Maximise("map50")), "did you mean 'map_50'"),
        (lambda: declare(objective=Maximise("eval/map_50")), "unknown metric"),
        (lambda: declare(seeds=0), "positive"),
        (lambda: declare(name="two words"), "identifier"),
        (lambda: SpeedGuard(images_per_second=-1.0), "above 0"),
        (lambda: ASHA(reduction=1), "minimum 2"),
        (lambda: smoke_of({"training.epoch": 1}), "did you mean 'training.epochs'"),
        (lambda: declare(space=SearchSpace({"detector.backbone": Choice("resnet18")}),
                         base=dataclasses.replace(REPORT_PROTOCOL, detector=dataclasses.replace(
                             REPORT_PROTOCOL.detector, weights="detector"))), "resnet50 only"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_when_declared(wrong, expected):
    with pytest.raises(ConfigError, match=expected):
        wrong()


def test_digest_names_what_is_searched_not_where_it_runs():
    one = declare()
    assert declare().digest() == one.digest()
    assert declare(seeds=5).digest() != one.digest()
    assert declare(scheduler=ASHA()).digest() != one.digest()
    assert (
        dataclasses.replace(one, resources=dataclasses.replace(one.resources, gpus_per_worker=0.5)).digest()
        == one.digest()
    )


def test_base_value_that_is_searched_cannot_be_set():
    with pytest.raises(ConfigError, match="is searched by sizes"):
        declare().with_base_values({"training.batch_size": 8})


def test_unknown_experiment_lists_the_known():
    with pytest.raises(ConfigError, match="did you mean 'backbone_ablation'"):
        search_spaces.load("backbone_ablaton")


def test_experiment_of_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from search_spaces.declare import *\n"
        "EXPERIMENT = Experiment(name='mine', question='?', base=REPORT_PROTOCOL, space=SearchSpace(),\n"
        "    objective=Maximise('map'), searcher=Grid(), smoke=smoke_of())\n"
    )
    assert search_spaces.load(str(file)).name == "mine"
    file.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="declares no EXPERIMENT"):
        search_spaces.load(str(file))
    file.write_text("x = 1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        search_spaces.load(str(file))
    with pytest.raises(ConfigError, match="no such file"):
        search_spaces.load(str(tmp_path / "other.py"))
