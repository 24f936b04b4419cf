"""Several processes that train one trial together: what they tell each other, besides their gradients.

Each of them runs the same training on its share of every batch. The first one leads: it alone reads and writes files,
asks the callbacks, and reports; what it decides, the others are told. They must call the methods of `Workers` in the
same order. Whoever started them ends the others when one fails or is lost: each may be waiting for it.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from satdet.data.loading import Share
from satdet.detector.batch_norm import share_batch_norm
from satdet.errors import LostWorkerError
from satdet.training.callbacks import StopTraining

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """Where the workers of a trial find each other.

    Attributes
    ----------
    rank : int
        Of this worker, from 0; that leads.
    count : int
        How many there are.
    file : Path, optional
        On one machine: a new file that all of them can write.
    address : tuple of str and int, optional
        Otherwise: host and free port of the first worker.
    seconds : float
        How long one waits for another. A leader may have to wait for its storage meanwhile.
    """

    rank: int
    count: int
    file: Path | None = None
    address: tuple[str, int] | None = None
    seconds: float

    def store(self) -> Any:
        """What they exchange their addresses through."""
        if self.file is not None:
            return dist.FileStore(str(self.file), self.count)  # type: ignore[attr-defined]
        assert self.address is not None, "neither a file nor an address"
        timeout = timedelta(seconds=min(self.seconds, 300))
        return dist.TCPStore(  # type: ignore[attr-defined]
            *self.address, self.count, is_master=self.rank == 0, timeout=timeout
        )


class Workers:
    """The workers of a trial as one of them sees them; by default it is alone.

    Parameters
    ----------
    rank : int
        Its own, from 0.
    count : int
        How many there are.
    patience : timedelta, optional
        How long each waits for another, once they have met (`meet`); who has met nobody does without the exchange.
    """

    def __init__(self, rank: int = 0, count: int = 1, *, patience: timedelta | None = None) -> None:
        self.rank = rank
        self.count = count
        self.alone = patience is None
        self._patience = patience

    @property
    def leads(self) -> bool:
        """Whether this is the first one."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """Its part of every batch."""
        return Share(self.rank, self.count)

    def led(self, action: Callable[[], T]) -> T:
        """What `action` returns, which only the leader calls: plain values and tensors."""
        if self.alone:
            return action()
        return self._told(action() if self.leads else None)  # type: ignore[no-any-return]

    def told_to_stop(self, stop: StopTraining | None) -> StopTraining | None:
        """The leader's `stop`, in each of them; most of the time there is none."""
        if self.alone:
            return stop
        flag = torch.tensor(int(stop is not None))
        with _lost_if_it_fails():
            dist.broadcast(flag, src=0)
        if not flag:
            return None
        return StopTraining(*self.led(lambda: (stop.reason, stop.why) if stop is not None else ("", "")))

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over all workers, of the same shape, in each of them."""
        if self.alone:
            return values
        values = values.clone()
        with _lost_if_it_fails():
            dist.all_reduce(values)
        return values

    def gathered(self, value: T) -> list[T]:
        """Every worker's `value` (plain values and tensors), in their order; in the others than the leader, none."""
        if self.alone:
            return [value]
        packed = _packed(value)
        with _lost_if_it_fails():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
            dist.all_gather(sizes, torch.tensor([len(packed)]))
            padded = torch.zeros(max(int(size) for size in sizes), dtype=torch.uint8)
            padded[: len(packed)] = packed
            received = [torch.empty_like(padded) for _ in range(self.count)] if self.leads else None
            dist.gather(padded, received, dst=0)
        return [_unpacked(each[: int(size)]) for each, size in zip(received or [], sizes, strict=False)]

    def parallel(self, detector: nn.Module, *, sync_batch_norm: bool) -> nn.Module:
        """`detector` in a module whose backward pass leaves in each worker the mean gradient of all of them.

        Parameters
        ----------
        detector : Module
            On its device, with its parameters frozen as they will be; another one is needed when that changes.
        sync_batch_norm : bool
            Whether batch norm has the statistics of all workers; else the leader's running averages are everybody's.
        """
        if self.alone:
            return detector
        with _lost_if_it_fails():
            return DistributedDataParallel(
                detector, forward_sync_buffers=not sync_batch_norm, gradient_as_bucket_view=True
            )

    def share_batch_norm(self, detector: nn.Module) -> None:
        """Let all batch norm in `detector` that is trained have the statistics of all workers."""
        if not self.alone:
            share_batch_norm(detector, dist.new_group(timeout=self._patience))

    def _told(self, value: Any) -> Any:
        packed = _packed(value) if self.leads else torch.empty(0, dtype=torch.uint8)
        with _lost_if_it_fails():
            size = torch.tensor([len(packed)])
            dist.broadcast(size, src=0)
            if not self.leads:
                packed = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(packed, src=0)
        return value if self.leads else _unpacked(packed)


ALONE = Workers()
"""A trial's only worker."""


@contextmanager
def stopping_together(workers: Workers) -> Iterator[None]:
    """Let all `workers` stop when the leader's callbacks, which are asked in this context, stop the trial.

    Raises
    ------
    StopTraining
        In each of them.
    """
    stop: StopTraining | None = None
    try:
        yield
    except StopTraining as own:
        stop = own
    told = workers.told_to_stop(stop if workers.leads else None)
    if told is not None:
        raise told


@contextmanager
def meet(meeting: Meeting) -> Iterator[Workers]:
    """Join the other workers of a trial for as long as the context lasts.

    Gradients go through NCCL between GPUs and through Gloo otherwise; all else goes through Gloo.

    Raises
    ------
    LostWorkerError
        If they do not all come.
    """
    patience = timedelta(seconds=meeting.seconds)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _lost_if_it_fails():
        dist.init_process_group(
            backend,
            store=meeting.store(),
            rank=meeting.rank,
            world_size=meeting.count,
            timeout=patience,
        )
    try:
        yield Workers(meeting.rank, meeting.count, patience=patience)
    finally:
        dist.destroy_process_group()


@contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    """What fails between workers is that another one has gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise LostWorkerError(f"another worker of the trial does not answer ({reason})") from error


def _packed(value: Any) -> Tensor:
    """The bytes of a value, (n,) uint8."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> Any:
    # Workers on several machines talk over an open port, so what arrives is read as a file from elsewhere would be.
    return torch.load(io.BytesIO(packed.numpy().tobytes()), weights_only=True, map_location="cpu")
