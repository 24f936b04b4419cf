"""What a node has to show before trials are trained on it, and what becomes of one that cannot."""

import dataclasses
import errno
import importlib
import os
import pickle
import time
from pathlib import Path

import pytest

from benchmarks.chaos_support import SmallSearch
from experiments import node_proof
from experiments.node_facts import NodeFacts, facts_here
from experiments.node_proof import open_proof, prove, prove_here
from experiments.nodes import ClusterNodes, Nodes, proven_nodes
from experiments.paths import SearchPaths
from experiments.ray_cluster import ray_cluster
from experiments.ray_nodes import Node
from experiments.resources import Capacity
from experiments.trainable import TrialOrder
from satdet.config import TrialConfig, flatten
from satdet.errors import NodeError, StorageError, UsageError
from tests.clusters import ClusterNode, Search, loses_and_gains_a_node, other_checkout
from tests.site import ROOT

HERE = NodeFacts({"python": "3.11.9", "torch": "2.11.0+cpu"}, {"satdet/a.py": "1" * 64, "satdet/b.py": "2" * 64}, "/x")


def test_facts_are_those_of_this_checkout():
    facts = facts_here()
    assert Path(facts.folder) == ROOT
    assert {"satdet/errors.py", "search_spaces/declare/space.py", "experiments/nodes.py"} <= facts.sources.keys()
    assert facts.versions["ray"][0].isdigit() and facts.versions["torch"][0].isdigit()
    assert facts.difference(facts_here()) is None


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"versions": HERE.versions | {"torch": "2.10.0+cpu"}}, "torch is 2.10.0+cpu there, 2.11.0+cpu here"),
        ({"versions": {"python": "3.11.9"}}, "torch is not installed there, 2.11.0+cpu here"),
        ({"versions": HERE.versions | {"torch": "2.11.0+cu128"}}, None),
        ({"versions": HERE.versions | {"extra": "1"}}, None),
        ({"sources": HERE.sources | {"satdet/b.py": "3" * 64}, "folder": "/y"},
         "satdet/b.py in /y is sha256 333333333333… there, sha256 222222222222… here; put the same checkout"),
        ({"sources": {"satdet/b.py": "2" * 64}}, "satdet/a.py in /x is missing there, sha256 111111111111… here;"),
        ({"sources": HERE.sources | {"satdet/c.py": "3" * 64, "satdet/a.py": "4" * 64}}, ", and 1 more"),
    ],
)  # fmt: skip
def test_the_first_difference_is_named(there, said):
    other = dataclasses.replace(HERE, **there)
    difference = other.difference(HERE)
    assert difference is None if said is None else said in difference
    assert (other.code == HERE.code) == ("sources" not in there)


@pytest.fixture
def search(tmp_path):
    return SearchPaths(tmp_path / "tiny")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(node_proof, "_SOON_SECONDS", 0.3)


def test_a_node_that_reads_and_writes_proves_itself(search):
    with open_proof(search) as proof:
        assert not (left := [path.name for path in search.root.parent.iterdir() if "nodes" not in path.name]), left
        said = prove(proof, "ab12")
        assert said == {"facts": facts_here().to_json(), "fault": None}
        assert proof.arrived("ab12")
        prove_here(proof.to_json(), "cd34")
    assert not list(search.root.parent.iterdir())
    prove_here(None)


def test_what_a_killed_driver_left_is_removed_and_nothing_else(search):
    left, other = search.root.with_name(".tiny.nodes-0123"), search.root.with_name(".tiny2.nodes-0123")
    left.mkdir()
    other.mkdir()
    with open_proof(search):
        assert not left.exists() and other.exists()


def test_a_storage_that_cannot_be_written_is_said_at_once(search):
    search.root.parent.rmdir()
    with (
        pytest.raises(StorageError, match=r"nodes-\w+: the storage cannot be written \(No such file"),
        open_proof(search),
    ):
        pass


def test_a_node_that_sees_another_storage_is_told_from_a_good_one(search, tmp_path, impatient):
    with open_proof(search) as proof:
        unmounted = dataclasses.replace(proof, folder=str(tmp_path / "nothing"))
        assert "does not see" in prove(unmounted, "ab12")["fault"]
        assert not proof.arrived("ab12")
        with pytest.raises(NodeError, match=r"does not see .* which the driver wrote; mount the same storage"):
            prove_here(unmounted.to_json(), "ab12")
        Path(proof.folder, "driver").write_text("another driver's")
        assert "sees another file" in prove(proof, "ab12")["fault"]
        with pytest.raises(NodeError, match="sees another file"):
            prove_here(proof.to_json(), "ab12")


