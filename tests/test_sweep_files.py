"""W&B sweep files: each shape gives exactly its experiment, and what is wrong in one is said by name."""

import copy
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.run import main
from satdet.config import ConfigError, leaf_paths, metric_names, with_values
from search_spaces.declare import (
    REPORT_PROTOCOL,
    TPE,
    Beta,
    Choice,
    Constant,
    Experiment,
    Grid,
    HyperbandStopping,
    IntUniform,
    InverseLogUniform,
    LogNormal,
    LogUniform,
    Maximise,
    Minimise,
    Normal,
    Quantised,
    Random,
    RunAll,
    Target,
    Uniform,
)
from search_spaces.sweep_files import Sweep, distributions, early_termination, load_sweep, translation
from search_spaces.sweep_files.checks import as_number
from search_spaces.sweep_files.names import GROUPS, PARAMETERS, usual_mode

SWEEPS = Path(__file__).parent / "sweeps"
SCHEMA_FILE = Path(__file__).parents[2] / "shared" / "schemas" / "wandb" / "sweep-schema.json"
UNCAPPED = "run_cap is not given, and W&B would never end: 30 trials are run; --trials changes that"
needs_schema = pytest.mark.skipif(not SCHEMA_FILE.is_file(), reason="W&B's schema is not part of the repository")


@pytest.fixture(scope="module")
def schema():
    return json.loads(SCHEMA_FILE.read_text())


@pytest.fixture
def load(tmp_path):
    """Load a sweep from its text, or from a document."""

    def load_text(sweep):
        file = tmp_path / "a_sweep.yaml"
        file.write_text(sweep if isinstance(sweep, str) else yaml.safe_dump(sweep, sort_keys=False))
        return load_sweep(file)

    return load_text


def random_sweep(parameters, **others):
    sweep = {"method": "random", "run_cap": 5, "metric": {"name": "map_50", "goal": "maximize"}}
    return {**sweep, "parameters": parameters, **others}


def grid_sweep(parameters, **others):
    return {"method": "grid", "metric": {"name": "map_50", "goal": "maximize"}, "parameters": parameters, **others}


def domains_of(sweep):
    return dict(sweep.experiment.space.domains)


# --- the files


LR = LogUniform(1e-5, 1e-2)
EXPECTED = {
    "report": {
        "domains": {
            "training.batch_size": Choice(4, 6),
            "optimizer.learning_rate": LogUniform(5e-6, 5e-3),
            "training.patience": Choice(5, 10, 12),
            "optimizer.weight_decay": Choice(0.0, 1e-6, 1e-4, 5e-3),
        },
        "trials": 30,
        "warned": ["program", "project"],
    },
    "grid": {
        "name": "Sizes_shapes_grid",
        "question": "Which batch size and backbone go together?",
        "searcher": Grid(),
        "domains": {
            "detector.backbone": Choice("resnet18", "resnet34"),
            "training.batch_size": IntUniform(2, 4),
            "detector.nms_threshold": Choice(0.3, 0.5),
        },
        "fixed": {"training.epochs": 20},
        "seeds": 3,
        "warned": ["apiVersion", "parameters.seed", "metric.name"],
    },
    "bayes": {
        "searcher": TPE(seed=0),
        "domains": {"optimizer.learning_rate": LR, "optimizer.momentum": Uniform(0.0, 0.99)},
        "fixed": {"optimizer.name": "sgd"},
        "trials": 40,
        "stoppers": (Target(value=0.9, ends_search=True),),
    },
    "nested": {
        "objective": Minimise("loss"),
        "domains": {
            "optimizer.name": Choice("adam", "adamw"),
            "optimizer.learning_rate": InverseLogUniform(1e-4, 1e-1),
            "detector.backbone": Choice("resnet50", "resnet101"),
            "detector.freezing.stages": Choice(1, 2),
        },
        "fixed": {"detector.freezing.mode": "last_stages", "evaluation.batch_size": 4},
        "trials": 8,
    },
    "hyperband_min_iter": {
        "domains": {"optimizer.learning_rate": LR},
        "fixed": {"training.epochs": 60},
        "trials": 20,
        "scheduler": HyperbandStopping(rungs=(3, 9, 27), reduction=3.0, strict=True),
        "warned": ["metric.name"],
    },
    "hyperband_max_iter": {
        "searcher": TPE(seed=0),
        "objective": Minimise("loss"),
        "domains": {"optimizer.learning_rate": LR},
        "fixed": {"training.epochs": 27},
        "trials": 20,
        "scheduler": HyperbandStopping(rungs=(3, 9), reduction=3.0, strict=False),
        "warned": ["metric.name"],
    },
    "probabilities": {
        "domains": {
            "training.batch_size": Choice(2, 4, 8, weights=(0.5, 0.3, 0.2)),
            "optimizer.name": Choice("adam", "sgd"),
        },
        "fixed": {"training.patience": 0},
        "trials": 30,
        "warned": ["run_cap"],
    },
    "quantised": {
        "objective": Maximise("map"),
        "domains": {
            "training.batch_size": Quantised(Uniform(2, 16), 2),
            "training.epochs": Quantised(LogUniform(10, 100), 10),
            "optimizer.warmup_steps": Quantised(Normal(200, 40), 20),
            "detector.rpn_samples": IntUniform(64, 512),
            "optimizer.momentum": Quantised(Beta(9, 2), 0.05),
            "detector.freezing.rank": Quantised(Uniform(4, 16), 1),
        },
        "trials": 12,
    },
    "bell_shaped": {
        "searcher": TPE(seed=0),
        "objective": Maximise("f1"),
        "domains": {
            "optimizer.learning_rate": LogNormal(-7, 1),
            "detector.nms_threshold": Normal(0.5, 0.1),
            "optimizer.momentum": Beta(9, 2),
            "optimizer.max_gradient_norm": Uniform(1, 20),
            "optimizer.warmup_steps": Quantised(LogNormal(4, 1), 10),
        },
        "trials": 25,
    },
    "lists": {
        "question": "Begun 2021-04-01.",
        "searcher": Grid(),
        "domains": {
            "detector.anchor_sizes": Choice((4.0, 8.0, 16.0, 32.0, 64.0), (8.0, 16.0, 32.0, 64.0, 128.0)),
            "training.empty_tiles": Choice(True, False),
            "augmentation.zoom": Choice(None, 2.0),
            "augmentation.noise": Choice(None, 2.0),
            "detector.weights": Choice("none", "backbone"),
        },
        "fixed": {"detector.aspect_ratios": [0.5, 1.0, 2.0]},
        "warned": ["metric"],
    },
    "launch": {
        "domains": {"optimizer.learning_rate": Uniform(1e-4, 1e-2)},
        "trials": 5,
        "warned": [
            "program", "command", "job", "image_uri", "entity", "project", "controller", "metric.impute",
            "metric.impute_while_running",
        ],
    },
    "minimised": {
        "objective": Minimise("best_iou_per_gt"),
        "domains": {"tiles.box.k": Quantised(Uniform(1.5, 4), 0.5), "input.normalisation": Choice("asinh", "zscale")},
        "trials": 3,
        "warned": ["metric.goal"],
    },
}  # fmt: skip


