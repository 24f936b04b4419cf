"""Searchers: a suggestion is a function of the declaration, the trial's number and the history, and of nothing else."""

import dataclasses
import json
import math
import os
import pickle
import random
import subprocess
import sys
from statistics import median

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from experiments.searchers import Observation, build_searcher
from satdet.config import ConfigError, with_values
from search_spaces.declare import (
    BOHB,
    CMAES,
    GP,
    NSGA2,
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
    LogUniform,
    Maximise,
    Minimise,
    Normal,
    Permutation,
    Quantised,
    QuasiRandom,
    Random,
    SearchSpace,
    Uniform,
    When,
    smoke_of,
)

RATE, MOMENTUM, BATCH = "optimizer.learning_rate", "optimizer.momentum", "training.batch_size"
NUMBERS = SearchSpace({RATE: LogUniform(1e-6, 1e-1), MOMENTUM: Uniform(0, 1), BATCH: IntUniform(1, 64)})
SETTINGS = {
    "Grid": Grid(),
    "Random": Random(seed=3),
    "QuasiRandom": QuasiRandom(seed=3),
    "TPE": TPE(seed=3, startup=4),
    "GP": GP(seed=3, startup=4),
    "CMAES": CMAES(seed=3, population=4),
    "NSGA2": NSGA2(seed=3, population=4),
    "BOHB": BOHB(seed=3, random_fraction=0.2),
}
SAMPLING = [name for name in SETTINGS if name != "Grid"]
MODELS = ["TPE", "GP", "CMAES", "NSGA2", "BOHB"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def declare(searcher, space=NUMBERS, **changes):
    values = {
        "trials": None if isinstance(searcher, Grid) else 12,
        "seeds": 1,
        "objective": Maximise("map_50"),
        **changes,
    }
    return Experiment(
        name="made_up", question="?", base=REPORT_PROTOCOL, space=space, searcher=searcher, smoke=smoke_of(), **values
    )


def height(values):
    """Highest, 0, at a learning rate of 1e-3, a momentum of 0.3 and batches of 20."""
    return (
        -abs(math.log10(values.get(RATE, 1e-3)) + 3)
        - abs(values.get(MOMENTUM, 0.3) - 0.3)
        - abs(values.get(BATCH, 20) - 20) / 40
    )


def observed(number, suggestion, state="complete", value=None, epochs=3):
    value = height(suggestion.values) if value is None else value
    if state == "running":
        return Observation(number, suggestion.values, state, (), None, suggestion.why)
    curve = tuple((epoch, (value - (epochs - epoch) / 10,)) for epoch in range(1, epochs + 1))
    return Observation(number, suggestion.values, state, curve, None if state == "failed" else (value,), suggestion.why)


def as_recorded(history):
    """What comes back from the record: JSON."""
    return [
        dataclasses.replace(each, values=json.loads(json.dumps(each.values)), why=json.loads(json.dumps(each.why)))
        for each in history
    ]


def search(
    experiment, trials, *, anew=lambda: None, state=lambda number: "complete", value=None, epochs=lambda number: 3
):
    """Suggestions and history of a search whose trials end one after another."""
    searcher = build_searcher(experiment)
    history, suggestions = [], []
    for number in range(trials):
        searcher = anew() or searcher
        suggestion = searcher.suggest(number, lambda: as_recorded(history))
        suggestions.append(suggestion)
        given = None if value is None else value(suggestion.values)
        history.append(observed(number, suggestion, state(number), given, epochs(number)))
    return suggestions, history


def space_for(name):
    finite = {MOMENTUM: Choice(0.0, 0.3, 0.9), BATCH: Choice(8, 16, 20, 32)}
    return SearchSpace(finite) if name == "Grid" else NUMBERS


def test_every_searcher_is_tried():
    assert {name: type(each).__name__ for name, each in SETTINGS.items()} == {name: name for name in SEARCHERS}


# --- purity


@pytest.mark.parametrize("name", SETTINGS)
def test_a_searcher_made_anew_before_every_trial_suggests_the_same(name):
    experiment = declare(SETTINGS[name], space_for(name))
    assert search(experiment, 8)[0] == search(experiment, 8, anew=lambda: build_searcher(experiment))[0]


@pytest.mark.parametrize("name", SETTINGS)
def test_global_random_numbers_are_neither_used_nor_changed(name):
    experiment = declare(SETTINGS[name], space_for(name))
    plain = search(experiment, 8)[0]
    seeds = iter(range(100))

    def disturb():
        seed = next(seeds)
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        random.random(), np.random.rand(), torch.rand(1)

    assert search(experiment, 8, anew=disturb)[0] == plain
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    search(experiment, 7)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


OTHER_PROCESS = """
import pickle, sys
import torch
torch.set_num_threads(1)
from experiments.searchers import build_searcher
for experiment, history in pickle.load(sys.stdin.buffer):
    suggestion = build_searcher(experiment).suggest(len(history), lambda: history)
    print(sorted(suggestion.values.items()), suggestion.why)
"""


def test_another_process_with_other_hashes_suggests_the_same():
    told, expected = [], []
    for name in SETTINGS:
        experiment = declare(SETTINGS[name], space_for(name))
        history = search(experiment, 8)[1]
        suggestion = build_searcher(experiment).suggest(8, lambda history=history: history)
        told.append((experiment, history))
        expected.append(f"{sorted(suggestion.values.items())} {suggestion.why}")
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        input=pickle.dumps(told),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
        check=True,
    )
    assert done.stdout.decode().splitlines() == expected