@pytest.mark.parametrize(
    ("number", "unfit"), [(errno.EROFS, True), (errno.EACCES, True), (errno.ENOSPC, False), (errno.EIO, False)]
)
def test_only_what_waiting_does_not_cure_makes_a_trial_go_elsewhere(search, monkeypatch, number, unfit):
    def refuse(folder, name, text):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(node_proof._Folder, "write", refuse)
    with open_proof(search) as proof:
        assert os.strerror(number) in prove(proof, "ab12")["fault"]
        if unfit:
            with pytest.raises(NodeError, match=os.strerror(number)):
                prove_here(proof.to_json(), "ab12")
        else:
            prove_here(proof.to_json(), "ab12")


def test_a_trial_goes_elsewhere_from_other_code_unless_the_driver_took_the_node(search):
    with open_proof(search) as proof:
        other = dataclasses.replace(proof, code="0" * 64).to_json()
        with pytest.raises(NodeError, match=f"node .* ab12: the code in {ROOT} is not the driver's"):
            prove_here(other, "ab12")
        with pytest.raises(NodeError, match=r"numpy is .* there, 0\.1 here"):
            prove_here(dataclasses.replace(proof, versions={"numpy": "0.1"}).to_json(), "ab12")
        proof.accept("ab12")
        prove_here(other, "ab12")


def test_resources_that_keep_away_from_nodes_are_the_same_request(search):
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    from experiments.placement import PlacedElsewhere

    plain = PlacementGroupFactory([{}, {"CPU": 2}, {"CPU": 2, "GPU": 1}], strategy="SPREAD")
    placed = PlacedElsewhere(plain, lambda: ["ab12"])
    assert placed == plain and hash(placed) == hash(plain)
    kept = pickle.loads(pickle.dumps(placed))
    assert type(kept) is PlacementGroupFactory and kept == plain


def test_a_node_that_answers_in_another_way_is_left_out(search, monkeypatch):
    with open_proof(search) as proof:
        nodes = ClusterNodes("here", proof)
        node = Node("ab12", "vm", 1.0, 0.0)
        nodes._known["ab12"] = node
        monkeypatch.setattr("ray.get", lambda answer: {"fault": None, "facts": {"version": 2}})
        nodes._judge(node, "answer")
        assert nodes._unfit == {"ab12": "it runs another version of this code; put the same checkout there"}


def test_no_node_is_blamed_for_a_storage_that_is_away(search, monkeypatch, impatient):
    with open_proof(search) as proof:
        nodes = ClusterNodes("here", proof)
        node = Node("ab12", "vm", 1.0, 0.0)
        nodes._known["ab12"] = node
        said = prove(dataclasses.replace(proof, folder="/nothing"), "ab12")
        monkeypatch.setattr("ray.get", lambda answer: said)
        away = Path(proof.folder).rename(search.root.with_name("away"))
        nodes._judge(node, "answer")
        assert not nodes._unfit and not nodes._fit
        away.rename(proof.folder)
        nodes._judge(node, "answer")
        assert nodes._unfit.keys() == {"ab12"}
        away = Path(proof.folder).rename(search.root.with_name("away"))
        proof.accept("cd34")
        away.rename(proof.folder)


@pytest.mark.parametrize("room", ["trainable.TrialTrainable", "measuring.EvaluationTrainable"])
def test_an_unfit_node_is_no_failure_of_the_trial(search, monkeypatch, tmp_path, room):
    module, _, name = room.partition(".")
    trainable = object.__new__(getattr(importlib.import_module(f"experiments.{module}"), name))
    monkeypatch.setattr(node_proof, "_this_node", lambda: "ab12")
    with open_proof(search) as proof:
        other = dataclasses.replace(proof, code="0" * 64)
        trainable.setup({"trial": an_order(tmp_path, other).to_json()})
        with pytest.raises(NodeError):
            trainable.step()
        assert not (tmp_path / "trial").exists()
        proof.accept("ab12")
        assert trainable.step()["stop_reason"] == "error"


def an_order(folder, proof):
    """A trial that fails by itself: there is no store."""
    return TrialOrder(
        trial_id="t0000", config=flatten(TrialConfig()), seed=0, directory=str(folder / "trial"),
        store=str(folder / "nothing"), stoppers=[], threads=1, proof=proof.to_json(),
    )  # fmt: skip


