"""What a machine or a cluster has, and what each trial gets of it."""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from satdet.errors import UsageError
from search_spaces.declare import Resources


@dataclass(frozen=True)
class Node:
    """One machine."""

    cpus: int
    gpus: float = 0.0

    def holds(self, cpus: int, gpus: float) -> int:
        """How many workers of that size have room on it."""
        by_cpu = self.cpus // cpus
        return min(by_cpu, math.floor(self.gpus / gpus + 1e-9)) if gpus else by_cpu

    def __str__(self) -> str:
        return f"{self.cpus} CPUs and {self.gpus:g} GPUs"


@dataclass(frozen=True)
class Capacity:
    """A machine, or the machines of a cluster."""

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, cpus: int, gpus: float = 0.0) -> "Capacity":
        """One machine."""
        return cls((Node(cpus, float(gpus)),))

    @property
    def cpus(self) -> int:
        """Of all machines."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """Of all machines."""
        return sum(node.gpus for node in self.nodes)

    @property
    def largest(self) -> Node:
        """The machine with the most GPUs, and of these with the most CPUs."""
        return max(self.nodes, key=lambda node: (node.gpus, node.cpus), default=Node(0))

    def holds(self, cpus: int, gpus: float) -> int:
        """How many workers of that size there is room for."""
        return sum(node.holds(cpus, gpus) for node in self.nodes)


UNKNOWN = Capacity((Node(1 << 20, float(1 << 20)),))
"""Of a cluster that is not connected to yet: everything has room there."""


@dataclass(frozen=True)
class TrialResources:
    """What each trial gets, and how many run at a time.

    Attributes
    ----------
    cpus : int
        CPUs, and so threads, of a worker.
    gpus : float
        GPUs of a worker.
    concurrency : int
        Trials at a time.
    workers : int
        Processes that train one trial together.
    """

    cpus: int
    gpus: float
    concurrency: int
    workers: int = 1

    @property
    def trial_cpus(self) -> int:
        """CPUs of a trial."""
        return self.cpus * self.workers

    def bundles(self) -> list[dict[str, float]]:
        """What a trial asks of Ray, to be placed as one: its process, then with several workers each of them.

        The process that only waits for several workers takes nothing.
        """
        worker = {"CPU": float(self.cpus), "GPU": self.gpus}
        return [worker] if self.workers == 1 else [{}, *([worker] * self.workers)]

    def __str__(self) -> str:
        each = f"{self.cpus} CPUs and {self.gpus:g} GPUs"
        return f"{each} a trial" if self.workers == 1 else f"{each} for each of {self.workers} workers a trial"


def machine() -> Capacity:
    """What this machine has, without asking Ray: the CPUs this process may use, and NVIDIA devices."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    gpus = min(devices, len([device for device in visible.split(",") if device])) if visible is not None else devices
    return Capacity.of(len(os.sched_getaffinity(0)), gpus)


def parse_nodes(text: str) -> Capacity:
    """The machines that ``4x16cpu1gpu`` or ``1x8cpu,4x16cpu2gpu`` means: how many, with how many CPUs and GPUs each.

    Raises
    ------
    UsageError
        If it means none.
    """
    nodes: list[Node] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)x(\d+)cpu(?:(\d+)gpu)?", part.strip())
        if match is None or not int(match[1]) or not int(match[2]):
            raise UsageError(f"--nodes {text!r} is not like 4x16cpu1gpu: machines, and the CPUs and GPUs of each")
        nodes += [Node(int(match[2]), float(match[3] or 0))] * int(match[1])
    return Capacity(tuple(nodes))


def divide(
    capacity: Capacity,
    wanted: Resources,
    trials: int,
    *,
    concurrency: int | None,
    cpus: int | None,
    gpus: float | None,
    workers: int | None = None,
) -> TrialResources:
    """Divide a cluster between trials: with GPUs as many as these hold, else as many as there are CPUs or trials.

    Parameters
    ----------
    capacity : Capacity
    wanted : Resources
        As declared.
    trials : int
        The most trials there will be.
    concurrency, cpus, gpus, workers : optional
        What the command says of trials at a time, and of the CPUs, GPUs and workers of one trial. Several GPUs are
        those of as many workers, if nothing is said of these.

    Raises
    ------
    UsageError
        If not even one trial could ever be placed.
    """
    workers = workers_a_trial(wanted, workers, gpus)
    each_gpus = wanted.gpus_per_worker if capacity.gpus else 0.0
    if gpus is not None:
        each_gpus = gpus / workers
    each_cpus = wanted.cpus_per_worker if cpus is None else cpus // workers
    asked_cpus = workers * (each_cpus or 1) if cpus is None else cpus
    asked = f"a trial asks for {asked_cpus} CPUs and {workers * each_gpus:g} GPUs"
    if workers > 1:
        asked += f" for {workers} workers"
    if each_cpus == 0:
        raise UsageError(f"{asked}: each worker needs a CPU")
    if workers > 1 and each_gpus != int(each_gpus):
        raise UsageError(f"{asked}: workers of one trial cannot share a GPU; ask for {workers} GPUs or fewer workers")
    room = capacity.holds(each_cpus or 1, each_gpus)
    if room < workers:
        there = f"there are {capacity.cpus} CPUs and {capacity.gpus:g} GPUs"
        if len(capacity.nodes) > 1:
            there += f" on {len(capacity.nodes)} nodes, the largest of them has {capacity.largest}"
        raise UsageError(f"{asked}; {there}, which hold {room} of {workers} such workers")
    most = max(1, min(room // workers, trials, concurrency or trials))
    return TrialResources(each_cpus or _fair_cpus(capacity.nodes, each_gpus, most * workers), each_gpus, most, workers)


def workers_a_trial(wanted: Resources, workers: int | None, gpus: float | None) -> int:
    """How many workers a trial has: what is said of them, else one for each of several GPUs, else what is declared."""
    if workers is not None:
        return workers
    return int(gpus) if gpus is not None and gpus > 1 and gpus == int(gpus) else wanted.workers


def grown(given: TrialResources, capacity: Capacity, at_a_time: int, most: int) -> TrialResources:
    """With as many workers a trial as there is room for when only `at_a_time` trials are left, but at most `most`."""
    room = capacity.holds(given.cpus, given.gpus) // max(1, at_a_time)
    return replace(given, workers=max(given.workers, min(room, most)))


def _fair_cpus(nodes: Iterable[Node], gpus: float, workers: int) -> int:
    """The most CPUs that so many workers can have, each on one machine."""
    nodes = tuple(nodes)
    most = min(max(node.cpus for node in nodes), sum(node.cpus for node in nodes) // workers)
    for cpus in range(most, 1, -1):
        if sum(node.holds(cpus, gpus) for node in nodes) >= workers:
            return cpus
    return 1
