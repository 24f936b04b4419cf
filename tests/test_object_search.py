"""A whole search whose storage is an object store: its machine is lost, another one goes on, and nothing is missing."""

import os
import signal
import subprocess
import sys

import pytest

from benchmarks.chaos_support import SmallSearch
from benchmarks.outcomes import Outcome, compare
from experiments.remote import SCRATCH, RemoteStorage
from tests.object_server import BUCKET, environment, object_server
from tests.site import ROOT, Site

URI = f"s3://{BUCKET}/searches"
SEARCH = SmallSearch("asha", trials=3, epochs=2)


class Machine(Site):
    """A machine with a disk of its own, from which the search is run."""

    def __init__(self, folder, port):
        folder.mkdir()
        super().__init__(folder, SEARCH.declaration, "asha.py")
        self.scratch = folder / "scratch"
        self.storage = RemoteStorage(URI, str(self.scratch)).root
        self.search = self.storage / self.name
        self.port = port

    def command(self, *flags):
        return [sys.executable, "-m", "experiments.run", str(self.declaration), "--storage", URI, *flags]

    def environment(self):
        return super().environment() | environment(self.port) | {SCRATCH: str(self.scratch)}

    def module(self, name, *arguments):
        command = [sys.executable, "-m", name, *arguments, "--storage", URI]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment(), text=True, capture_output=True, timeout=300, check=False
        )


@pytest.fixture(scope="module")
def port():
    with object_server() as port:
        yield port


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """What the search leaves in a folder, undisturbed."""
    site = SEARCH.site(tmp_path_factory.mktemp("twin"))
    done = site.run("--smoke", "--concurrency", "1")
    assert done.returncode == 0, done.stderr
    return Outcome.of(site)


@pytest.fixture(scope="module")
def finished(port, tmp_path_factory):
    """The search, begun on a machine that is lost after some results, and finished on another."""
    folder = tmp_path_factory.mktemp("machines")
    one, other = Machine(folder / "one", port), Machine(folder / "other", port)
    process = one.start("--smoke", "--concurrency", "1")
    one.wait_for_results(process, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = other.run("--smoke", "--resume", "--concurrency", "1")
    assert done.returncode == 0, done.stderr
    return other


def test_the_search_ends_as_if_nothing_had_happened_and_trackers_have_it_all(finished, twin):
    assert compare(Outcome.of(finished), twin) == {}


def test_a_machine_that_has_never_seen_it_compares(finished, port, tmp_path):
    table = Machine(tmp_path / "third", port).module("experiments.compare", "asha", "--format", "csv")
    assert table.returncode == 0, table.stderr
    assert table.stdout == finished.module("experiments.compare", "asha", "--format", "csv").stdout


@pytest.mark.slow
def test_a_machine_that_has_never_seen_it_measures_its_best(finished, port, tmp_path):
    third = Machine(tmp_path / "third", port)
    done = third.module("experiments.run", "nms_grid", "--smoke", "--best-of", "asha", "--wandb", "off")
    assert done.returncode == 0, done.stderr
    assert "cannot be told apart" in done.stdout


def test_nothing_of_a_trial_stays_on_a_node(finished):
    work = RemoteStorage(URI, str(finished.scratch)).work
    assert [path.name for path in work.rglob("*.pt") if "trials" in path.parts] == []