def test_every_file_is_expected():
    assert sorted(EXPECTED) == sorted(file.stem for file in SWEEPS.iterdir())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_gives_exactly_its_experiment(name):
    expected = EXPECTED[name]
    sweep = load_sweep(SWEEPS / f"{name}.yaml")
    found = sweep.experiment
    assert dict(found.space.domains) == expected["domains"]
    assert found.base == with_values(REPORT_PROTOCOL, expected.get("fixed", {}))
    assert found.searcher == expected.get("searcher", Random(seed=0))
    assert found.objective == expected.get("objective", Maximise("map_50"))
    assert found.scheduler == expected.get("scheduler", RunAll())
    assert found.stoppers == expected.get("stoppers", ())
    assert found.trials == expected.get("trials")
    assert found.seeds == expected.get("seeds", 1)
    assert found.name == expected.get("name", name)
    assert found.question == expected.get("question", f"Which parameters of {name}.yaml are best?")
    assert [warning.split(maxsplit=1)[0].rstrip(":") for warning in sweep.warnings] == expected.get("warned", [])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_scales_down_and_survives_the_record(name):
    experiment = load_sweep(SWEEPS / f"{name}.yaml").experiment
    assert Experiment.of_json(json.loads(json.dumps(experiment.to_json()))).digest() == experiment.digest()
    small = experiment.scaled_down()
    assert small.space == experiment.space
    assert small.base.training.epochs == 4
    assert small.trials == (None if experiment.trials is None else min(4, experiment.trials))
    if isinstance(small.scheduler, HyperbandStopping):
        assert small.scheduler.rungs[-1] < 4


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_planned_by_the_command_which_shows_its_warnings(name, tmp_path, capsys):
    file = SWEEPS / f"{name}.yaml"
    assert main([str(file), "--plan", "--storage", str(tmp_path)]) == 0
    shown = "".join(capsys.readouterr())
    for said in (*EXPECTED[name]["domains"], *load_sweep(file).warnings):
        assert said in shown


@needs_schema
@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_follows_the_schema_of_wandb(name, schema):
    def as_yaml_1_2(value):
        """Numbers without a dot, which YAML 1.1 takes for text."""
        if isinstance(value, dict):
            return {key: as_yaml_1_2(inner) for key, inner in value.items()}
        return [as_yaml_1_2(inner) for inner in value] if isinstance(value, list) else as_number(value)

    document = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())
    jsonschema.validate(as_yaml_1_2(document), schema)


# --- distributions


SHARES = [(count + 0.4) / 97 for count in range(97)]


def stepped(values, step, first=-math.inf, last=math.inf):
    return np.clip(np.round(np.asarray(values) / step) * step, first, last)


REFERENCES = {
    "categorical": ({"values": [4, 2, 8]}, "batch_size", lambda s: np.array([4, 2, 8])[(s * 3).astype(int)]),
    "categorical_w_probabilities": (
        {"values": [2, 4, 8], "probabilities": [0.5, 0.3, 0.2]},
        "batch_size",
        stats.rv_discrete(values=([2, 4, 8], [0.5, 0.3, 0.2])).ppf,
    ),
    "int_uniform": ({"min": 2, "max": 9}, "batch_size", stats.randint(2, 10).ppf),
    "uniform": ({"min": 0.1, "max": 0.9}, "nms", stats.uniform(0.1, 0.8).ppf),
    "q_uniform": (
        {"min": 3, "max": 14, "q": 2},
        "batch_size",
        lambda s: stepped(stats.uniform(3, 11).ppf(s), 2, 4, 14),
    ),
    "log_uniform_values": ({"min": 1e-5, "max": 1e-1}, "lr", stats.loguniform(1e-5, 1e-1).ppf),
    "q_log_uniform_values": (
        {"min": 0.01, "max": 1, "q": 0.05},
        "momentum",
        lambda s: stepped(stats.loguniform(0.01, 1).ppf(s), 0.05, 0.05, 1),
    ),
    "inv_log_uniform_values": (
        {"min": 1e-5, "max": 1e-1},
        "lr",
        lambda s: 1 / stats.loguniform(1e1, 1e5).ppf(1 - s),
    ),
    "normal": ({"mu": 0.4, "sigma": 0.1}, "nms", stats.norm(0.4, 0.1).ppf),
    "q_normal": ({"mu": 60, "sigma": 9, "q": 5}, "warmup_steps", lambda s: stepped(stats.norm(60, 9).ppf(s), 5)),
    "log_normal": ({"mu": -7, "sigma": 2}, "lr", stats.lognorm(s=2, scale=math.exp(-7)).ppf),
    "q_log_normal": (
        {"mu": 3, "sigma": 1, "q": 4},
        "warmup_steps",
        lambda s: stepped(stats.lognorm(s=1, scale=math.exp(3)).ppf(s), 4),
    ),
    "beta": ({"a": 2, "b": 5}, "momentum", stats.beta(2, 5).ppf),
    "q_beta": ({"a": 2, "b": 5, "q": 0.1}, "momentum", lambda s: stepped(stats.beta(2, 5).ppf(s), 0.1, 0, 1)),
}


def test_every_distribution_has_a_reference():
    assert set(REFERENCES) | {"constant"} == set(distributions.DISTRIBUTIONS)


@pytest.mark.parametrize("name", REFERENCES)
def test_draws_have_the_distribution(name, load):
    entry, parameter, reference = REFERENCES[name]
    (domain,) = domains_of(load(random_sweep({parameter: {"distribution": name, **entry}}))).values()
    drawn = [domain.quantile(share) for share in SHARES]
    np.testing.assert_allclose(drawn, reference(np.array(SHARES)), rtol=1e-9, atol=1e-12)
    if parameter in ("batch_size", "warmup_steps"):
        assert all(type(value) is int for value in drawn)


@pytest.mark.parametrize(
    ("distribution", "defaults"),
    [
        ("normal", Normal(0, 1)),
        ("log_normal", LogNormal(0, 1)),
        ("beta", Beta(1, 1)),
        ("q_normal", Quantised(Normal(0, 1), 1)),
        ("q_log_normal", Quantised(LogNormal(0, 1), 1)),
        ("q_beta", Quantised(Beta(1, 1), 1)),
    ],
)
def test_absent_keys_have_the_defaults_of_the_schema(distribution, defaults, load):
    entry = {"distribution": distribution}
    assert domains_of(load(random_sweep({"weight_decay": entry}))) == {"optimizer.weight_decay": defaults}


