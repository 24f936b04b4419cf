"""A map over processes that keeps the order and dies at once with its first error."""

import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from satdet.errors import SatdetError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def map_in_processes(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterator[_Result]:
    """Yield ``function(item)`` for every item, in order; with one worker, in this process.

    Raises
    ------
    SatdetError
        If a process dies, as when the machine runs out of memory. Errors of `function` come through as they are.
    """
    if workers <= 1 or len(items) <= 1:
        yield from map(function, items)
        return
    # Not fork: the caller may run threads, whose locks a forked process would inherit locked.
    context = multiprocessing.get_context("forkserver")
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(items)), context, _leave_interrupts_to_parent)
    try:
        yield from pool.map(function, items)
    except BrokenProcessPool:
        raise SatdetError("a worker process died, perhaps for lack of memory; try with fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    """A terminal sends Ctrl-C to every process; the parent alone is to answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
