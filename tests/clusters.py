"""Clusters of several nodes on this machine: other code for one of them, and real nodes that come and go."""

import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from benchmarks.chaos_support import MARK, kill_marked, marked, scratch
from experiments.record import Event, read_record
from tests.site import ROOT, Site

PACKAGES = ("experiments", "satdet", "search_spaces")
_START_SECONDS = 120.0
_STARTS = 8
_PAUSE_SECONDS = 5.0
"""Ray itself gives up after 30 s, which a busy machine may need."""


class Node(Protocol):
    """A node of a cluster."""

    def trains(self) -> bool:
        """Whether an epoch is being trained there."""

    def end(self) -> None:
        """Take it away at once, as a power cut does."""


N = TypeVar("N", bound=Node)


class Search:
    """A search on a cluster, run by a driver that does not hand the folder it runs in to the workers."""

    def __init__(self, site: Site, address: str, environment: Mapping[str, str], *flags: str) -> None:
        self.site = site
        self._out, self._err = site.folder / "out.txt", site.folder / "err.txt"
        command = site.command("--smoke", "--wandb", "off", "--cpus-per-trial", "1", "--address", address, *flags)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=site.folder, env=site.environment() | {"PYTHONPATH": str(ROOT)} | environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return self._err.read_text(errors="replace")

    def events(self) -> list[Event]:
        return read_record(self.site.search / "record.jsonl")

    def wait(self, until: Callable[[], bool], seconds: float = 240.0) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def end(self, seconds: float = 400.0) -> int:
        return self.process.wait(timeout=seconds)

    def check_whole(self, trials: int, epochs: int) -> None:
        """Every trial has finished, and every epoch was recorded once."""
        assert self.process.returncode == 0, self.said()
        state = self.site.summary()
        assert [(trial["status"], trial["epochs"]) for trial in state["trials"]] == [("finished", epochs)] * trials
        found = [(event["trial"], event["epoch"]) for event in self.events() if event["kind"] == "result"]
        assert sorted(found) == [(f"t{trial:04d}", epoch + 1) for trial in range(trials) for epoch in range(epochs)]
        assert not list(self.site.storage.glob(".*nodes-*"))


def loses_and_gains_a_node(search: Search, nodes: tuple[N, N], join: Callable[[], N]) -> N:
    """See a search spread over two nodes, add another, take the first away and see it replaced; returns the new one."""
    first, second = nodes
    search.wait(lambda: first.trains() and second.trains())
    third = join()
    search.wait(first.trains)
    first.end()
    search.wait(third.trains)
    search.end()
    return third