@pytest.mark.parametrize(
    ("parameter", "entry", "expected"),
    [
        ("batch_size", {"min": 2, "max": 4}, IntUniform(2, 4)),
        ("batch_size", {"min": "1e0", "max": 4.0, "distribution": "int_uniform"}, IntUniform(1, 4)),
        ("nms", {"min": 0.25, "max": 1}, Uniform(0.25, 1)),
        ("nms", {"min": "25e-2", "max": 1}, Uniform(0.25, 1)),
        ("batch_size", {"values": ["4", 8.0]}, Choice(4, 8)),
        ("weight_decay", {"values": ["1e-4", "1E-6", 0]}, Choice(1e-4, 1e-6, 0.0)),
        ("anchor_sizes", {"values": [["8", 16, 32, 64, "1.28e2"]]}, Choice((8.0, 16.0, 32.0, 64.0, 128.0))),
        ("patience", {"values": ["None", 3]}, Choice(None, 3)),
        ("optimizer", {"values": ["ADAM", "Sgd"]}, Choice("adam", "sgd")),
        ("freezing.mode", {"values": ["stem-only"]}, Choice("stem_only")),
        ("batch_size", {"values": [4, 8, 4, 4]}, Choice(4, 8, weights=(3.0, 1.0))),
        ("batch_size", {"values": [4, 8], "probabilities": [0.5, 0.5]}, Choice(4, 8)),
        ("batch_size", {"values": [4, 8], "probabilities": ["25e-2", "75e-2"]}, Choice(4, 8, weights=(0.25, 0.75))),
        ("lr", {"distribution": "log_normal", "mu": "-7e0", "sigma": "1e0"}, LogNormal(-7, 1)),
        ("momentum", {"distribution": "q_beta", "q": "1e-1"}, Quantised(Beta(1, 1), 0.1)),
    ],
)
def test_values_take_the_type_of_their_path(parameter, entry, expected, load):
    (domain,) = domains_of(load(random_sweep({parameter: entry}))).values()
    assert domain == expected


@pytest.mark.parametrize(
    ("parameter", "entry", "expected"),
    [
        ("batch_size", {"distribution": "q_uniform", "min": 3, "max": 9, "q": 2}, [3, 5, 7]),
        ("batch_size", {"distribution": "q_uniform", "min": 3, "max": 6}, [3, 4, 5]),
        ("nms", {"distribution": "q_uniform", "min": 0.1, "max": 0.45, "q": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ("batch_size", {"distribution": "int_uniform", "min": 3, "max": 6}, [3, 4, 5, 6]),
        ("batch_size", {"values": [8, 2, 8]}, [8, 2]),
    ],
)
def test_a_grid_tries_what_wandb_tries(parameter, entry, expected, load):
    sweep = load(grid_sweep({parameter: entry}))
    assert [next(iter(cell.values())) for cell in sweep.experiment.space.cells()] == expected


def test_constants_are_of_the_base_so_that_they_can_be_set(load):
    sweep = load(random_sweep({"lr": {"min": 1e-4, "max": 1e-3}, "epochs": {"value": "1e1"}}))
    assert sweep.experiment.base.training.epochs == 10
    assert sweep.experiment.with_base_values({"training.epochs": 3}).base.training.epochs == 3


def test_constants_that_fit_only_with_what_varies_are_of_the_space(load):
    experiment = load(grid_sweep({"overlap": {"value": 600}, "tile_size": {"values": [512, 1024]}})).experiment
    assert dict(experiment.space.domains) == {"tiles.size": Choice(512, 1024), "tiles.overlap": Constant(600)}
    assert list(experiment.space.cells(experiment.base)) == [{"tiles.size": 1024, "tiles.overlap": 600}]


@pytest.mark.parametrize(
    "parameters", [{"overlap": {"value": 200}}, {"crop": {"value": 256}}, {"crop": {"values": [256]}}]
)
def test_the_smoke_run_makes_room_for_what_its_tiles_cannot_hold(parameters, load):
    small = load(grid_sweep({**parameters, "batch_size": {"values": [2, 4]}})).experiment.scaled_down()
    assert len(list(small.space.cells(small.base))) == 2


def test_a_smoke_run_that_varies_weights_needs_no_network(load):
    assert load(grid_sweep({"weights": {"values": ["none", "backbone"]}})).experiment.smoke.stand_in_weights
    assert not load(grid_sweep({"lr": {"values": [0.1]}})).experiment.smoke.stand_in_weights


# --- names


@pytest.mark.parametrize("path", leaf_paths())
def test_every_path_is_a_name_of_itself(path, load):
    entry = {"values": [_default(path)]}
    assert list(domains_of(load(random_sweep({path: entry})))) == [path]


def _default(path):
    value = REPORT_PROTOCOL
    for part in path.split("."):
        value = getattr(value, part)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("name", "path"), PARAMETERS.items())
def test_names_of_other_codes_are_paths(name, path, load):
    assert path in leaf_paths()
    for spelling in (name, name.replace("_", "-")):
        assert list(domains_of(load(random_sweep({spelling: {"values": [_default(path)]}})))) == [path]


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"weight_decay": {"values": [0]}}, "optimizer.weight_decay"),
        ({"momentum": {"values": [0]}}, "optimizer.momentum"),
        ({"backbone": {"values": ["resnet18"]}}, "detector.backbone"),
        ({"box.k": {"values": [2]}}, "tiles.box.k"),
        ({"optimizer": {"values": ["sgd"]}}, "optimizer.name"),
        ({"optimizer": {"parameters": {"lr": {"values": [0.1]}}}}, "optimizer.learning_rate"),
        ({"optimizer": {"parameters": {"optimizer": {"values": ["sgd"]}}}}, "optimizer.name"),
        ({"evaluation": {"parameters": {"batch_size": {"values": [4]}}}}, "evaluation.batch_size"),
        ({"training": {"parameters": {"batch-size": {"values": [4]}}}}, "training.batch_size"),
        ({"detector": {"parameters": {"mode": {"values": ["lora"]}}}}, "detector.freezing.mode"),
        ({"freezing": {"parameters": {"mode": {"values": ["lora"]}}}}, "detector.freezing.mode"),
        ({"tiles": {"parameters": {"box": {"parameters": {"k": {"values": [2]}}}}}}, "tiles.box.k"),
        *(({group: {"parameters": {path.removeprefix(f"{section}."): {"values": [_default(path)]}}}}, path)
          for group, section in GROUPS.items() for path in leaf_paths() if path.startswith(f"{section}.")),
        ({"optimizer": {"parameters": {"optimizer.momentum": {"values": [0]}}}}, "optimizer.momentum"),
    ],
)  # fmt: skip
def test_names_are_looked_for_in_their_group_first(parameters, path, load):
    sweep = load(random_sweep(parameters))
    assert list(domains_of(sweep)) == [path]
    assert sweep.warnings == ()


