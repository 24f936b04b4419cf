"""Declarations: every experiment builds, and what is wrong in one is refused when it is built."""

import dataclasses
import json
import subprocess
import sys

import pytest

import search_spaces
from experiments.schedulers import build_scheduler
from experiments.searchers import build_searcher
from experiments.stopping.epochs import build_epoch_stoppers
from satdet.config import flatten, with_values
from search_spaces.declare import (
    ASHA,
    BOHB,
    CMAES,
    GP,
    PASHA,
    REPORT_PROTOCOL,
    TPE,
    BudgetCap,
    Choice,
    ConfigError,
    Constant,
    Divergence,
    Experiment,
    Forbid,
    Grid,
    Hyperband,
    HyperbandStopping,
    IntUniform,
    LogUniform,
    Maximise,
    MedianStopping,
    Minimise,
    Plateau,
    Random,
    SearchSpace,
    SpeedGuard,
    Target,
    Uniform,
    When,
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


NAMES = search_spaces.names()
ABLATIONS = (
    "augmentation", "backbone_ablation", "detector_version", "input_adaptation", "layer_freezing", "normalisation",
    "pretrained_weights",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_experiment_builds_in_full_and_scaled_down(name):
    experiment = search_spaces.load(name)
    assert experiment.name == name
    small = experiment.scaled_down()
    assert small.space == experiment.space
    assert type(small.scheduler) is type(experiment.scheduler)
    assert small.digest() != experiment.digest()
    for each in (experiment, small):
        searcher = build_searcher(each)
        assert searcher.total >= 1
        suggestion = searcher.suggest(0, lambda: [])
        assert searcher.foreseen(0) == suggestion
        config = with_values(each.base, each.space.expand(suggestion.values))
        assert build_scheduler(each.scheduler, each.objective.mode, config.training.epochs) is not None
        per_epoch = build_epoch_stoppers(each.stoppers, each.objective)
        assert len(per_epoch) == sum(isinstance(stopper, Plateau | Target | Divergence) for stopper in each.stoppers)


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_experiment_comes_back_from_its_record(name):
    experiment = search_spaces.load(name)
    for each in (experiment, experiment.scaled_down()):
        data = json.loads(json.dumps(each.to_json()))
        assert data == each.to_json()
        back = Experiment.of_json(data)
        assert back.to_json() == data
        assert back.digest() == each.digest()
        assert back.scaled_down().digest() == each.digest()
        assert (back.space, back.base, back.first, back.searcher) == (each.space, each.base, each.first, each.searcher)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_have_three_seeds(name):
    experiment = search_spaces.load(name)
    assert experiment.seeds == 3
    assert isinstance(experiment.searcher, Grid)


def test_listing_the_experiments_imports_nothing_heavy():
    code = (
        "import sys, search_spaces\n"
        "for name in search_spaces.names(): search_spaces.load(name)\n"
        "print(sorted({'torch', 'ray', 'optuna', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what the report says


def of_the_report(name):
    base = flatten(search_spaces.load(name).base)
    return {
        "tiles.size": base["tiles.size"],
        "detector.enlargement": base["detector.enlargement"],
        "optimizer.name": base["optimizer.name"],
        "optimizer.learning_rate": base["optimizer.learning_rate"],
        "optimizer.weight_decay": base["optimizer.weight_decay"],
        "training.patience": base["training.patience"],
        "training.batch_size": base["training.batch_size"],
        "training.min_improvement": base["training.min_improvement"],
    }


REPORTED = ("backbone_ablation", "pretrained_weights", "layer_freezing", "detector_version", "nms_grid", "sweep_random",
            "sweep_as_run")  # fmt: skip


@pytest.mark.parametrize("name", REPORTED)
def test_experiments_of_the_report_train_as_it_did(name):
    assert of_the_report(name) == {
        "tiles.size": 512,
        "detector.enlargement": 2.0,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 1e-3,
        "optimizer.weight_decay": 1e-6,
        "training.patience": 10,
        "training.batch_size": 2,
        "training.min_improvement": 1e-4,
    }


@pytest.mark.parametrize(
    ("name", "epochs", "version", "weights"),
    [
        ("backbone_ablation", 60, "v1", "backbone"),
        ("pretrained_weights", 60, "v1", None),
        ("layer_freezing", 60, "v1", "backbone"),
        ("detector_version", 200, None, "detector"),
        ("sweep_random", 200, "v2", "detector"),
        ("sweep_as_run", 200, "v2", "detector"),
    ],
)
def test_epochs_and_weights_are_the_report_s(name, epochs, version, weights):
    experiment = search_spaces.load(name)
    assert experiment.base.training.epochs == epochs
    assert version in (None, experiment.base.detector.version)
    assert weights in (None, experiment.base.detector.weights)
    assert experiment.objective == Maximise("map_50")


@pytest.mark.parametrize(
    ("name", "path", "values"),
    [
        ("backbone_ablation", "detector.backbone", ("resnet18", "resnet34", "resnet50", "resnet101")),
        ("pretrained_weights", "detector.weights", ("none", "backbone", "detector")),
        ("detector_version", "detector.version", ("v1", "v2")),
        ("nms_grid", "detector.nms_threshold", (0.3, 0.4, 0.5, 0.6, 0.7)),
        ("sweep_random", "training.batch_size", (4, 8, 16)),
        ("sweep_random", "training.patience", (0, 3, 5)),
        ("sweep_random", "optimizer.weight_decay", (1e-5, 1e-4, 1e-2)),
        ("sweep_as_run", "training.batch_size", (4, 6)),
        ("sweep_as_run", "training.patience", (5, 10, 12)),
        ("sweep_as_run", "optimizer.weight_decay", (0.0, 1e-6, 1e-4, 5e-3)),
    ],
)
def test_values_are_the_report_s(name, path, values):
    assert search_spaces.load(name).space.domains[path] == Choice(*values)


@pytest.mark.parametrize(("name", "low", "high"), [("sweep_random", 1e-6, 1e-2), ("sweep_as_run", 5e-6, 5e-3)])
def test_sweeps_are_the_report_s(name, low, high):
    experiment = search_spaces.load(name)
    assert len(experiment.space.paths) == 4
    assert experiment.space.domains["optimizer.learning_rate"] == LogUniform(low, high)
    assert isinstance(experiment.searcher, Random)
    assert experiment.trials == 30
    assert BudgetCap(seconds=64_800) in experiment.stoppers
    best = [tuple(point[path] for path in ("training.batch_size", "optimizer.learning_rate", "optimizer.weight_decay",
                                           "training.patience")) for point in experiment.first]  # fmt: skip
    assert best == [(4, 3.166e-4, 1e-4, 5), (4, 7.211e-5, 0.0, 10), (4, 1.367e-3, 5e-5, 12)]


def test_the_sweep_as_run_has_the_report_s_guard():
    (guard,) = (each for each in search_spaces.load("sweep_as_run").stoppers if isinstance(each, SpeedGuard))
    assert guard.iterations_per_second == 0.8


def test_nms_is_measured_on_the_test_split_with_its_pictures():
    experiment = search_spaces.load("nms_grid")
    assert experiment.task == "evaluate"
    assert experiment.base.evaluation.split == "test"
    assert [cell["detector.nms_threshold"] for cell in experiment.pictures_of] == [0.3, 0.5, 0.7]


# --- what a searcher or scheduler cannot hold

REAL = SearchSpace({"optimizer.momentum": Uniform(0, 1)})
CATEGORICAL = SearchSpace({"optimizer.momentum": Uniform(0, 1), "optimizer.name": Choice("adam", "sgd")})
CONDITIONAL = SearchSpace(
    {"optimizer.momentum": Uniform(0, 1)}, (When("optimizer.momentum > 0.5", {"training.batch_size": Choice(2, 4)}),)
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"searcher": Grid(), "space": REAL}, "use LinearGrid, LogGrid or Choice"),
        ({"searcher": Random(), "space": REAL}, "Random needs a number of trials"),
        ({"searcher": GP(), "space": CONDITIONAL, "trials": 9}, "use Random, QuasiRandom, TPE, NSGA2 or BOHB"),
        ({"searcher": CMAES(), "space": CONDITIONAL, "trials": 9}, "use Random, QuasiRandom, TPE, NSGA2 or BOHB"),
        ({"searcher": CMAES(), "space": CATEGORICAL, "trials": 9}, "optimizer.name has none; use TPE"),
        *(
            ({"searcher": each, "space": REAL, "trials": 9, "also": (Minimise("seconds"),)}, "use NSGA2, Random or")
            for each in (TPE(), GP(), CMAES(), BOHB())
        ),
        *(
            ({"scheduler": each, "also": (Minimise("seconds"),)}, "knows one objective; use RunAll for several")
            for each in (ASHA(), Hyperband(), PASHA(), MedianStopping(), HyperbandStopping())
        ),
        ({"each": "training.batch_size"}, "Grid runs every cell anyway"),
        ({"confirm": 2}, "Grid runs every cell anyway"),
        ({"searcher": TPE(), "space": REAL, "trials": 9, "each": "optimizer.momentum"}, "finitely many values"),
        ({"searcher": TPE(), "space": REAL, "trials": 9, "each": "optimizer.name"}, "finitely many values"),
        ({"searcher": TPE(), "trials": 9, "confirm": -1}, "confirm = -1"),
        ({"searcher": TPE(), "trials": 9, "confirm": True}, "confirm = True"),
        ({"trials": 0}, "trials = 0"),
        ({"seeds": True}, "seeds = True"),
        ({"question": ""}, "needs a question"),
        ({"first": ({"training.bach_size": 4},)}, "did you mean 'training.batch_size'"),
        ({"first": ({"training.batch_size": 0},)}, "training.batch_size = 0"),
        ({"searcher": TPE(), "space": CATEGORICAL, "trials": 9, "each": "optimizer.name",
          "first": ({"optimizer.name": "adamw"},)}, "first has optimizer.name = 'adamw'"),
        ({"space": SearchSpace({"training.batch_size": Choice(2, 4)}, (), (Forbid("training.batch_size > 1",
                                                                             because="memory"),))}, "memory"),
        ({"space": SearchSpace({"training.batch_size": IntUniform(1, 10**9)})}, "more than 100000 cells; sample it"),
        ({"searcher": TPE(), "trials": 9, "space": SearchSpace(REAL.domains, (), (Forbid("detector.backbone > 3",
                                                                          because="so"),))}, "'detector.backbone > 3'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_to_use_instead(changes, expected):
    with pytest.raises(ConfigError) as raised:
        declare(**changes)
    assert expected in str(raised.value)


def test_what_is_not_searched_needs_no_order():
    space = SearchSpace({**CATEGORICAL.domains, "detector.backbone": Constant("resnet18")})
    experiment = declare(searcher=CMAES(), space=space, trials=8, seeds=1, each="optimizer.name")
    names = [build_searcher(experiment).suggest(number, lambda: []).values["optimizer.name"] for number in range(2)]
    assert names == ["adam", "sgd"]


def test_a_declaration_does_not_change_with_what_it_was_made_of():
    point = {"training.batch_size": 8, "optimizer.weight_decay": 0}
    experiment = declare(first=(point,))
    before = experiment.digest()
    point["training.batch_size"] = 16
    assert experiment.digest() == before
    assert experiment.digest() == declare(first=({"training.batch_size": 8, "optimizer.weight_decay": 0.0},)).digest()


def test_the_order_of_a_grid_counts_for_the_digest():
    domains = {"training.batch_size": Choice(2, 4), "training.epochs": Choice(5, 6)}
    one, other = (declare(space=SearchSpace(dict(order))) for order in (domains.items(), reversed(domains.items())))
    assert one.digest() != other.digest()


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