def other_checkout(folder: Path, changed: str, addition: str = "# Another version of this file.") -> Path:
    """A copy of our sources in which one file is another."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / changed).open("a") as file:
        file.write(f"\n{addition}\n")
    return folder


class RayNode:
    """A node started by the script for that, in processes that are found again by a mark.

    Parameters
    ----------
    environment : mapping
        Token, temporary folder, port, and what else the node's processes are to have.
    head : str, optional
        Address of the head; without one, this is the head.
    cpus : int
    prefix : tuple of str
        A command that runs the script: in a namespace of its own, say.
    """

    def __init__(
        self, environment: Mapping[str, str], head: str | None = None, cpus: int = 0, prefix: tuple[str, ...] = ()
    ) -> None:
        command = [*prefix, str(ROOT / "cluster" / "local" / "start.sh"), "--block"]
        for attempt in range(_STARTS):
            self.mark = secrets.token_hex(8)
            log = Path(environment["TMPDIR"]) / f"{self.mark}.log"
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    [*command, *(("--head-address", head) if head else ())],
                    env=os.environ | {"PYTHONPATH": str(ROOT), "CPUS": str(cpus)} | environment | {MARK: self.mark},
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
            if self._started(log):
                return
            self.end()
            assert attempt < _STARTS - 1, log.read_text(errors="replace")
            time.sleep(_PAUSE_SECONDS)

    def trains(self) -> bool:
        return any(_is_trial(process) for process in marked(self.mark))

    def end(self) -> None:
        kill_marked(self.mark)
        self.process.wait()

    def _started(self, log: Path) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


class ClusterNode:
    """A node of `ray.cluster_utils.Cluster`."""

    def __init__(self, cluster: Any, node: Any) -> None:
        self._cluster = cluster
        self._node = node
        self._raylet = node.all_processes["raylet"][0].process.pid

    def trains(self) -> bool:
        return any(_is_trial(process) for process in _children(self._raylet))

    def end(self) -> None:
        self._cluster.remove_node(self._node, allow_graceful=False)


class Network:
    """Machines of their own, as far as the network goes: one namespace and one address each, on a bridge."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._name = f"sd{secrets.token_hex(3)}"
        self._subnet = f"10.213.{random.SystemRandom().randrange(1, 255)}"
        self._machines = 1
        self.address = f"{self._subnet}.1"
        _ip("link", "add", self._name, "type", "bridge")
        stack.callback(_ip, "link", "del", self._name)
        _ip("addr", "add", f"{self.address}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    @classmethod
    def possible(cls) -> bool:
        """Whether this process may make one."""
        try:
            with ExitStack() as stack:
                cls(stack).machine()
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def machine(self) -> tuple[str, tuple[str, ...]]:
        """Another machine: its address, and the command that runs others there."""
        self._machines += 1
        space, address = f"{self._name}-{self._machines}", f"{self._subnet}.{self._machines}"
        outside, inside = f"{self._name}o{self._machines}", f"{self._name}i{self._machines}"
        enter = ("nsenter", f"--net=/run/netns/{space}")
        _ip("netns", "add", space)
        self._stack.callback(_ip, "netns", "del", space)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        _ip("link", "set", inside, "netns", space)
        _ip("link", "set", outside, "master", self._name, "up")
        for command in (("addr", "add", f"{address}/24", "dev", inside), ("link", "set", inside, "up"),
                        ("link", "set", "lo", "up")):  # fmt: skip
            subprocess.run([*enter, "ip", *command], check=True, capture_output=True)
        return address, enter


class RealCluster:
    """A head without CPUs, and what is needed to add nodes and to search on it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._network = Network(stack) if Network.possible() else None
        temporary = stack.enter_context(scratch())
        token = Path(temporary["TMPDIR"]) / "token"
        self._access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        own = self._network.address if self._network else "127.0.0.1"
        with socket.socket() as probe:
            probe.bind((own, 0))
            self._port = str(probe.getsockname()[1])
        self.address = f"{own}:{self._port}"
        self.environment = temporary | self._access
        node_ip = {"NODE_IP": own} if self._network else {}
        head = RayNode(self.environment | {"PORT": self._port} | node_ip)
        stack.callback(head.end)

    def join(self, cpus: int = 1, prefix: tuple[str, ...] = (), **environment: str) -> RayNode:
        """Another node."""
        own = self._stack.enter_context(scratch()) | self._access | {"PORT": self._port} | environment
        if self._network:
            own["NODE_IP"], enter = self._network.machine()
            prefix = (*enter, *prefix)
        node = RayNode(own, self.address, cpus, prefix)
        self._stack.callback(node.end)
        return node


@contextmanager
def real_cluster() -> Iterator[RealCluster]:
    """A cluster of real ``ray start`` processes with token, each in a network of its own where that is possible."""
    with ExitStack() as stack:
        yield RealCluster(stack)


def without_storage(folder: Path) -> tuple[str, ...]:
    """A command that runs others where nothing is at `folder`, as where it was not mounted."""
    return ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(folder))


def may_hide_storage(folder: Path) -> bool:
    """Whether this process may do that."""
    return subprocess.run([*without_storage(folder), "true"], capture_output=True, check=False).returncode == 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _is_trial(process: int) -> bool:
    with suppress(OSError):
        return Path("/proc", str(process), "cmdline").read_bytes().startswith(b"ray::TrialTrainable.train")
    return False


def _children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
    return found