def test_a_name_outside_of_its_group_is_found_with_a_warning(load):
    sweep = load(random_sweep({"optimizer": {"parameters": {"batch_size": {"values": [2, 4]}}}}))
    assert list(domains_of(sweep)) == ["training.batch_size"]
    (warning,) = sweep.warnings
    assert warning == (
        "parameters.optimizer.parameters.batch_size is training.batch_size, which is not of the group optimizer"
    )


@pytest.mark.parametrize("prefix", ["eval/", "val/", "val_", "validation.", "test/", "valid_"])
def test_prefixes_of_metrics_are_stripped_and_said(prefix, load):
    metric = {"name": f"{prefix}map_50", "goal": "maximize"}
    sweep = load(random_sweep({"lr": {"values": [0.1]}}, metric=metric))
    assert sweep.experiment.objective == Maximise("map_50")
    assert sweep.warnings == (f"metric.name '{prefix}map_50' is read as 'map_50', measured on the evaluation tiles",)


def test_a_validation_loss_is_said_to_be_the_training_loss(load):
    sweep = load(random_sweep({"lr": {"values": [0.1]}}, metric={"name": "val_loss"}))
    assert sweep.experiment.objective == Minimise("loss")
    assert sweep.warnings == ("metric.name 'val_loss' is read as 'loss', measured on the training tiles",)


@pytest.mark.parametrize("metric", metric_names(REPORT_PROTOCOL))
@pytest.mark.parametrize(("goal", "mode"), [("maximize", "max"), ("minimize", "min"), (None, "min")])
def test_every_metric_can_be_an_objective_and_a_wrong_side_is_said(metric, goal, mode, load):
    section = {"name": metric} | ({} if goal is None else {"goal": goal})
    sweep = load(random_sweep({"lr": {"values": [0.1]}}, metric=section))
    assert (sweep.experiment.objective.metric, sweep.experiment.objective.mode) == (metric, mode)
    usual = usual_mode(metric)
    assert len(sweep.warnings) == (usual not in (None, mode))
    if sweep.warnings:
        assert f"WORST {metric}" in sweep.warnings[0]
        assert ("W&B's default" in sweep.warnings[0]) == (goal is None)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"name": "lr & wd (v2)"}, "lr_wd_v2"),
        ({"name": "2024 sweep"}, "sweep_2024_sweep"),
        ({"name": "größe"}, "gr_e"),
        ({"name": "***"}, "sweep"),
        ({"name": ""}, "a_sweep"),
        ({}, "a_sweep"),
        ({"name": "x" * 500}, "x" * 60),
    ],
)
def test_the_name_becomes_an_identifier(given, name, load):
    assert load(random_sweep({"lr": {"values": [0.1]}}, **given)).experiment.name == name


# --- what is said


@pytest.mark.parametrize(
    ("sweep", "warning"),
    [
        (
            random_sweep({"momentum": {"min": 0, "max": 1}}),
            "parameters.momentum is int_uniform, as W&B has it where min and max are whole: only whole numbers are "
            "tried; write distribution: uniform for all between",
        ),
        (
            random_sweep({"batch_size": {"values": [2, 2, 4]}}),
            "parameters.batch_size.values has equal values; each is drawn as often as all of them",
        ),
        (
            grid_sweep({"batch_size": {"values": [2, 2, 4]}}),
            "parameters.batch_size.values has equal values; each is tried once",
        ),
        (
            random_sweep({"lr": {"values": [0.1]}, "seed": {"value": 42}}),
            "parameters.seed is not used: the search numbers its seeds itself; --seeds N replicates every cell",
        ),
        (
            random_sweep({"lr": {"values": [0.1]}, "seed": {"values": [1, 2]}}),
            "parameters.seed is not used: the search numbers its seeds itself; --seeds N replicates every cell",
        ),
        (
            grid_sweep({"batch_size": {"values": [2, 4]}, "seed": {"min": 1, "max": 3}}, run_cap=5),
            "run_cap = 5 is read as 1 cells with 3 seeds each",
        ),
        (
            random_sweep({"lr": {"values": [0.1]}}, early_terminate={"type": "hyperband", "min_iter": 900}),
            f"early_terminate: trials have {REPORT_PROTOCOL.training.epochs} epochs, and its first band is 900: no "
            "trial is stopped",
        ),
        (
            random_sweep({"lr": {"values": [0.1]}}, early_terminate={"type": "hyperband", "min_iter": 3, "s": 2}),
            "early_terminate.s is not used: it counts only where max_iter and s are both given",
        ),
        (
            random_sweep(
                {"lr": {"values": [0.1]}}, early_terminate={"type": "hyperband", "min_iter": 3, "max_iter": 9, "s": 1}
            ),
            "early_terminate.min_iter is not used: W&B takes max_iter and s where all three are given",
        ),
    ],
)  # fmt: skip
def test_what_is_not_used_or_not_expected_is_said(sweep, warning, load):
    assert warning in load(sweep).warnings


@pytest.mark.parametrize(
    ("seeds", "cap", "trials", "replicates"),
    [(1, 1, 1, 1), (1, 2, 2, 1), (1, 3, None, 1), (2, 6, None, 2), (2, 5, 2, 2), (2, 3, 1, 2), (4, 3, 1, 3)],
)
def test_run_cap_of_a_grid_is_of_cells_with_their_seeds(seeds, cap, trials, replicates, load):
    parameters = {"batch_size": {"values": [2, 4, 6]}, "seed": {"values": list(range(seeds))}}
    sweep = load(grid_sweep(parameters, run_cap=cap))
    assert (sweep.experiment.trials, sweep.experiment.seeds) == (trials, replicates)
    assert (trials or 3) * replicates <= cap
    assert any("run_cap" in warning for warning in sweep.warnings) == (trials is not None and seeds > 1)


@pytest.mark.parametrize(
    ("given", "rungs"),
    [
        ({"min_iter": 1, "eta": 2}, (1, 2, 4, 8, 16)),
        ({"min_iter": 3}, (3, 9)),
        ({"min_iter": 2, "eta": 1.5}, (2, 3, 4, 6, 10, 15)),
        ({"min_iter": 2, "eta": "2e0"}, (2, 4, 8, 16)),
        ({"max_iter": 27, "s": 3}, (1, 3, 9)),
        ({"max_iter": 27, "s": 5}, (1, 3, 9)),
        ({"max_iter": 10, "s": 2, "eta": 2}, (2, 5)),
    ],
)
def test_bands_of_hyperband(given, rungs, load):
    parameters = {"lr": {"values": [0.1]}, "epochs": {"values": [10, 20]}}
    sweep = load(random_sweep(parameters, early_terminate={"type": "hyperband", **given}))
    assert sweep.experiment.scheduler == HyperbandStopping(rungs=rungs, reduction=float(given.get("eta", 3)))


