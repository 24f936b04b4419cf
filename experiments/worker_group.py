"""Several processes that train one trial together, as the trial's own process in Ray sees them."""

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from experiments.trial_run import Outcome, TrialOrder, TrialRun
from satdet.errors import LostWorkerError

_ADDRESS_OF_INTERFACE = 0x8915
"""Linux's SIOCGIFADDR."""
_GRACE_SECONDS = 5.0
"""How long the others have to say what they know when one has failed; mostly they wait for it in vain."""
_MEETING_SECONDS = 1800.0
"""How long a worker waits for another, besides what the storage is waited for. Who is lost is noticed here, by Ray."""


class TrialWorker:
    """One of the processes that train a trial; an actor in the trial's placement group."""

    def __init__(self) -> None:
        self._run: TrialRun | None = None

    def place(self) -> tuple[str, str, int]:
        """The node it is on, by Ray's id and its address, and a port that is free there."""
        address = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((address, 0))
            return ray.get_runtime_context().get_node_id(), address, probe.getsockname()[1]

    def begin(self, order: dict[str, Any], meeting: dict[str, Any]) -> None:
        """Begin a trial, or another one in this process."""
        from satdet.training import Meeting

        # On one machine no other has to reach them; else a host's name may well be that of its loopback address.
        interface = "lo" if meeting["file"] is not None else _interface(ray.util.get_node_ip_address())
        if interface is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface
        self._run = TrialRun(TrialOrder(**order), Meeting(**meeting))

    def step(self) -> Outcome:
        """Train one epoch."""
        assert self._run is not None, "begin comes first"
        return self._run.step()

    def leave(self) -> None:
        """Leave the trial."""
        run, self._run = self._run, None
        if run is not None:
            run.leave()


class WorkerGroup:
    """The workers of a trial; they stay for the next one, unless one of them was lost.

    Parameters
    ----------
    workers : int
    resources : sequence of dict
        Of each worker, as its bundle has them.
    """

    def __init__(self, resources: Sequence[dict[str, float]]) -> None:
        group = ray.util.get_current_placement_group()
        kind = ray.remote(TrialWorker)
        self._actors = [
            kind.options(
                num_cpus=each.get("CPU", 0),
                num_gpus=each.get("GPU", 0),
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            ).remote()
            for rank, each in enumerate(resources)
        ]
        self._meetings: list[Path] = []

    def begin(self, order: TrialOrder) -> None:
        """Have all of them begin a trial.

        Raises
        ------
        LostWorkerError
            If one of them is lost.
        """
        places = self._all("place")
        meeting: dict[str, Any] = {"count": len(places), "file": None, "address": None}
        if len({node for node, _, _ in places}) == 1:
            self._meetings.append(Path(tempfile.mkdtemp(prefix="satdet-meeting-")))
            meeting["file"] = self._meetings[-1] / "workers"
        else:
            meeting["address"] = places[0][1:]
        meeting["seconds"] = _MEETING_SECONDS + order.storage_patience
        self._all("begin", *[(asdict(order), {**meeting, "rank": rank}) for rank in range(len(places))])

    def step(self) -> Outcome:
        """One epoch of all of them: what the leader has to say, or why they cannot go on.

        Raises
        ------
        LostWorkerError
            If one of them is lost: another attempt may do.
        """
        waiting = {actor.step.remote(): rank for rank, actor in enumerate(self._actors)}
        outcomes: dict[int, Outcome] = {}
        deadline: float | None = None
        lost: str | None = None
        while waiting:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            done, _ = ray.wait(list(waiting), timeout=timeout)
            if not done:
                break
            rank = waiting.pop(done[0])
            try:
                outcomes[rank] = ray.get(done[0])
            except RayError as error:
                lost = f"worker {rank} was lost ({_reason(error)})"
            if lost or outcomes[rank].failed:
                deadline = deadline or time.monotonic() + _GRACE_SECONDS
        if lost:
            raise LostWorkerError(lost)
        return common(outcomes)

    def leave(self) -> None:
        """Have them leave the trial; whoever cannot is lost, and is none to wait for."""
        with contextlib.suppress(LostWorkerError):
            self._all("leave")
        self._forget_meetings()

    def end(self) -> None:
        """End their processes."""
        for actor in self._actors:
            ray.kill(actor)
        self._forget_meetings()

    def _all(self, method: str, *arguments: tuple[Any, ...]) -> list[Any]:
        calls = arguments or ((),) * len(self._actors)
        futures = [getattr(actor, method).remote(*each) for actor, each in zip(self._actors, calls, strict=True)]
        try:
            return list(ray.get(futures))
        except RayError as error:
            raise LostWorkerError(f"a worker was lost ({_reason(error)})") from error

    def _forget_meetings(self) -> None:
        for folder in self._meetings:
            shutil.rmtree(folder, ignore_errors=True)
        self._meetings = []


def common(outcomes: Mapping[int, Outcome]) -> Outcome:
    """What the outcomes of several workers, by rank, come to: the cause of a failure, else what the leader says.

    Raises
    ------
    LostWorkerError
        If all that failed did so because another worker did not answer.
    """
    failed = [outcome for outcome in outcomes.values() if outcome.failed]
    causes = [outcome for outcome in failed if not outcome.lost_another]
    if causes:
        return causes[0]
    if failed:
        raise LostWorkerError(failed[0].result["error"])
    remarks = [remark for rank in sorted(outcomes) for remark in outcomes[rank].result["remarks"]]
    return replace(outcomes[0], result=outcomes[0].result | {"remarks": list(dict.fromkeys(remarks))})


def _interface(address: str) -> str | None:
    """The network interface of this machine with that IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no such address
                answer = fcntl.ioctl(probe, _ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def _reason(error: RayError) -> str:
    """Of a lost process what Ray says of it first, of an error in one the error itself, which comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1 if isinstance(error, RayTaskError) else 0][:200] if lines else type(error).__name__
