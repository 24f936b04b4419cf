"""What trackers cost a search: the driver's time a result, and how much slower a search is that cannot reach MLflow.

    python -m benchmarks.tracker_cost [--results 1200] [--pairs 5]

The first is measured with MLflow on SQLite and W&B offline, both fed by their process meanwhile. For the second, as
many processes as there are cores work on made-up epochs of half a second, with trackers off, with an MLflow that
refuses connections, and with one that answers after 5 s. The three take turns. What the trackers' process takes of the
cores is told too, for it does not depend on what else the machine does; what it needs to start is told apart.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from experiments.live import LiveSearch
from experiments.options import RunOptions
from experiments.paths import storage_paths
from experiments.trackers import TrackerState
from experiments.tracking import TrackerProcess
from satdet.config import metric_names
from tests.fault_proxy import Fault, FaultProxy
from tests.mlflow_server import free_port, mlflow_server, until
from tests.searches import begin

NAME = "backbone_ablation"
EPOCHS = 10
PAUSE_SECONDS = 0.02
EPOCH_SECONDS = 0.5
LATENCY_SECONDS = 5.0
_ARMS = ("off", "MLflow refuses connections", "MLflow answers after 5 s")
_TICKS = os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tracker_cost", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--results", type=int, default=1200, help="results that the driver's time is measured on")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each arm")
    parser.add_argument("--turn", type=int, default=80, help="results of a turn")
    parser.add_argument("--note", default="", help="what else the machine did")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tracker_cost.json"))
    options = parser.parse_args(arguments)
    found = {
        "driver_ms_a_result": {
            "trackers off": _driver(options.results, on=False),
            "MLflow on SQLite and W&B offline": _driver(options.results, on=True),
        },
        "slowdown": _slowdown(options.pairs, options.turn),
        "load_before": [round(each, 1) for each in os.getloadavg()],
        **({"note": options.note} if options.note else {}),
        **machine(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


@contextmanager
def _search(**options: Any) -> Iterator[tuple[LiveSearch, TrackerProcess]]:
    """A search that has just begun, and the process that would feed its trackers."""
    with tempfile.TemporaryDirectory() as folder:
        storage = storage_paths(folder)
        storage.make()
        search = storage.search(NAME)
        with begin(search.record) as record:
            yield LiveSearch(record), TrackerProcess(storage, search, RunOptions(experiment=NAME, **options))


def _driver(results: int, *, on: bool) -> dict[str, float]:
    """Milliseconds of the driver a result: the record with its fsync, the state, and a look for news."""
    spent = []
    with _search(wandb="offline") as (live, trackers), ExitStack() as stack:
        if on:
            stack.enter_context(trackers)
            trackers.require(120.0)
        for trial, epoch in _epochs(live, results):
            started = time.perf_counter()
            _report(live, trial, epoch)
            trackers.news()
            spent.append(1000 * (time.perf_counter() - started))
            time.sleep(PAUSE_SECONDS)
        live.note("session_end", status="finished")
        if on:
            trackers.finish()
    percentiles = statistics.quantiles(spent, n=100)
    return {"results": len(spent), "p50": round(statistics.median(spent), 2), "p95": round(percentiles[94], 2)}


def _slowdown(pairs: int, turn: int) -> dict[str, Any]:
    """Seconds of each turn, and how much longer the slowed ones took than the one with trackers off beside them."""
    seconds: dict[str, list[float]] = {arm: [] for arm in _ARMS}
    starts: dict[str, list[float]] = {arm: [] for arm in _ARMS[1:]}
    shares: dict[str, list[float]] = {arm: [] for arm in _ARMS[1:]}
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder), f"sqlite:///{folder}/mlflow.db") as port:
        proxy = FaultProxy(port)
        for pair in range(pairs):
            for arm in _ARMS[pair % 3 :] + _ARMS[: pair % 3]:
                taken, start, worked = _turn(arm, turn, proxy)
                seconds[arm].append(round(taken, 3))
                if arm != "off":
                    starts[arm].append(round(start, 2))
                    shares[arm].append(round(worked / taken / len(os.sched_getaffinity(0)), 4))
        proxy.down()
    slower = {
        arm: round(statistics.median(mine / off - 1 for mine, off in zip(seconds[arm], seconds["off"], strict=True)), 4)
        for arm in _ARMS[1:]
    }
    return {
        "results_a_turn": turn,
        "seconds": seconds,
        "median_slowdown": slower,
        "median_share_of_the_cores": {arm: statistics.median(each) for arm, each in shares.items()},
        "core_seconds_to_start": {arm: statistics.median(each) for arm, each in starts.items()},
    }


def _turn(arm: str, results: int, proxy: FaultProxy) -> tuple[float, float, float]:
    """Seconds for so many results; seconds of a core that the trackers' process took to start, and meanwhile."""
    uri = f"http://127.0.0.1:{free_port()}" if arm == _ARMS[1] else proxy.uri
    with _search(wandb="off", tracking_uri=uri) as (live, trackers), ExitStack() as stack:
        epochs = _epochs(live, results + 1)
        _report(live, *next(epochs))
        if arm == "off":
            return _work(live, trackers, epochs, results), 0.0, 0.0
        stack.enter_context(trackers)
        states = live.record.path.parent / "trackers"

        def begun() -> bool:
            mlflow, optuna = (TrackerState.load(states, name) for name in ("mlflow", "optuna"))
            there = mlflow.error if arm == _ARMS[1] else mlflow.contact
            return there is not None and optuna.sequence > 0

        with proxy.having(Fault("latency", LATENCY_SECONDS)):
            until(begun, 120.0)
            process = trackers._process
            assert process is not None
            start = _core_seconds(process.pid)
            taken = _work(live, trackers, epochs, results)
            worked = _core_seconds(process.pid) - start
            process.kill()  # what is left to send is not what is measured
            process.wait()
    return taken, start, worked