# --- what is wrong


def lr(**entry):
    return random_sweep({"lr": entry})


WRONG = {
    "not text": ("[1, 2]", "a_sweep.yaml: holds [1, 2], not a mapping with method and parameters"),
    "scalar": ("sweep", "a_sweep.yaml: holds 'sweep', not a mapping"),
    "empty": ("", "a_sweep.yaml: is empty"),
    "comment": ("# nothing\n", "is empty"),
    "null": ("---\n", "is empty"),
    "two documents": ("method: grid\n---\nmethod: grid\n", "holds several YAML documents"),
    "no yaml": ("method: [grid\nname: x", "line 2: expected ',' or ']'"),
    "tab": ("method: grid\n\tname: x", "line 2: found character '\\t' that cannot start any token"),
    "control character": ("method: \x00", "unacceptable character"),
    "duplicate": (
        "method: grid\nparameters:\n  lr: {value: 1}\n  wd: {value: 1}\n  lr: {value: 2}\n",
        "line 5: the key 'lr' was given before, in line 3",
    ),
    "duplicate at the top": ("method: grid\nmethod: random\n", "line 2: the key 'method' was given before, in line 1"),
    "key of another kind": ("method: grid\n1: x\n", "line 2: the key '1' is not text"),
    "key that is true": ("on: grid\n", "line 1: the key 'on' is not text"),
    "key that is a list": ("? [a]\n: x\n", "is not text"),
    "python object": ("method: !!python/name:os.system ''", "line 1: the tag !!python/name:os.system has no place"),
    "binary": ("method: !!binary aGk=", "the tag !!binary has no place"),
    "own tag": ("method: !mine x", "the tag !mine has no place"),
    "alias of nothing": ("method: *x", "line 1: found undefined alias 'x'"),
    "alias of itself": ("method: grid\nparameters: &a {lr: *a}\n", "line 2: an alias holds itself"),
    "bomb": (
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)),
        "holds more than 20000 values when its aliases are written out",
    ),
    "merge bomb": (
        "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 40)),
        "holds more than 20000 values",
    ),
    "deep": ("a: " + "[" * 5000, "is nested too deeply"),
    "large": ("# " + "x" * 200_000, "is larger than 100000 bytes"),
    "long number": ("run_cap: " + "9" * 6000, "holds a value that cannot be read"),
    "unknown key": (random_sweep({}, metrik={}), "metrik: unknown key (did you mean 'metric'?); known: "),
    "no method": ({"parameters": {"lr": {"value": 1}}}, "method is missing; write one of grid, random, bayes"),
    "wrong method": ({"method": "baies"}, "method = 'baies' is not one of grid, random, bayes (did you mean 'bayes'?)"),
    "method of another kind": ({"method": ["grid"]}, "method = ['grid'] is not one of"),
    "custom": ({"method": "custom"}, "method: custom cannot be run; write grid, random, bayes; --searcher"),
    "scheduler": (random_sweep({}, scheduler={"engine": "optuna"}), "scheduler: another library's optimizer cannot"),
    "metrics": (random_sweep({}, metrics=[]), "metrics: several objectives cannot be read"),
    "kind": (random_sweep({}, kind="sweeps"), "kind = 'sweeps' is not one of sweep (did you mean 'sweep'?)"),
    "name": (random_sweep({}, name=2024), "name = 2024 is not text; put it in quotes"),
    "program": (random_sweep({}, program=["a"]), "program = ['a'] is not text"),
    "command": (random_sweep({}, command="python"), "command = 'python' is not a list"),
    "controller": (random_sweep({}, controller={"type": "far"}), "controller.type = 'far' is not one of local, cloud"),
    "controller of another kind": (random_sweep({}, controller="local"), "controller = 'local' is not a mapping"),
    "run_cap": (random_sweep({"lr": {"values": [1]}}, run_cap=0), "run_cap = 0 is below its minimum 1"),
    "run_cap with a half": (random_sweep({"lr": {"values": [1]}}, run_cap=1.5), "run_cap = 1.5 is not a whole number"),
    "run_cap in words": (random_sweep({"lr": {"values": [1]}}, run_cap="ten"), "run_cap = 'ten' is not a number"),
    "no parameters": ({"method": "grid"}, "parameters is missing; there is nothing to search"),
    "empty parameters": (random_sweep({}), "parameters is empty; there is nothing to search"),
    "list of parameters": (random_sweep(["lr"]), "parameters = ['lr'] is not a mapping"),
    "only constants": (lr(value=1), "parameters: nothing varies, so that method: random would repeat one trial"),
    "short for value": (random_sweep({"lr": 0.1}), "parameters.lr = 0.1 is not a mapping; write value: 0.1 below it"),
    "short for values": (random_sweep({"lr": [1]}), "parameters.lr = [1] is not a mapping; write values: [...]"),
    "misspelt parameter": (
        random_sweep({"weigth_decay": {"value": 0}}),
        "a_sweep.yaml: parameters.weigth_decay: unknown parameter (did you mean 'weight_decay'?)",
    ),
    "parameter in capitals": (
        random_sweep({"LR": {"value": 1}}),
        "parameters.LR: unknown parameter (did you mean 'lr'?)",
    ),
    "misspelt in a group": (
        random_sweep({"optimizer": {"parameters": {"learning_rat": {"value": 1}}}}),
        "parameters.optimizer.parameters.learning_rat: unknown parameter (did you mean 'learning_rate'?)",
    ),
    "a name with a line break": (random_sweep({"l\nr": {"value": 1}}), "parameters.'l\\nr': unknown parameter"),
    "unknown parameter": (random_sweep({"qqq": {"value": 1}}), "parameters.qqq: unknown parameter; known: tiles.size"),
    "unknown group": (
        random_sweep({"optimiser": {"parameters": {"lr": {"value": 1}}}}),
        "parameters.optimiser: unknown group (did you mean 'optimizer'?)",
    ),
    "group with a value": (
        random_sweep({"optimizer": {"parameters": {}, "value": 1}}),
        "parameters.optimizer.value: unknown key; known: parameters",
    ),
    "group that is a list": (
        random_sweep({"optimizer": {"parameters": ["lr"]}}),
        "parameters.optimizer.parameters = ['lr'] is not a mapping of names to parameters",
    ),
    "empty group": (random_sweep({"optimizer": {"parameters": {}}}), "parameters.optimizer.parameters is empty"),
    "one path twice": (
        random_sweep({"lr": {"values": [1]}, "learning_rate": {"values": [1]}}),
        "parameters.learning_rate and parameters.lr are both optimizer.learning_rate; keep one",
    ),
    "misspelt key": (
        lr(distributon="uniform", min=0, max=1),
        "parameters.lr.distributon: unknown key (did you mean 'distribution'?); known: distribution, value",
    ),
    "misspelt distribution": (
        lr(distribution="log_uniform_value", min=1, max=2),
        "parameters.lr.distribution = 'log_uniform_value' is not one of constant, categorical",
    ),
    "nothing": (lr(), "parameters.lr: needs value, values, min and max, or a distribution"),
    "only min": (lr(min=0.1), "parameters.lr: needs value, values, min and max, or a distribution"),
    "max missing": (lr(distribution="uniform", min=0.1), "parameters.lr: uniform needs max"),
    "min and max missing": (lr(distribution="log_uniform_values"), "log_uniform_values needs min and max"),
    "q without distribution": (lr(min=1, max=2, q=1), "parameters.lr: q needs a distribution; write"),
    "a key too many": (
        lr(distribution="uniform", min=0.1, max=1, sigma=2),
        "parameters.lr.sigma: uniform has no such key; it takes min, max",
    ),
    "value and values": (lr(value=1, values=[1]), "parameters.lr.values: constant has no such key; it takes value"),
    "min above max": (lr(min=0.2, max=0.1), "parameters.lr: min = 0.2 is not below max = 0.1"),
    "min equals max": (lr(min=2, max=2), "parameters.lr: min = 2 is not below max = 2"),
    "min in words": (lr(min="low", max=1), "parameters.lr.min = 'low' is not a number"),
    "infinite": (lr(min=0.1, max=math.inf), "parameters.lr.max = inf is not finite"),
    "true for a number": (lr(distribution="uniform", min=True, max=2), "parameters.lr.min = True is not a number"),
    "logarithm of 0": (
        lr(distribution="log_uniform_values", min=0, max=1),
        "parameters.lr.min = 0: log_uniform_values needs a min above 0",
    ),
    "logarithm below 0": (
        lr(distribution="q_log_uniform_values", min=-1, max=1),
        "parameters.lr.min = -1: q_log_uniform_values needs a min above 0",
    ),
    "exponents": (
        lr(distribution="log_uniform", min=-9.2103, max=-4.6052),
        "parameters.lr: log_uniform is no longer accepted, by W&B neither; write distribution: log_uniform_values with "
        "min: 0.000100004 and max: 0.0099997 (e to the power of these numbers)",
    ),
    "inverse exponents": (
        lr(distribution="inv_log_uniform", min=math.log(10), max=math.log(1000)),
        "write distribution: inv_log_uniform_values with min: 0.001 and max: 0.1 (e to",
    ),
    "quantised exponents": (
        lr(distribution="q_log_uniform", min=0, max=math.log(5), q=1),
        "write distribution: q_log_uniform_values with min: 1 and max: 5 (e to",
    ),
    "exponents out of bounds": (
        lr(distribution="log_uniform", min=0, max=1e6),
        "write distribution: log_uniform_values with the values themselves, not their exponents, as min and max",
    ),
    "empty values": (lr(values=[]), "parameters.lr.values = [] is not a list of values"),
    "one value for values": (lr(values=0.1), "parameters.lr.values = 0.1 is not a list of values"),
    "a value of another kind": (
        lr(values=[0.1, "fast"]),
        "parameters.lr.values[1] = 'fast' is not of type float, as optimizer.learning_rate needs it",
    ),
    "a value out of range": (lr(values=[0.1, 0]), "parameters.lr.values[1] = 0.0 must be above 0"),
    "an unknown word": (
        random_sweep({"optimizer": {"values": ["Adam", "RMSprop"]}}),
        "parameters.optimizer.values[1] = 'RMSprop': optimizer.name is one of adam, adamw, sgd",
    ),
    "a mapping for a value": (random_sweep({"optimizer": {"value": {"lr": 1}}}), "optimizer.value = {'lr': 1}"),
    "a half batch": (random_sweep({"batch_size": {"values": [2.5]}}), "values[0] = 2.5 is not of type int, as"),
    "too few probabilities": (
        lr(values=[1, 2], probabilities=[1]),
        "parameters.lr.probabilities has 1 entries for 2 values",
    ),
    "negative probability": (lr(values=[1, 2], probabilities=[-1, 2]), "lr.probabilities[0] = -1.0 is negative"),
    "probabilities of 0.9": (lr(values=[1, 2], probabilities=[0.5, 0.4]), "probabilities sum to 0.9, not to 1"),
    "probabilities without values": (lr(probabilities=[1]), "parameters.lr: needs value, values, min and max"),
    "sigma of 0": (lr(distribution="normal", sigma=0), "parameters.lr.sigma = 0: normal needs a sigma above 0"),
    "q of 0": (lr(distribution="q_uniform", min=1, max=2, q=0), "parameters.lr.q = 0 is not above 0"),
    "a of 0": (lr(distribution="beta", a=0), "parameters.lr (optimizer.learning_rate): Beta.a = 0.0 must be above 0"),
    "no multiple of q": (
        lr(distribution="q_uniform", min=0.1, max=0.2, q=1),
        "parameters.lr (optimizer.learning_rate): Quantised: no multiple of 1 lies in",
    ),
    "an end out of range": (
        random_sweep({"nms": {"min": 0.5, "max": 1.5}}),
        "parameters.nms (detector.nms_threshold) = 1.5 is above its maximum 1",
    ),
    "nothing legal": (
        random_sweep({"lr": {"distribution": "normal", "mu": -50, "sigma": 1}}),
        "parameters.lr (optimizer.learning_rate) = -50.0 must be above 0",
    ),
    "exponentials out of bounds": (
        lr(distribution="log_normal", mu=1e9),
        "parameters.lr (optimizer.learning_rate): LogNormal: mean = 1000000000.0 and std = 1.0 are of the logarithm",
    ),
    "reals for whole numbers": (
        random_sweep({"batch_size": {"min": 2.0, "max": 8.0}}),
        "parameters.batch_size: uniform draws real numbers, and training.batch_size takes whole ones; write "
        "distribution: int_uniform",
    ),
    "halves for whole numbers": (
        random_sweep({"batch_size": {"distribution": "q_uniform", "min": 2, "max": 8, "q": 0.5}}),
        "parameters.batch_size.q = 0.5: training.batch_size takes whole numbers, so q must be whole",
    ),
    "numbers for words": (
        random_sweep({"backbone": {"min": 18, "max": 50}}),
        "parameters.backbone: int_uniform draws numbers, which detector.backbone does not take; write values: [...]",
    ),
    "endless tiles": (
        random_sweep({"tiles": {"parameters": {"box": {"parameters": {"k": {"min": 1.5, "max": 4}}}}}}),
        "k: tiles.box.k needs finitely many values, and uniform has more; tiles are prepared anew for each",
    ),
    "many tiles": (
        random_sweep({"tile_size": {"min": 32, "max": 1032}}),
        "parameters.tile_size: tiles.size has 1000.0 values; tiles are prepared anew for each",
    ),
    "a grid of reals": (
        grid_sweep({"lr": {"min": 0.1, "max": 0.2}}),
        "parameters.lr: a grid cannot have uniform; it takes constant, categorical, int_uniform, q_uniform",
    ),
    "a grid of logarithms": (
        grid_sweep({"lr": {"distribution": "log_uniform_values", "min": 0.1, "max": 0.2}}),
        "parameters.lr: a grid cannot have log_uniform_values",
    ),
    "a grid of probabilities": (
        grid_sweep({"lr": {"values": [1], "probabilities": [1]}}),
        "parameters.lr: a grid cannot have categorical_w_probabilities",
    ),
    "an endless grid": (
        grid_sweep({"batch_size": {"min": 1, "max": 10**12}}),
        "parameters.batch_size: a grid with 1000000000000 values",
    ),
    "an endless grid of steps": (
        grid_sweep({"lr": {"distribution": "q_uniform", "min": 1, "max": 2, "q": 2.0**-900}}),
        f"parameters.lr: a grid with {2.0**900!r} values",
    ),
    "a large grid": (
        grid_sweep({"batch_size": {"min": 1, "max": 200}, "epochs": {"min": 1, "max": 200}}),
        "parameters: a grid of 40000 trials; use method: random, or fewer values",
    ),
    "a grid that cannot run": (
        grid_sweep({"weights": {"value": "detector"}, "backbone": {"values": ["resnet18"]}}),
        "no cell of the space can run",
    ),
    "bayes without metric": (
        {"method": "bayes", "parameters": {"lr": {"values": [1]}}},
        "metric is missing, and method: bayes needs one; write name: map_50 and goal: maximize",
    ),
    "hyperband without metric": (
        {"method": "random", "parameters": {"lr": {"values": [1]}}, "early_terminate": {"type": "hyperband"}},
        "metric is missing, and early_terminate needs one",
    ),
    **{
        f"metric {problem}": (random_sweep({"lr": {"values": [1]}}, metric=metric), message)
        for problem, metric, message in [
            ("of another kind", "map_50", "metric = 'map_50' is not a mapping"),
            ("without name", {"goal": "maximize"}, "metric.name is missing; write name: map_50"),
            ("misspelt", {"name": "map50"}, "metric.name = 'map50': no trial reports it (did you mean 'map_50'?)"),
            ("in capitals", {"name": "MAP_50"}, "no trial reports it (did you mean 'map_50'?)"),
            ("with a wrong goal", {"name": "map", "goal": "max"}, "metric.goal = 'max' is not one of minimize"),
            ("with a wrong key", {"name": "map", "gaol": "x"}, "metric.gaol: unknown key (did you mean 'goal'?)"),
            ("with a wrong target", {"name": "map", "target": "high"}, "metric.target = 'high' is not a number"),
            ("with a wrong impute", {"name": "map", "impute": "mean"}, "metric.impute = 'mean' is not one of"),
            ("imputed always", {"name": "map", "impute_while_running": True}, "impute_while_running = True is not"),
        ]
    },
    **{
        f"early_terminate {problem}": (random_sweep({"lr": {"values": [1]}}, early_terminate=section), message)
        for problem, section, message in [
            ("of another kind", "hyperband", "early_terminate = 'hyperband' is not a mapping"),
            ("without type", {"min_iter": 3}, "early_terminate.type is missing; write type: hyperband"),
            ("envelope", {"type": "envelope"}, "early_terminate.type = 'envelope' is not one of hyperband"),
            ("without bands", {"type": "hyperband"}, "early_terminate needs min_iter, or both max_iter and s"),
            ("without s", {"type": "hyperband", "max_iter": 9}, "early_terminate needs min_iter, or"),
            ("with a wrong key", {"type": "hyperband", "mim_iter": 3}, "early_terminate.mim_iter: unknown key"),
            ("from 0", {"type": "hyperband", "min_iter": 0}, "early_terminate.min_iter = 0 is below its minimum 1"),
            ("with eta 1", {"type": "hyperband", "min_iter": 3, "eta": 1}, "early_terminate.eta = 1 is not above 1"),
            ("with half a step", {"type": "hyperband", "max_iter": 9, "s": 1.5}, "s = 1.5 is not a whole number"),
            ("below 1", {"type": "hyperband", "max_iter": 2, "s": 1}, "max_iter = 2 divided by eta = 3 is below 1"),
            ("strictly", {"type": "hyperband", "min_iter": 3, "strict": "yes"}, "strict = 'yes' is not true or false"),
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_wrong_is_said_in_one_line_with_file_and_place(problem, load, tmp_path):
    sweep, message = WRONG[problem]
    with pytest.raises(ConfigError) as raised:
        load(sweep)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'a_sweep.yaml'}: ")
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(("name", "message"), [("missing.yaml", "no such file"), (".", "is not a file")])
def test_what_is_no_file_is_said(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_sweep(tmp_path / name)


def test_bytes_that_are_no_text_are_said(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_bytes(b"method: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_sweep(file)


# --- nothing of the schema is left out


@needs_schema
def test_every_key_of_the_schema_is_known(schema):
    assert set(schema["properties"]) == set(translation.KEYS)
    assert set(schema["definitions"]["metric"]["properties"]) == set(translation.METRIC_KEYS)
    assert set(schema["definitions"]["hyperband_stopping"]["properties"]) == set(early_termination.KEYS)
    parameters = [each for name, each in schema["definitions"].items() if name.startswith("param_")]
    shapes = [shape for each in parameters for shape in each.get("anyOf", [each])]
    assert {key for shape in shapes for key in shape["properties"]} == set(distributions.KEYS)
    named = {name for shape in shapes for name in shape["properties"].get("distribution", {}).get("enum", [])}
    assert named == {*distributions.DISTRIBUTIONS, "log_uniform", "inv_log_uniform", "q_log_uniform"}


def test_the_page_names_every_key_distribution_and_name():
    page = (Path(__file__).parents[1] / "docs" / "sweep-files.md").read_text()
    keys = (*translation.KEYS, *translation.METRIC_KEYS, *early_termination.KEYS, *distributions.KEYS)
    for name in {*keys, *distributions.DISTRIBUTIONS, *PARAMETERS, *GROUPS}:
        assert re.search(rf"`{re.escape(name)}[`:]", page), name


HYPERBAND = {"type": "hyperband", "min_iter": 3}
TOP_LEVEL = {
    "apiVersion": "v1", "controller": {"type": "local"}, "description": "What?", "program": "train.py", "job": "a job",
    "image_uri": "an image", "entity": "us", "project": "ours", "command": ["python"], "name": "another", "run_cap": 7,
    "method": "bayes", "metric": {"name": "map", "goal": "maximize"}, "metrics": [{"name": "map"}, {"name": "loss"}],
    "scheduler": {"engine": "optuna"}, "early_terminate": HYPERBAND, "parameters": {"lr": {"values": [1, 2]}},
}  # fmt: skip
METRIC = {"name": "map", "goal": "minimize", "target": 0.9, "impute": "best", "impute_while_running": "best"}
STOPPING = {"type": "hyperband", "min_iter": 5, "max_iter": 27, "s": 2, "eta": 2, "strict": False}


def outcome(load, sweep):
    """What a sweep leads to: its declaration and warnings, or an error."""
    try:
        loaded = load(sweep)
    except ConfigError as error:
        return str(error)
    return loaded.experiment.to_json(), loaded.warnings


@needs_schema
def test_no_key_of_the_schema_is_without_effect(schema, load):
    """Adding or changing any of them changes the experiment, is warned of by name, or is refused by name."""
    plain = random_sweep({"lr": {"values": [1]}})
    before = outcome(load, plain)
    for key in schema["properties"]:
        if key == "kind":
            assert outcome(load, {**plain, "kind": "other"}) != before
            continue
        after = outcome(load, {**plain, key: TOP_LEVEL[key]})
        assert after != before, key
        if key in translation.NOT_USED:
            assert after[1][0].startswith(f"{key} is not used: ")
        if key in translation.REFUSED:
            assert f": {key}: " in after
    for key in schema["definitions"]["metric"]["properties"]:
        assert outcome(load, {**plain, "metric": {**plain["metric"], key: METRIC[key]}}) != before, key
    stopped = outcome(load, {**plain, "early_terminate": HYPERBAND})
    for key in schema["definitions"]["hyperband_stopping"]["properties"]:
        section = {**HYPERBAND, key: STOPPING[key]} if key != "type" else {"min_iter": 3, "type": "other"}
        assert outcome(load, {**plain, "early_terminate": section}) != stopped, key


CHANGED = {
    "min": 0.3, "max": 0.8, "q": 0.1, "mu": 0.3, "sigma": 2.0, "a": 3, "b": 4, "value": 0.4, "values": [0.1, 0.2],
    "probabilities": [0.9, 0.1],
}  # fmt: skip


@needs_schema
def test_no_key_of_a_distribution_is_without_effect(schema, load):
    numbers = {"min": 0.1, "max": 0.9, "q": 0.05, "mu": 0.5, "sigma": 1.0, "a": 2, "b": 2}
    numbers |= {"value": 0.5, "values": [0.3, 0.5], "probabilities": [0.5, 0.5]}
    for definition in schema["definitions"].values():
        for shape in definition.get("anyOf", [definition]):
            keys = [key for key in shape.get("properties", {}) if key in numbers]
            for name in shape.get("properties", {}).get("distribution", {}).get("enum", []):
                whole = name == "int_uniform"
                entry = {key: int(10 * numbers[key]) if whole else numbers[key] for key in keys}
                parameter = "warmup_steps" if whole else "momentum"
                other = {"nms": {"values": [0.3, 0.4]}}
                before = outcome(load, random_sweep({**other, parameter: {"distribution": name, **entry}}))
                for key in keys:
                    changed = {**entry, key: int(10 * CHANGED[key]) if whole else CHANGED[key]}
                    after = outcome(load, random_sweep({**other, parameter: {"distribution": name, **changed}}))
                    assert after != before or name in after, (name, key)


# --- whatever is in a file


DOCUMENTS = [yaml.safe_load(file.read_text()) for file in sorted(SWEEPS.iterdir())]
ODD_NUMBERS = [0, 1, -1, 0.5, 1e-300, 1e300, -1e308, 10**30, 10**400, 1.8e308, float("nan"), 50, "1e-3", "1e999", True]
WORDS = [
    "",
    "grid",
    "random",
    "bayes",
    "lr",
    "values",
    "min",
    "uniform",
    "beta",
    "q_normal",
    "none",
    "\x1b[31m",
    "ß" * 99,
]
JUNK = st.recursive(
    st.one_of(st.none(), st.sampled_from(ODD_NUMBERS), st.sampled_from(WORDS), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from([*WORDS, *distributions.KEYS]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, path=()):
    """Every place inside a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def mutated(draw):
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(document))
        if not found:
            break
        *outer, last = draw(st.sampled_from(found))
        holder = document
        for key in outer:
            holder = holder[key]
        change = draw(st.sampled_from(["replace", "number", "number", "delete", "rename", "distribution"]))
        if change == "delete":
            del holder[last]
        elif change == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from([*WORDS, *distributions.KEYS, *PARAMETERS]))] = holder.pop(last)
        elif change == "distribution" and isinstance(holder[last], dict):
            holder[last]["distribution"] = draw(st.sampled_from(distributions.DISTRIBUTIONS))
        elif change == "number" and not isinstance(holder[last], dict | list):
            holder[last] = draw(st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(0, 99), st.floats(0, 99)))
        elif change == "replace":
            holder[last] = draw(JUNK)
    return document


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("sweeps") / "a_sweep.yaml"


def check_whatever(file):
    """A sweep whose experiment scales down and draws, or one line that begins with the file."""
    try:
        sweep = load_sweep(file)
    except ConfigError as error:
        assert str(error).startswith(f"{file}: ")
        assert len(str(error).splitlines()) == 1
        return
    assert isinstance(sweep, Sweep)
    experiment = sweep.experiment
    for domain in experiment.space.domains.values():
        domain.quantile(0.0), domain.quantile(0.5)
    assert replace(experiment) == experiment
    assert experiment.name.isidentifier()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(document=mutated())
def test_a_mutated_sweep_loads_or_is_refused(document, scratch):
    scratch.write_text(yaml.safe_dump(document, allow_unicode=True))
    check_whatever(scratch)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    content=st.one_of(st.binary(max_size=60), st.text("abc:-[]{}&*!<>|?'\"#%@,\n \t0.e", max_size=60).map(str.encode))
)
def test_any_bytes_load_or_are_refused(content, scratch):
    scratch.write_bytes(content)
    check_whatever(scratch)
