"""How a machine or a cluster is divided between trials."""

import pytest

from experiments.resources import Capacity, Node, TrialResources, divide, grown, machine, parse_nodes
from satdet.errors import UsageError
from search_spaces.declare import Resources

NOTHING_SAID = {"concurrency": None, "cpus": None, "gpus": None}


@pytest.mark.parametrize(
    ("capacity", "trials", "said", "expected"),
    [
        (Capacity.of(2, 0), 4, {}, TrialResources(cpus=1, gpus=0, concurrency=2)),
        (Capacity.of(64, 0), 4, {}, TrialResources(cpus=16, gpus=0, concurrency=4)),
        (Capacity.of(64, 0), 4, {"concurrency": 1}, TrialResources(cpus=64, gpus=0, concurrency=1)),
        (Capacity.of(16, 0), 12, {"cpus": 5}, TrialResources(cpus=5, gpus=0, concurrency=3)),
        (Capacity.of(32, 4), 12, {}, TrialResources(cpus=8, gpus=1.0, concurrency=4)),
        (Capacity.of(32, 1), 12, {"gpus": 0.5}, TrialResources(cpus=16, gpus=0.5, concurrency=2)),
        (Capacity.of(8, 2), 12, {"gpus": 0}, TrialResources(cpus=1, gpus=0, concurrency=8)),
        (Capacity.of(4, 8), 12, {"cpus": 2}, TrialResources(cpus=2, gpus=1.0, concurrency=2)),
    ],
)
def test_a_cluster_is_divided_by_gpus_or_else_by_cpus(capacity, trials, said, expected):
    assert divide(capacity, Resources(), trials, **{**NOTHING_SAID, **said}) == expected


FOUR_GPUS = Capacity((Node(16, 4.0), Node(16, 4.0), Node(8)))


@pytest.mark.parametrize(
    ("capacity", "trials", "said", "expected"),
    [
        (Capacity.of(8), 4, {"workers": 2}, TrialResources(cpus=1, gpus=0, concurrency=4, workers=2)),
        (Capacity.of(8), 1, {"workers": 2}, TrialResources(cpus=4, gpus=0, concurrency=1, workers=2)),
        (Capacity.of(8), 4, {"workers": 2, "cpus": 4}, TrialResources(cpus=2, gpus=0, concurrency=2, workers=2)),
        (FOUR_GPUS, 9, {"workers": 2}, TrialResources(cpus=4, gpus=1.0, concurrency=4, workers=2)),
        (FOUR_GPUS, 9, {"gpus": 4}, TrialResources(cpus=4, gpus=1.0, concurrency=2, workers=4)),
        (FOUR_GPUS, 9, {"gpus": 8}, TrialResources(cpus=4, gpus=1.0, concurrency=1, workers=8)),
        (FOUR_GPUS, 9, {"gpus": 4, "workers": 2}, TrialResources(cpus=8, gpus=2.0, concurrency=2, workers=2)),
        (FOUR_GPUS, 99, {"gpus": 0.5}, TrialResources(cpus=2, gpus=0.5, concurrency=16)),
        (FOUR_GPUS, 2, {"gpus": 0}, TrialResources(cpus=16, gpus=0, concurrency=2)),
    ],
)
def test_workers_are_placed_each_on_one_node(capacity, trials, said, expected):
    assert divide(capacity, Resources(), trials, **{**NOTHING_SAID, **said}) == expected


@pytest.mark.parametrize(
    ("capacity", "said", "message"),
    [
        (Capacity.of(2, 1), {"cpus": 3}, "a trial asks for 3 CPUs and 1 GPUs; there are 2 CPUs and 1 GPUs"),
        (Capacity.of(2, 1), {"gpus": 1.5}, "a trial asks for 1 CPUs and 1.5 GPUs; there are 2 CPUs and 1 GPUs"),
        (FOUR_GPUS, {"gpus": 16}, "16 GPUs for 16 workers; .*the largest of them has 16 CPUs and 4 GPUs.*hold 8 of 16"),
        (FOUR_GPUS, {"cpus": 32}, "a trial asks for 32 CPUs .*the largest of them has 16 CPUs"),
        (FOUR_GPUS, {"gpus": 1, "workers": 2}, "workers of one trial cannot share a GPU"),
        (Capacity.of(8), {"workers": 4, "cpus": 2}, "each worker needs a CPU"),
    ],
)
def test_what_can_never_be_placed_is_refused(capacity, said, message):
    with pytest.raises(UsageError, match=message):
        divide(capacity, Resources(), 4, **{**NOTHING_SAID, **said})


def test_a_trial_of_several_workers_is_one_placement():
    assert TrialResources(cpus=2, gpus=0.5, concurrency=1).bundles() == [{"CPU": 2.0, "GPU": 0.5}]
    several = TrialResources(cpus=2, gpus=1.0, concurrency=1, workers=2)
    assert several.bundles() == [{}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    assert several.trial_cpus == 4


def test_trials_that_are_left_alone_may_grow():
    given = TrialResources(cpus=4, gpus=1.0, concurrency=8)
    assert [grown(given, FOUR_GPUS, left, 6).workers for left in (8, 4, 3, 1)] == [1, 2, 2, 6]


def test_nodes_that_may_come_are_told():
    assert parse_nodes("2x16cpu4gpu, 1x8cpu") == FOUR_GPUS
    for wrong in ("4", "0x16cpu", "4x16gpu", "4x0cpu"):
        with pytest.raises(UsageError, match="is not like 4x16cpu1gpu"):
            parse_nodes(wrong)


def test_gpus_of_this_machine_follow_what_is_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine().gpus == 0
    assert machine().cpus >= 1