def _work(live: LiveSearch, trackers: TrackerProcess, epochs: Iterator[tuple[str, int]], results: int) -> float:
    """Record epochs as the processes that work on them report them; seconds until all are there."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    done: Any = context.Queue()
    share = (done, results // cores, _blocks())
    workers = [context.Process(target=_worker, args=share, daemon=True) for _ in range(cores)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for _ in range(cores * (results // cores)):
        done.get()
        _report(live, *next(epochs))
        trackers.news()
    taken = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return taken


def _worker(done: Any, epochs: int, blocks: int) -> None:
    """Work as epochs do, the same amount each time."""
    block = bytes(1 << 20)
    for _ in range(epochs):
        for _ in range(blocks):
            hashlib.sha256(block).digest()
        done.put(None)


@cache
def _blocks() -> int:
    """Blocks to hash that take an epoch's time on this machine."""
    block = bytes(1 << 20)
    started = time.perf_counter()
    for _ in range(50):
        hashlib.sha256(block).digest()
    return max(1, round(50 * EPOCH_SECONDS / (time.perf_counter() - started)))


def _epochs(live: LiveSearch, results: int) -> Iterator[tuple[str, int]]:
    """So many epochs of trials, each suggested and started when its turn comes."""
    for number in range(results):
        trial, epoch = f"t{number // EPOCHS:04d}", number % EPOCHS + 1
        if epoch == 1:
            live.note("suggested", trial=trial, values={"detector.backbone": "resnet18"}, seed=number)
            live.note("started", trial=trial)
        yield trial, epoch


def _report(live: LiveSearch, trial: str, epoch: int) -> None:
    metrics = {name: 1.0 / (epoch + place) for place, name in enumerate(_metrics())}
    end = {"status": "finished", "stop_reason": "completed", "error": None, "by": "trial"} if epoch == EPOCHS else None
    live.note("result", trial=trial, epoch=epoch, metrics=metrics, end=end, hardware="cpu")


@cache
def _metrics() -> tuple[str, ...]:
    import search_spaces

    return tuple(metric_names(search_spaces.load(NAME).base))


def _core_seconds(process: int) -> float:
    """Seconds of a core that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    sys.exit(main())
