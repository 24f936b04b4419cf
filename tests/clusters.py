"""Clusters of several nodes on this machine: other code for one of them, and real nodes that come and go."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.chaos_support import MARK, kill_marked, scratch
from tests.site import ROOT

PACKAGES = ("experiments", "satdet", "search_spaces")
_START_SECONDS = 120.0


def other_checkout(folder: Path, changed: str) -> Path:
    """A copy of our sources in which one file is another."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / changed).open("a") as file:
        file.write("\n# Another version of this file.\n")
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
        self.mark = secrets.token_hex(8)
        log = Path(environment["TMPDIR"]) / f"{self.mark}.log"
        command = [*prefix, str(ROOT / "cluster" / "local" / "start.sh"), "--block"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *(("--head-address", head) if head else ())],
                env=os.environ | environment | {"CPUS": str(cpus), MARK: self.mark},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.1)

    def end(self) -> None:
        """Take it away at once, as a power cut does."""
        kill_marked(self.mark)
        self.process.wait()


class RealCluster:
    """A head without CPUs, and what is needed to add nodes and to search on it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        temporary = stack.enter_context(scratch())
        token = Path(temporary["TMPDIR"]) / "token"
        self._access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])
        self.address = f"127.0.0.1:{self._port}"
        self.environment = temporary | self._access
        head = RayNode(self.environment | {"PORT": self._port})
        stack.callback(head.end)

    def join(self, cpus: int = 1, prefix: tuple[str, ...] = (), **environment: str) -> RayNode:
        """Another node."""
        own = self._stack.enter_context(scratch()) | self._access | {"PORT": self._port} | environment
        node = RayNode(own, self.address, cpus, prefix)
        self._stack.callback(node.end)
        return node


@contextmanager
def real_cluster() -> Iterator[RealCluster]:
    """A cluster of real ``ray start`` processes, with token, on a port of its own."""
    with ExitStack() as stack:
        yield RealCluster(stack)
