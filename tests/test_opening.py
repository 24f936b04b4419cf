"""Going on with a search: only with the declaration that it began with, and the difference is said."""

import dataclasses
import json

import pytest

import search_spaces
from experiments.opening import check_same_file, check_unchanged
from experiments.state import SearchState
from satdet.errors import UsageError
from search_spaces.declare import ASHA, Choice, Forbid, LogUniform, SearchSpace, SpeedGuard

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