@pytest.mark.parametrize("name", SAMPLING)
def test_another_seed_suggests_others(name):
    settings = SETTINGS[name]
    first = search(declare(settings), 8)[0]
    other = search(declare(dataclasses.replace(settings, seed=4)), 8)[0]
    assert all(one.values != two.values for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("seeds", [1, 3])
def test_what_is_foreseen_is_what_is_suggested(name, seeds):
    point = {MOMENTUM: 0.5, BATCH: 3} | ({} if name == "Grid" else {RATE: 1e-4})
    experiment = declare(SETTINGS[name], space_for(name), seeds=seeds, first=(point,))
    searcher = build_searcher(experiment)
    suggestions = search(experiment, 12)[0]
    foreseen = [searcher.foreseen(number) for number in range(12)]
    known = [(one, two) for one, two in zip(foreseen, suggestions, strict=True) if one is not None]
    assert len(known) >= 4 * seeds if name in MODELS else len(known) == 12
    assert all(one == two for one, two in known)


# --- what is suggested


MIXED = SearchSpace(
    {
        "detector.backbone": Choice("resnet18", "resnet50", "resnet101"),
        RATE: Beta(1, 5),
        MOMENTUM: Quantised(Uniform(0, 1), 0.1),
        BATCH: IntUniform(1, 16),
        "optimizer.weight_decay": Normal(0.01, 0.01),
        "detector.aspect_ratios": Permutation(0.5, 1.0, 2.0),
        "recipe": Fragments(short={"training.epochs": 5}, long={"training.epochs": 50, "training.patience": 3}),
        "optimizer.name": Constant("sgd"),
    },
    conditions=(
        When("detector.backbone == 'resnet101'", {BATCH: Choice(1, 2)}),
        When("training.epochs > 10", {"training.ema_decay": Uniform(0.9, 0.999)}),
    ),
    constraints=(Forbid("detector.backbone == 'resnet50' and training.batch_size > 8", because="memory"),),
)


@pytest.mark.parametrize("name", [name for name in SAMPLING if SETTINGS[name].conditional])
def test_conditions_and_constraints_hold_and_what_is_skipped_is_reported(name):
    experiment = declare(SETTINGS[name], MIXED)
    suggestions = search(experiment, 40)[0]
    for each in suggestions:
        assert MIXED.refusal(experiment.base, each.values) is None
        with_values(experiment.base, MIXED.expand(each.values))
        assert each.values[BATCH] in ((1, 2) if each.values["detector.backbone"] == "resnet101" else range(1, 17))
        assert ("training.ema_decay" in each.values) == (each.values["recipe"] == "long")
        for path, value in each.values.items():
            domain = MIXED.domains.get(path)
            assert domain is None or path == BATCH or domain.share(value) is not None
        assert list(each.values) == [path for path in MIXED.paths if path in each.values]
    skipped = [left for each in suggestions for left in each.skipped]
    assert skipped
    assert all(MIXED.refusal(experiment.base, left.values) == left.reason for left in skipped)


@pytest.mark.parametrize("name", SAMPLING)
def test_numbers_of_every_kind_can_be_searched(name):
    space = SearchSpace(
        {RATE: Beta(1, 5), MOMENTUM: Quantised(Uniform(0, 1), 0.05), BATCH: IntUniform(2, 32, 2),
         "optimizer.weight_decay": Normal(0.01, 0.01), "training.patience": Quantised(Normal(8, 2), 2)}
    )  # fmt: skip
    experiment = declare(SETTINGS[name], space)
    for each in search(experiment, 8)[0]:
        with_values(experiment.base, each.values)
        assert all(space.domains[path].share(value) is not None for path, value in each.values.items())


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("domains", [{}, {BATCH: Constant(4), MOMENTUM: Choice(0.5)}], ids=["empty", "constant"])
def test_a_space_with_a_single_cell(name, domains):
    experiment = declare(SETTINGS[name], SearchSpace(domains))
    expected = {path: domain.values[0] for path, domain in domains.items()}
    suggestions = search(experiment, 1 if name == "Grid" else 12)[0]
    assert all(each.values == expected for each in suggestions)


@pytest.mark.parametrize("name", SAMPLING)
def test_one_number_alone_can_be_searched(name):
    values = [
        each.values[MOMENTUM] for each in search(declare(SETTINGS[name], SearchSpace({MOMENTUM: Uniform(0, 1)})), 12)[0]
    ]
    assert len(set(values)) == 12


POINTS = ({RATE: 1e-3, MOMENTUM: 0.3, BATCH: 20}, {RATE: 0.5, MOMENTUM: 0.3, BATCH: 20})


@pytest.mark.parametrize("name", SAMPLING)
def test_known_points_come_first_and_each_point_has_every_seed(name):
    experiment = declare(SETTINGS[name], first=POINTS, seeds=2)
    suggestions = search(experiment, 12)[0]
    assert [each.values for each in suggestions[:4]] == [POINTS[0], POINTS[0], POINTS[1], POINTS[1]]
    assert [each.seed for each in suggestions] == [0, 1] * 6
    for first, again in zip(suggestions[::2], suggestions[1::2], strict=True):
        assert again.values == first.values
        assert again.why == {"by": "repeat", "of": suggestions.index(first)}
    assert len({tuple(each.values.values()) for each in suggestions}) == 6
    assert build_searcher(experiment).total == 24


@pytest.mark.parametrize("name", ["TPE", "GP", "NSGA2", "BOHB"])
def test_points_outside_of_the_space_are_not_told(name):
    searcher = build_searcher(declare(SETTINGS[name], first=POINTS))
    inside, outside = (Observation(0, point, "complete", (), (0.5,), {}) for point in POINTS)
    assert searcher.told(outside) is None
    assert searcher.told(inside).params[MOMENTUM] == pytest.approx(0.3)
    assert searcher.told(dataclasses.replace(inside, values={**inside.values, "training.epochs": 3})) is None
    partial = searcher.told(dataclasses.replace(inside, values={RATE: 1e-3, MOMENTUM: 0.3}))
    assert partial.params[BATCH] == REPORT_PROTOCOL.training.batch_size - 1  # the base's 2 is the second value


def test_a_draw_that_can_never_run_ends_with_the_reason():
    space = SearchSpace(
        {MOMENTUM: Uniform(0, 1)}, constraints=(Forbid("optimizer.momentum < 2", because="it is Friday"),)
    )
    for name in SAMPLING:
        with pytest.raises(ConfigError, match="it is Friday"):
            build_searcher(declare(SETTINGS[name], space)).suggest(0, lambda: [])


def test_a_model_that_insists_on_what_cannot_run_gives_way_to_chance():
    experiment = declare(SETTINGS["TPE"], SearchSpace({MOMENTUM: Uniform(0, 1)}))
    history = search(experiment, 12, value=lambda values: -abs(values[MOMENTUM] - 0.9))[1]
    forbidding = dataclasses.replace(
        experiment.space, constraints=(Forbid("optimizer.momentum > 0.05", because="memory"),)
    )
    suggestion = build_searcher(declare(SETTINGS["TPE"], forbidding)).suggest(12, lambda: history)
    assert suggestion.values[MOMENTUM] <= 0.05


# --- learning from results


@pytest.mark.parametrize("name", MODELS)
def test_a_model_finds_more_than_chance_does(name):
    trials = 20 if name == "GP" else 40
    best = []
    for searcher in (SETTINGS[name], Random(seed=3)):
        history = search(declare(searcher), trials)[1]
        best.append(np.mean(sorted(each.best[0] for each in history)[-trials // 4 :]))
    assert best[0] > best[1] + 0.15


@pytest.mark.parametrize("name", MODELS)
def test_an_objective_to_minimise_is_minimised(name):
    up = search(declare(SETTINGS[name]), 10)[0]
    down = search(declare(SETTINGS[name], objective=Minimise("loss")), 10, value=lambda values: -height(values))[0]
    if name == "BOHB":  # the made-up curves rise, so that its best value so far is another one
        assert [each.why["by"] for each in up] == [each.why["by"] for each in down]
    else:
        assert up == down


@pytest.mark.parametrize("name", ["TPE", "GP", "CMAES", "BOHB"])
def test_running_trials_do_not_lead_to_the_same_point_twice(name):
    experiment = declare(SETTINGS[name])
    history = search(experiment, 12)[1]
    for number in range(12, 18):
        suggestion = build_searcher(experiment).suggest(number, lambda: history)
        history.append(observed(number, suggestion, "running"))
    points = {tuple(each.values.values()) for each in history}
    assert len(points) == len(history)


@pytest.mark.parametrize("name", MODELS)
def test_failures_do_not_stop_a_search(name):
    experiment = declare(SETTINGS[name])
    alternating = search(experiment, 14, state=lambda number: "failed" if number % 2 else "complete")[0]
    assert len(alternating) == 14
    assert len(search(experiment, 14, state=lambda number: "failed")[0]) == 14


@pytest.mark.parametrize("name", ["TPE", "GP"])
def test_the_history_is_told_as_it_is(name):
    searcher = build_searcher(declare(SETTINGS[name]))
    curve = ((1, (0.2,)), (4, (0.4,)))
    told = {
        state: searcher.told(Observation(0, POINTS[0], state, curve, None if state == "failed" else (0.4,), {}))
        for state in ("running", "complete", "pruned", "failed")
    }
    assert {state: trial.state for state, trial in told.items()} == {
        "running": TrialState.RUNNING, "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }  # fmt: skip
    assert told["pruned"].intermediate_values == told["running"].intermediate_values == {1: 0.2, 4: 0.4}
    assert told["complete"].values == [0.4]
    assert told["pruned"].params == told["complete"].params == pytest.approx({RATE: 0.6, MOMENTUM: 0.3, BATCH: 19})


@pytest.mark.parametrize("name", ["TPE", "GP"])
def test_values_come_back_from_their_coordinates(name):
    experiment = declare(Random(seed=8), MIXED if name == "TPE" else NUMBERS)
    searcher = build_searcher(declare(SETTINGS[name], experiment.space))
    for each in search(experiment, 20)[0]:
        params = searcher.told(observed(0, each)).params
        names = {parameter.name: parameter for parameter in experiment.space.parameters}
        assert {names[key].path for key in params} == set(each.values) - {"optimizer.name"}


def test_two_objectives_are_searched_for_their_front():
    experiment = declare(NSGA2(seed=1, population=6), also=(Minimise("seconds"),), trials=60)
    searcher, history = build_searcher(experiment), []
    for number in range(60):
        suggestion = searcher.suggest(number, lambda: history)
        momentum = suggestion.values[MOMENTUM]
        far = abs(math.log10(suggestion.values[RATE]) + 3)
        history.append(
            Observation(number, suggestion.values, "complete", (), (momentum - far, momentum + far), suggestion.why)
        )
    generations = [each.why["generation"] for each in history]
    assert generations == sorted(generations) and generations[:6] == [0] * 6 and max(generations) == 9
    far = [each.best[1] - each.best[0] for each in history]
    assert median(far[-20:]) < 0.5 * median(far[:20])


def test_a_point_on_several_seeds_is_one_individual():
    experiment = declare(NSGA2(seed=1, population=4), seeds=3)
    suggestions = search(experiment, 36)[0]
    generations = [each.why["generation"] for each in suggestions[::3]]
    assert generations == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("order", ["in order", "backwards", "two at a time"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_generations_of_cma_es_whatever_ends_when(order, seeds):
    experiment = declare(CMAES(seed=2, population=4), trials=30, seeds=seeds)
    running = {"in order": 1, "backwards": 6, "two at a time": 2}[order] * seeds
    history, alive = [], []
    for number in range(30 * seeds):
        suggestion = build_searcher(experiment).suggest(number, lambda: as_recorded(history))
        again = build_searcher(experiment).suggest(number, lambda: as_recorded(history))
        assert again == suggestion
        history.append(observed(number, suggestion, "running"))
        alive.append((number, suggestion))
        if len(alive) == running:
            done, of = alive.pop(-1 if order == "backwards" and number % 3 else 0)
            history[done] = observed(done, of, "failed" if done % 7 == 3 else "complete")
    first = [each for each in history if "generation" in each.why]
    generations = [each.why["generation"] for each in first]
    assert generations == sorted(generations) and generations[-1] >= 2
    told = [number for each in first for number in each.why.get("told", ())]
    assert len(told) == 4 * generations[-1] and len(set(told)) == len(told)


def test_bohb_models_the_deepest_epoch_that_enough_trials_reached():
    experiment = declare(BOHB(seed=3, random_fraction=0.0, min_points=2), trials=40)
    depths = {3: 9, 5: 9, 7: 9, 9: 9}
    suggestions = search(experiment, 14, epochs=lambda number: depths.get(number, 3))[0]
    whys = [(each.why["by"], each.why.get("epoch"), each.why.get("known")) for each in suggestions]
    assert whys[:4] == [("random", None, 0)] * 4
    assert whys[4:10] == [("model", 3, number) for number in range(4, 10)]
    assert whys[10:] == [("model", 9, 4)] * 4


def test_bohb_draws_its_share_by_chance():
    experiment = declare(BOHB(seed=3, random_fraction=0.5), trials=200)
    foreseen = [build_searcher(experiment).foreseen(number) for number in range(200)]
    assert 70 < sum(each is not None and "share" in each.why for each in foreseen) < 130


# --- a search divided, and confirmed


DIVIDED = SearchSpace({"detector.backbone": Choice("resnet18", "resnet50"), **NUMBERS.domains})


def backbone_height(values):
    """The two have their best at opposite ends."""
    target = 0.9 if values["detector.backbone"] == "resnet18" else 0.1
    return -abs(values[MOMENTUM] - target)


@pytest.mark.parametrize("name", SAMPLING)
def test_a_divided_search_is_a_search_of_each_value(name):
    experiment = declare(SETTINGS[name], DIVIDED, each="detector.backbone", seeds=2)
    suggestions = search(experiment, 28, value=backbone_height)[0]
    alone = dataclasses.replace(
        experiment, space=SearchSpace({**DIVIDED.domains, "detector.backbone": Constant("resnet50")}), each=None
    )
    expected = search(alone, 14, value=backbone_height)[0]
    mine = [each for each in suggestions if each.values["detector.backbone"] == "resnet50"]
    assert [each.values for each in mine] == [each.values for each in expected]
    assert [each.seed for each in suggestions] == [0, 1] * 14
    for number, each in enumerate(suggestions):
        if each.why["by"] == "repeat":
            assert each.why["of"] == number - 1 and suggestions[number - 1].values == each.values


def confirm(state=lambda number: "complete", value=backbone_height, objective=None, **changes):
    objective = objective or Maximise("map_50")
    experiment = declare(
        Random(seed=2), DIVIDED, trials=6, each="detector.backbone", confirm=2, objective=objective, **changes
    )
    searched = 6 * experiment.seeds
    history = search(experiment, searched, state=state, value=value)[1]
    return build_searcher(experiment), history


def test_the_best_of_each_value_is_trained_again_with_new_seeds():
    searcher, history = confirm()
    found = [searcher.suggest(number, lambda: history) for number in range(6, 10)]
    best = [max(history[part::2], key=lambda each: each.best[0]) for part in (0, 1)]
    assert [each.values for each in found] == [best[0].values, best[1].values] * 2
    assert [each.seed for each in found] == [1, 1, 2, 2]
    assert [each.why for each in found] == [{"by": "confirm", "of": best[place % 2].number} for place in range(4)]
    assert searcher.suggest(10, lambda: history) is None
    assert searcher.total == 10
    assert all(searcher.foreseen(number) is None for number in range(6, 10))


def test_the_best_is_the_lowest_where_that_is_asked():
    searcher, history = confirm(objective=Minimise("loss"))
    found = searcher.suggest(6, lambda: history)
    assert found.values == min(history[::2], key=lambda each: each.best[0]).values


def test_nothing_is_confirmed_while_the_search_runs():
    searcher, history = confirm()
    history[2] = dataclasses.replace(history[2], state="running")
    assert searcher.suggest(6, lambda: history) is None


def test_a_part_without_a_result_is_not_confirmed():
    searcher, history = confirm(state=lambda number: "complete" if number % 2 else "failed")
    found = [searcher.suggest(number, lambda: history) for number in range(6, 10)]
    assert [each and each.values["detector.backbone"] for each in found] == ["resnet50", "resnet50", None, None]
    searcher, history = confirm(state=lambda number: "failed")
    assert searcher.suggest(6, lambda: history) is None


def test_a_point_is_as_good_as_the_mean_of_its_seeds():
    searcher, history = confirm(seeds=2)
    history = [dataclasses.replace(each, best=(0.5,)) for each in history]
    history[0] = dataclasses.replace(history[0], best=(0.9,))  # lucky once: 0.55 with its other seed
    history[1] = dataclasses.replace(history[1], best=(0.2,))
    history[4] = dataclasses.replace(history[4], best=(0.6,))
    history[5] = dataclasses.replace(history[5], best=(0.6,))
    found = searcher.suggest(12, lambda: history)
    assert found.why == {"by": "confirm", "of": 4}
    assert found.seed == 2


# --- those that never look


def test_a_grid_has_every_cell_once_a_seed():
    space = space_for("Grid")
    experiment = declare(Grid(), space, seeds=2, first=({MOMENTUM: 0.5, BATCH: 3}, {MOMENTUM: 0.9, BATCH: 20}))
    searcher = build_searcher(experiment)
    assert searcher.total == 26
    suggestions = [searcher.suggest(number, lambda: []) for number in range(26)]
    assert [each.seed for each in suggestions] == [0] * 13 + [1] * 13
    cells = [each.values for each in suggestions[:13]]
    assert cells == [each.values for each in suggestions[13:]]
    assert cells[:2] == list(experiment.first)
    assert sorted(map(str, cells[1:])) == sorted(map(str, space.cells()))
    assert searcher.suggest(26, lambda: []) is None
    assert build_searcher(dataclasses.replace(experiment, trials=5)).total == 10


def test_random_draws_of_a_parameter_do_not_depend_on_the_others():
    more = SearchSpace({"optimizer.weight_decay": Uniform(0, 1), **NUMBERS.domains})
    one, two = (search(declare(Random(seed=1), space), 8)[0] for space in (NUMBERS, more))
    assert [each.values[RATE] for each in one] == [each.values[RATE] for each in two]


def test_quasi_random_points_fill_the_cube_evenly_even_after_known_ones():
    experiment = declare(QuasiRandom(seed=1), SearchSpace({MOMENTUM: Uniform(0, 1)}), first=({MOMENTUM: 0.5},))
    drawn = sorted(each.values[MOMENTUM] for each in search(experiment, 65)[0][1:])
    assert [int(64 * value) for value in drawn] == list(range(64))


def test_random_draws_have_the_declared_distribution():
    experiment = declare(Random(seed=1), SearchSpace({MOMENTUM: Uniform(0, 1), BATCH: Choice(2, 4, weights=(3, 1))}))
    searcher = build_searcher(experiment)
    drawn = [searcher.suggest(number, lambda: []).values for number in range(1000)]
    assert np.mean([each[MOMENTUM] for each in drawn]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([each[BATCH] == 2 for each in drawn]) == pytest.approx(0.75, abs=0.04)