def test_without_a_cluster_there_is_nothing_to_prove(search):
    with proven_nodes(None, search) as nodes:
        assert type(nodes) is Nodes and nodes.proof is None
        assert nodes.usable(Capacity.of(2, 1.0)) == Capacity.of(2, 1.0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs and one node, with a driver connected that does not hand its own folder to the workers."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("driver")
    before = Path.cwd()
    os.chdir(folder)
    changed = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    kept = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        with ray_cluster(cluster.address):
            yield cluster
    finally:
        cluster.shutdown()
        os.chdir(before)
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def looked_until(nodes, wanted, seconds=60.0):
    """What the nodes say until that is among it."""
    said = []
    deadline = time.monotonic() + seconds
    while not any(wanted in line for line in said):
        assert time.monotonic() < deadline, said
        nodes._next_look = 0.0
        nodes.look(said.append)
        time.sleep(0.2)
    return said


def test_nodes_join_are_left_out_and_leave(cluster, search, tmp_path):
    import ray
    from ray.tune.execution.placement_groups import PlacementGroupFactory
    from ray.util.placement_group import placement_group_table, remove_placement_group
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def placed_on(nodes):
        group = nodes.placed(PlacementGroupFactory([{"CPU": 1}])).to_placement_group()
        assert group.wait(20)
        place = placement_group_table(group)["bundles_to_node_id"][0]
        remove_placement_group(group)
        return place

    with proven_nodes("here", search) as nodes:
        assert isinstance(nodes, ClusterNodes)
        (first,) = cluster.worker_nodes
        assert placed_on(nodes) == first.node_id
        other = other_checkout(tmp_path / "other", "satdet/training/loop.py")
        strange = cluster.add_node(num_cpus=4, env_vars={"PYTHONPATH": str(other)})
        said = looked_until(nodes, "is left out")
        assert f"satdet/training/loop.py in {other} is sha256" in said[-1] and strange.node_id[:8] in said[-1]
        pinned = NodeAffinitySchedulingStrategy(strange.node_id, soft=False)
        there = ray.remote(num_cpus=0, max_calls=1, scheduling_strategy=pinned)(prove_here)
        with pytest.raises(NodeError, match=f"the code in {other} is not the driver's"):
            ray.get(there.remote(nodes.proof.to_json()))
        assert {placed_on(nodes) for _ in range(3)} == {first.node_id}
        assert nodes.usable(Capacity.of(5, 0.0)) == Capacity.of(1, 0.0)
        good = cluster.add_node(num_cpus=1)
        assert good.node_id[:8] in looked_until(nodes, "has joined: 1 CPUs and 0 GPUs")[-1]
        cluster.remove_node(first)
        assert first.node_id[:8] in looked_until(nodes, "has left the cluster")[-1]
        assert placed_on(nodes) == good.node_id
        cluster.remove_node(good)
        looked_until(nodes, "has left the cluster")

    said = r"--address here: no node there can run trials: node .* the code differs"
    with pytest.raises(UsageError, match=said), proven_nodes("here", search):
        pass
    assert not list(search.root.parent.glob(".tiny*"))


def test_a_trial_that_finds_its_node_unfit_has_it_left_out(cluster, search, tmp_path, monkeypatch):
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)
    node = cluster.add_node(num_cpus=1)
    with proven_nodes("here", search) as nodes:
        said = []
        nodes.event({"kind": "retried", "error": "ActorDiedError: its node has died"}, None)
        assert nodes.usable(Capacity.of(1, 0.0)) == Capacity.of(1, 0.0)
        nodes.event({"kind": "retried", "error": "NodeError: node vm: it does not see runs"}, None)
        nodes.look(said.append)
        assert said == [] and nodes.usable(Capacity.of(1, 0.0)) == Capacity.of(1, 0.0)
        Path(nodes.proof.folder, "driver").write_text("another storage is mounted here now")
        nodes.event({"kind": "retried", "error": "NodeError: node vm: it does not see runs"}, None)
        nodes.look(said.append)
        assert len(said) == 1 and node.node_id[:8] in said[0]
        assert "sees another file than the driver" in said[0] and "then start Ray there anew" in said[0]
        assert nodes.usable(Capacity.of(1, 0.0)) == Capacity(())


@pytest.mark.slow
def test_a_search_spreads_and_goes_on_when_a_node_joins_and_another_leaves(cluster, tmp_path):
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)

    def join():
        return ClusterNode(cluster, cluster.add_node(num_cpus=1))

    nodes = join(), join()
    site = SmallSearch("grid", epochs=24).site(tmp_path)
    with Search(site, cluster.address, {}, "--concurrency", "2") as search:
        loses_and_gains_a_node(search, nodes, join)
    search.check_whole(4, 24)
    assert [event["kind"] for event in search.events()].count("retried") >= 1
