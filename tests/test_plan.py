"""What is known before anything runs: trials that no result can change, data and weights that are needed, costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import search_spaces
from experiments.options import RunOptions
from experiments.plan import make_plan, possible_configs
from experiments.resources import Capacity
from experiments.run import main
from experiments.weights import stand_in_weights
from experiments.wording import domain_text
from satdet.config import ConfigError, with_values
from satdet.detector import build_detector, find_weights
from search_spaces.declare import (
    BOHB,
    REPORT_PROTOCOL,
    SEARCHERS,
    TPE,
    Beta,
    Choice,
    Constant,
    Experiment,
    Forbid,
    Fragments,
    Grid,
    IntUniform,
    InverseLogUniform,
    LogNormal,
    LogUniform,
    Maximise,
    Normal,
    Permutation,
    Quantised,
    Random,
    SearchSpace,
    Uniform,
    When,
    smoke_of,
)
from search_spaces.declare.domains import DOMAINS

MACHINE = Capacity.of(2)
EXAMPLES = [
    (Constant(4), "4"),
    (Choice(1e-4, None, True), "one of 0.0001, none, True"),
    (Choice("a", "b", weights=(3, 1)), "one of a (75%), b (25%)"),
    (Permutation(1.0, (2.0, 3.0)), "any order of [1], [2, 3]"),
    (Fragments(plain={}, sgd={"optimizer.name": "sgd"}), "one of plain (the base), sgd (optimizer.name=sgd)"),
    (IntUniform(2, 8, 2), "whole numbers 2 to 8 in steps of 2"),
    (Uniform(0, 1), "uniform 0 to 1"),
    (LogUniform(1e-6, 1e-2), "log-uniform 1e-06 to 0.01"),
    (InverseLogUniform(1e-6, 1e-2), "inverse log-uniform 1e-06 to 0.01"),
    (Normal(1, 2), "normal, mean 1, std 2"),
    (LogNormal(1, 2), "log-normal, mean 1 and std 2 of the logarithm"),
    (Beta(1, 2), "beta, a 1, b 2"),
    (Quantised(Uniform(0, 8), 4), "uniform 0 to 8, in multiples of 4"),
]


def declare(domains, searcher=None, **more):
    searcher = searcher or Random()
    return Experiment(
        name="planned", question="?", base=REPORT_PROTOCOL, space=SearchSpace(domains, **more.pop("space", {})),
        objective=Maximise("map_50"), searcher=searcher, trials=more.pop("trials", 12 if searcher.sampled else None),
        seeds=1, smoke=smoke_of(), **more,
    )  # fmt: skip


@pytest.mark.parametrize(("domain", "text"), EXAMPLES, ids=[type(domain).__name__ for domain, _ in EXAMPLES])
def test_domains_read_well(domain, text):
    assert domain_text(domain) == text


def test_every_domain_has_its_words():
    assert {type(domain).__name__ for domain, _ in EXAMPLES} == set(DOMAINS)


@pytest.mark.parametrize("name", search_spaces.names())
@pytest.mark.parametrize("flags", [(), ("--smoke",)])
def test_every_experiment_has_a_plan(name, flags, tmp_path, capsys):
    assert main([name, "--plan", *flags, "--storage", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    experiment = search_spaces.load(name)
    assert out.startswith(f"{name}: {experiment.question}")
    assert all(path in out for path in experiment.space.paths)
    assert "trials      " in out and "cost        " in out
    assert not (tmp_path / name).exists()


def test_a_plan_imports_nothing_heavy():
    code = (
        "import sys; from experiments.run import main; main(['sweep_bohb', '--plan']);"
        "assert not {'torch', 'ray', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("searcher", "foreseen"), [(Random(), 12), (TPE(startup=5), 5), (BOHB(random_fraction=0), 4)])
def test_trials_that_no_result_changes_are_shown(searcher, foreseen):
    experiment = declare({"optimizer.learning_rate": LogUniform(1e-5, 1e-2)}, searcher)
    plan = make_plan(experiment, RunOptions(experiment="x"), MACHINE)
    assert (len(plan.foreseen), plan.trials) == (foreseen, 12)
    assert make_plan(experiment, RunOptions(experiment="x", trials=50), MACHINE).trials == 50


def test_cells_left_out_are_shown_with_their_reason():
    experiment = declare(
        {"detector.weights": Choice("none", "detector"), "detector.backbone": Choice("resnet18", "resnet50")},
        Grid(),
        space={
            "constraints": (Forbid("detector.backbone == 'resnet50' and detector.weights == 'none'", because="slow"),)
        },
    )
    plan = make_plan(experiment, RunOptions(experiment="x"), MACHINE)
    assert plan.trials == 2
    assert plan.skipped_lines() == [
        "left out: detector.weights=none detector.backbone=resnet50: slow",
        "left out: detector.weights=detector detector.backbone=resnet18:"
        " whole-network weights exist for resnet50 only, not for resnet18",
    ]


def test_data_and_weights_of_every_possible_trial_are_foreseen():
    experiment = declare(
        {
            "tiles.size": Choice(64, 128),
            "optimizer.learning_rate": LogUniform(1e-5, 1e-2),
            "training.batch_size": IntUniform(2, 6),
            "weights": Fragments(scratch={"detector.weights": "none"}, coco={"detector.weights": "detector"}),
        },
        space={"conditions": (When("tiles.size == 64", {"training.batch_size": Choice(32)}),)},
        first=({"tiles.size": 256},),
    )
    configs = possible_configs(experiment)
    assert {config.tiles.size for config in configs} == {64, 128, 256}
    sizes = {(config.tiles.size, config.training.batch_size) for config in configs}
    assert {(64, 32), (128, 2), (128, 6)} <= sizes
    assert not {(128, 32), (64, 2), (64, 6)} & sizes  # the condition rules them out
    assert {config.detector.weights for config in configs} >= {"none", "detector"}
    with pytest.raises(ConfigError, match="finitely many"):
        possible_configs(declare({"tiles.train_share": Uniform(0.5, 0.9)}))


@pytest.mark.parametrize("name", SEARCHERS)
def test_another_searcher_can_be_asked_for(name):
    options = RunOptions(experiment="sweep_bayesian", searcher=name.lower())
    experiment = search_spaces.load("sweep_bayesian")
    if name == "Grid":
        with pytest.raises(ConfigError, match="finitely many"):
            options.applied_to(experiment)
        return
    changed = options.applied_to(experiment)
    assert type(changed.searcher).__name__ == name
    assert changed.trials == 30
    assert changed.digest() != experiment.digest() or name == "TPE"


def test_a_grid_can_be_sampled_and_another_scheduler_asked_for():
    options = RunOptions(experiment="sweep_grid", searcher="random", scheduler="Asha", trials=7)
    changed = options.applied_to(search_spaces.load("sweep_grid"))
    assert (changed.trials, type(changed.scheduler).__name__) == (7, "ASHA")
    with pytest.raises(ConfigError, match="did you mean 'Hyperband'"):
        RunOptions(experiment="x", scheduler="Hyperbnd").applied_to(search_spaces.load("sweep_grid"))


@pytest.mark.parametrize("weights", ["backbone", "detector"])
def test_stand_ins_are_loaded_as_published_weights_are(weights, tmp_path):
    values = {"detector.weights": weights, "detector.backbone": "resnet50" if weights == "detector" else "resnet18"}
    detector = with_values(REPORT_PROTOCOL, values).detector
    folder = stand_in_weights(tmp_path / "weights", [detector])
    path = find_weights(detector, folder)
    assert path is not None and path.parent == folder
    before = path.stat().st_mtime_ns
    stand_in_weights(folder, [detector])
    assert path.stat().st_mtime_ns == before
    torch.manual_seed(1)
    loaded = build_detector(detector, weights_dir=folder)
    state = torch.load(path, weights_only=True)
    key = "backbone.body.layer1.0.conv1.weight"
    assert torch.equal(loaded.state_dict()[key], state[key if weights == "detector" else "layer1.0.conv1.weight"])


def test_the_table_of_experiments_names_them_all():
    table = (Path(__file__).parent.parent / "docs/tables/experiments.md").read_text()
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == search_spaces.names()
    assert all(search_spaces.load(name).question in table for name in rows)


def test_a_long_plan_is_cut(tmp_path, capsys):
    assert main(["sweep_grid", "--plan", "--storage", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "and 95 more of these" in out and "trials      135" in out
