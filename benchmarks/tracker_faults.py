"""MLflow behind random faults: is anything of a search lost or doubled in it?

    python -m benchmarks.tracker_faults [--seed 1] [--trials 240] [--seconds 300] [--postgresql]

A search of made-up trials is recorded while ``experiments.sync`` follows it into a real MLflow server, through a proxy
that refuses, hangs, is slow, answers with errors, cuts answers short, and resets connections after the server has done
what it was asked. When the search has ended the server is well again, and what it has is held against the record.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from experiments.paths import SearchPaths, storage_paths
from experiments.record import Record, read_record
from experiments.state import SearchState, TrialState
from tests.fault_proxy import Fault, FaultProxy
from tests.mlflow_server import mlflow_server, postgresql
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest

NAME = "backbone_ablation"
EPOCHS = 6
AT_ONCE = 8
_ENDS = (COMPLETED, COMPLETED, BY_ASHA, FAILED)
_CREATING = ("runs/create", "experiments/create", "registered-models/create", "model-versions/create")
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


@dataclass
class Weather:
    """Random faults of a proxy, one after another, and how often each has struck."""

    proxy: FaultProxy
    random: random.Random
    struck: Counter[str] = field(default_factory=Counter)

    def blow(self, over: threading.Event) -> None:
        """Have faults until `over` is set, then none."""
        while not over.wait(self.random.uniform(0.1, 0.8)):
            if self.random.random() < 0.15:
                self.proxy.down()
                over.wait(self.random.uniform(0.5, 4.0))
                self.proxy.up()
                self.struck["refused connections"] += 1
                continue
            name, fault, seconds = self._draw()
            until = time.monotonic() + seconds
            with self.proxy.having(fault):
                while time.monotonic() < until and fault.used != fault.times and not over.wait(0.1):
                    pass
            self.struck[name] += fault.used
        self.proxy.up()
        self.proxy.set()

    def _draw(self) -> tuple[str, Fault, float]:
        where = self.random.choice(("", "", "", "runs/", "log-batch", "runs/update", "runs/create", "runs/create"))
        times = self.random.randint(1, 3)
        spell = self.random.uniform(1.0, 4.0)
        return self.random.choice(
            [
                ("reset after it was done", Fault("reset", where=where, times=times), spell),
                ("reset after it was done", Fault("reset", where=self.random.choice(_CREATING), times=1), spell),
                ("answer cut short", Fault("truncate", where=where, times=times), spell),
                ("no answer, not done", Fault("hang", where=where), self.random.uniform(4.0, 11.0)),
                ("no answer, done later", Fault("hang", where=where, late=True), self.random.uniform(9.0, 12.0)),
                ("answer after 5 s", Fault("latency", 5.0, where=where), self.random.uniform(4.0, 12.0)),
                *(
                    (f"status {status}", Fault("status", status, where=where, times=times), spell)
                    for status in (429, 500, 503)
                ),
            ]
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if nothing was lost, doubled or told wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tracker_faults", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, default=240)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the search records, under faults")
    parser.add_argument("--postgresql", action="store_true", help="behind the server, instead of SQLite")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tracker_faults.json"))
    options = parser.parse_args(arguments)
    store = "postgresql" if options.postgresql else "sqlite"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        uri = stack.enter_context(postgresql()) if options.postgresql else f"sqlite:///{folder}/mlflow.db"
        port = stack.enter_context(mlflow_server(Path(folder), uri))
        found = _run(Path(folder) / "runs", port, options.seed, options.trials, options.seconds)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    results[store] = {"seed": options.seed, **found, **machine()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(json.dumps({store: results[store]}, indent=1) + "\n")
    return 1 if any(found["wrong"].values()) else 0


def _run(root: Path, port: int, seed: int, trials: int, seconds: float) -> dict[str, Any]:
    storage = storage_paths(root)
    storage.make()
    search = storage.search(NAME)
    proxy = FaultProxy(port)
    weather, over = Weather(proxy, random.Random(seed)), threading.Event()
    command = [sys.executable, "-m", "experiments.sync", NAME, "--storage", str(root), "--wandb", "off"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": proxy.uri}
    with begin(search.record, search_id=f"{seed:06x}") as record, (root / "sync.log").open("wb") as log:
        follower = subprocess.Popen(
            [*command, "--follow"], env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        blowing = threading.Thread(target=weather.blow, args=(over,))
        blowing.start()
        started = time.monotonic()
        _search(record, search, random.Random(seed + 1), trials, seconds)
        record.append("session_end", status="finished")
        recorded = time.monotonic() - started
        over.set()
        blowing.join()
        assert follower.stdin is not None
        follower.stdin.close()
        status = follower.wait(600)
        sent = time.monotonic() - started - recorded
    tries = 1
    while status != 0 and tries < 5:
        status = subprocess.run(command, env=environment, check=False, capture_output=True).returncode
        tries += 1
    requests = len(proxy.requests)
    proxy.down()
    state = SearchState.of(read_record(search.record))
    return {
        "trials": len(state.trials),
        "epochs": sum(len(trial.results) for trial in state.trials.values()),
        "seconds_recorded": round(recorded, 1),
        "seconds_to_send_the_rest": round(sent, 1),
        "syncs": tries,
        "requests": requests,
        "faults": dict(sorted(weather.struck.items())),
        "wrong": dict(_wrong(state, search, port)),
    }


def _search(record: Record, search: SearchPaths, chance: random.Random, trials: int, seconds: float) -> None:
    """Record `trials` trials, a few at a time, over so many `seconds`."""
    running: dict[str, tuple[int, int]] = {}
    begun, pause = 0, seconds / (trials * EPOCHS)
    while begun < trials or running:
        if begun < trials and len(running) < AT_ONCE:
            trial = suggest(record, begun, chance.choice(("resnet18", "resnet34", "resnet50")), seed=begun)
            running[trial] = (0, chance.randint(2, EPOCHS))
            begun += 1
            continue
        trial = chance.choice(sorted(running))
        epoch, last = running[trial]
        end = chance.choice(_ENDS) if epoch + 1 == last else None
        if end is not None:
            folder = search.trial(trial)
            folder.mkdir(parents=True)
            (folder / ("error.txt" if end is FAILED else "model.pt")).write_text(trial)
        report(record, trial, epoch + 1, chance.random(), end)
        running[trial] = (epoch + 1, last)
        if end is not None:
            del running[trial]
        time.sleep(pause)


def _wrong(state: SearchState, search: SearchPaths, port: int) -> Iterator[tuple[str, int]]:
    """How many of each thing are not as the record has them."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"http://127.0.0.1:{port}")
    experiments = [each for each in client.search_experiments() if each.name == NAME]
    runs = client.search_runs([each.experiment_id for each in experiments], max_results=5000)
    by_trial = Counter(run.data.tags.get("trial_id", "") for run in runs)
    yield "experiments doubled", len(experiments) - 1
    yield "runs lost", sum(trial not in by_trial for trial in ("", *state.trials))
    yield "runs doubled", sum(count - 1 for count in by_trial.values())
    wrong: Counter[str] = Counter()
    for run in runs:
        if trial := state.trials.get(run.data.tags.get("trial_id", "")):
            wrong += _wrong_of(trial, run, client)
    for kind in ("points lost", "points doubled", "values", "params", "ends", "files"):
        yield f"{kind}" if kind.startswith("points") else f"{kind} wrong", wrong[kind]
    (parent,) = [run for run in runs if "trial_id" not in run.data.tags] or [None]
    yield "parent's end wrong", int(parent is None or parent.info.status != "FINISHED")
    yield "parent's end time wrong", int(parent is None or parent.info.end_time != round(state.updated_at * 1000))
    versions = client.search_model_versions(f"name = '{NAME}'")
    expected = (search.trial(state.ranking()[0].trial_id) / "model.pt").exists()
    yield "versions lost or doubled", abs(len(versions) - int(expected))


def _wrong_of(trial: TrialState, run: Any, client: Any) -> Counter[str]:
    wrong: Counter[str] = Counter()
    for name in trial.last:
        points = client.get_metric_history(run.info.run_id, name)
        steps = Counter(point.step for point in points)
        wrong["points lost"] += sum(epoch not in steps for epoch, _, _ in trial.results)
        wrong["points doubled"] += sum(count - 1 for count in steps.values())
        values = {(point.step, point.value, point.timestamp) for point in points}
        wrong["values"] += len({(step, each[name], round(at * 1000)) for step, at, each in trial.results} - values)
    params = {path: str(value) for path, value in {**trial.config, "seed": trial.seed}.items()}
    wrong["params"] += params != run.data.params
    end = (_STATUS[trial.status], round((trial.ended_at or 0) * 1000), trial.stop_reason)
    wrong["ends"] += (run.info.status, run.info.end_time, run.data.tags.get("stop_reason")) != end
    files = {file.path for file in client.list_artifacts(run.info.run_id)} - {"registered_model"}
    wrong["files"] += files != {"error.txt" if trial.status == "failed" else "model.pt"}
    return wrong


if __name__ == "__main__":
    sys.exit(main())
