"""How a machine or a cluster is divided between trials."""

import pytest

from experiments.ray_cluster import Capacity, TrialResources, divide, machine
from satdet.errors import UsageError
from search_spaces.declare import Resources

NOTHING_SAID = {"concurrency": None, "cpus": None, "gpus": None}


@pytest.mark.parametrize(
    ("capacity", "trials", "said", "expected"),
    [
        (Capacity(2, 0), 4, {}, TrialResources(cpus=1, gpus=0, concurrency=2)),
        (Capacity(64, 0), 4, {}, TrialResources(cpus=16, gpus=0, concurrency=4)),
        (Capacity(64, 0), 4, {"concurrency": 1}, TrialResources(cpus=64, gpus=0, concurrency=1)),
        (Capacity(16, 0), 12, {"cpus": 5}, TrialResources(cpus=5, gpus=0, concurrency=3)),
        (Capacity(32, 4), 12, {}, TrialResources(cpus=8, gpus=1.0, concurrency=4)),
        (Capacity(32, 1), 12, {"gpus": 0.5}, TrialResources(cpus=16, gpus=0.5, concurrency=2)),
        (Capacity(8, 2), 12, {"gpus": 0}, TrialResources(cpus=1, gpus=0, concurrency=8)),
        (Capacity(4, 8), 12, {"cpus": 2}, TrialResources(cpus=2, gpus=1.0, concurrency=2)),
    ],
)
def test_a_cluster_is_divided_by_gpus_or_else_by_cpus(capacity, trials, said, expected):
    assert divide(capacity, Resources(), trials, **{**NOTHING_SAID, **said}) == expected


@pytest.mark.parametrize("said", [{"cpus": 3}, {"gpus": 1.5}])
def test_what_can_never_be_placed_is_refused(said):
    with pytest.raises(UsageError, match=r"a trial asks for .* there are 2 CPUs and 1 GPUs"):
        divide(Capacity(2, 1), Resources(), 4, **{**NOTHING_SAID, **said})


def test_gpus_of_this_machine_follow_what_is_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine().gpus == 0
    assert machine().cpus >= 1
