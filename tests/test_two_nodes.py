"""Searches on clusters of real Ray nodes: one leaves, another joins, and some cannot run trials."""

import pytest

from benchmarks.chaos_support import MARK, SmallSearch
from satdet.data.integrity import check_content
from satdet.data.store import TileStore
from tests.clusters import (
    Search,
    loses_and_gains_a_node,
    may_hide_storage,
    other_checkout,
    real_cluster,
    without_storage,
)

EPOCHS = 24
"""Enough that a node may join meanwhile."""
WATCHED = "satdet/training/loop.py"
"""Imported where a trial trains, and nowhere else."""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    with real_cluster() as cluster:
        yield cluster


def test_a_search_spreads_and_goes_on_when_a_node_joins_and_another_leaves(cluster, tmp_path):
    site = SmallSearch("grid", epochs=EPOCHS).site(tmp_path)
    nodes = cluster.join(), cluster.join()
    near = tmp_path / "near"
    flags = ("--concurrency", "2", "--tile-cache", f"{near}/${MARK},1GB")
    with Search(site, cluster.address, cluster.environment, *flags) as search:
        third = loses_and_gains_a_node(search, nodes, cluster.join)
    search.check_whole(4, EPOCHS)
    kinds = [event["kind"] for event in search.events()]
    assert kinds.count("retried") >= 1
    assert "has left the cluster" in search.said() and "has joined: 1 CPUs" in search.said()
    (store,) = site.storage.glob("data/tiles-*")
    digest = TileStore.open(store).content_digest
    for node in (*nodes, third):
        check_content(near / node.mark / digest, digest)
    nodes[1].end()
    third.end()


def test_nodes_without_the_storage_or_with_other_code_are_named_and_get_no_trial(cluster, tmp_path):
    site = SmallSearch("grid", epochs=EPOCHS).site(tmp_path)
    site.storage.mkdir()
    trained = tmp_path / "trained"
    watch = f"import pathlib; pathlib.Path({str(trained)!r}).touch()"
    good = cluster.join()
    unmounted = cluster.join(8, without_storage(site.storage)) if may_hide_storage(site.storage) else None
    flags = ("--concurrency", "2", "--trials", "2")
    with Search(site, cluster.address, cluster.environment, *flags) as search:
        search.wait(good.trains)
        other = other_checkout(tmp_path / "other", WATCHED, watch)
        late = cluster.join(8, PYTHONPATH=str(other))
        search.wait(lambda: f"{WATCHED} in {other} is sha256" in search.said())
        search.end()
    search.check_whole(2, EPOCHS)
    left_out = [line for line in search.said().splitlines() if "is left out" in line]
    assert len(left_out) == 1 + (unmounted is not None), search.said()
    assert "the code differs" in left_out[-1] and "put the same checkout there" in left_out[-1]
    assert not trained.exists()
    if unmounted is not None:
        assert "which the driver wrote; mount the same storage there under the same path" in left_out[0]
        unmounted.end()

    good.end()
    with Search(site, cluster.address, cluster.environment, "--fresh") as refused:
        assert refused.end() == 2
    assert f"error: --address {cluster.address}: no node there can run trials: node" in refused.said()
    assert (site.search / "summary.json").exists()
    late.end()


def test_two_nodes_train_one_trial_together(cluster, tmp_path):
    site = SmallSearch("grid", epochs=3).site(tmp_path)
    nodes = cluster.join(), cluster.join()  # one CPU each, so that no node has room for both workers
    flags = ("--trials", "1", "--workers-per-trial", "2", "--cpus-per-trial", "2")
    with Search(site, cluster.address, cluster.environment, *flags) as search:
        search.end()
    search.check_whole(1, 3)
    (begun,) = [event for event in search.events() if event["kind"] == "started"]
    assert begun["workers"] == 2
    assert all(event["hardware"].startswith("2 x ") for event in search.events() if event["kind"] == "result")
    for node in nodes:
        node.end()
