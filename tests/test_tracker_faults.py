"""MLflow behind a server that fails in every way: nothing is lost, nothing is doubled, and every end is told right."""

import fcntl
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from experiments.options import RunOptions
from experiments.paths import storage_paths
from experiments.record import Record
from experiments.sync import Projection, main
from experiments.trackers import TrackerSettings, TrackerState
from experiments.trackers.mlflow import MlflowTracker
from experiments.tracking import TrackerProcess
from satdet.errors import TrackerError
from tests.fault_proxy import Fault, FaultProxy
from tests.mlflow_server import mlflow_server, postgresql, until, without_postgresql
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest
from tests.site import ROOT

EPOCHS = 4


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A real server, a proxy before it, and a client that goes past the proxy."""
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"sqlite:///{folder / 'mlflow.db'}") as port:
        proxy = FaultProxy(port)
        yield SimpleNamespace(proxy=proxy, client=MlflowClient(f"http://127.0.0.1:{port}"))
        proxy.down()


class Scene:
    """A recorded search and what MLflow has of it."""

    def __init__(self, root: Path, mlflow: SimpleNamespace, search_id: str) -> None:
        self.storage = storage_paths(root)
        self.storage.make()
        self.search = self.storage.search("backbone_ablation")
        self.proxy: FaultProxy = mlflow.proxy
        self.client: MlflowClient = mlflow.client
        self.search_id = search_id
        self.settings = TrackerSettings(
            storage=self.storage, search=self.search, tracking_uri=self.proxy.uri, wandb="off"
        )

    def begin(self) -> Record:
        return begin(self.search.record, search_id=self.search_id)

    def state(self) -> TrackerState:
        return TrackerState.load(self.search.trackers, "mlflow")

    def project(self) -> Projection:
        """Send all there is, in this process."""
        projection = Projection("mlflow", self.settings, _Gone(), last_pauses=[0.0] * 5)
        projection.run()
        return projection

    def all_runs(self):
        experiment = self.client.get_experiment_by_name("backbone_ablation")
        return self.client.search_runs([experiment.experiment_id], f"tags.search_id = '{self.search_id}'")

    def runs(self):
        """The parent, and the children by trial."""
        runs = self.all_runs()
        (parent,) = [run for run in runs if "trial_id" not in run.data.tags]
        children = {run.data.tags["trial_id"]: run for run in runs if "trial_id" in run.data.tags}
        assert len(children) == len(runs) - 1, Counter(run.data.tags.get("trial_id") for run in runs)
        assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children.values())
        return parent, children

    def runs_and_lost(self):
        """As `runs`, where some belong to no trial any more."""
        lost = "tags.`satdet.role` = 'lost'"
        experiment = self.client.get_experiment_by_name("backbone_ablation").experiment_id
        for run in self.client.search_runs([experiment], f"tags.search_id = '{self.search_id}' and {lost}"):
            self.client.set_tag(run.info.run_id, "search_id", "lost")
        return self.runs()

    def steps(self, run, metric: str = "map_50") -> list[int]:
        return [point.step for point in self.client.get_metric_history(run.info.run_id, metric)]


class _Gone:
    def is_set(self) -> bool:
        return True


def milliseconds(event) -> int:
    return round(event["time"] * 1000)


@pytest.fixture(scope="module")
def survived(mlflow, tmp_path_factory):
    """A search of five trials that was followed by the real process while one fault came after another."""
    scene = Scene(tmp_path_factory.mktemp("survived"), mlflow, "fa017")
    proxy = scene.proxy
    command = [sys.executable, "-m", "experiments.sync", scene.search.name, "--storage", str(scene.storage.root)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": proxy.uri}
    ends = {}
    with scene.begin() as record, (scene.storage.root / "sync.log").open("w") as log:
        follower = subprocess.Popen(
            [*command, "--wandb", "off", "--follow"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=log, stderr=log,
        )  # fmt: skip

        def through(*faults: Fault) -> None:
            """Until each fault has happened as often as it was to."""
            with proxy.having(*faults):
                until(lambda: all(fault.used == fault.times for fault in faults))

        def sent() -> None:
            until(lambda: scene.state().sequence == record.events[-1]["n"] and scene.state().error is None)

        def epochs(trial: str, first: int, last: int) -> None:
            for epoch in range(first, last + 1):
                report(record, trial, epoch, epoch / 10)

        try:
            first = suggest(record, 0)
            epochs(first, 1, 2)
            through(
                Fault("reset", where="POST /api/2.0/mlflow/experiments/create", times=1),
                Fault("reset", where="POST /api/2.0/mlflow/runs/create", times=1),
            )
            sent()
            second = suggest(record, 1, "resnet34")
            epochs(second, 1, 1)
            through(Fault("reset", where="runs/create", times=1), Fault("status", 429, where="runs/search", times=1))
            proxy.down()
            epochs(second, 2, EPOCHS)
            until(lambda: "cannot be reached" in str(scene.state().error))
            told = scene.state().error
            third = suggest(record, 2, "resnet50")
            report(record, third, 1, 0.1, FAILED)
            ends[third] = record.events[-1]
            proxy.up()
            sent()
            epochs(first, 3, 3)
            through(
                Fault("status", 500, where="runs/log-batch", times=1), Fault("truncate", where="runs/search", times=1)
            )
            sent()
            report(record, first, EPOCHS, 0.4, COMPLETED)
            ends[first] = record.events[-1]
            folder = scene.search.trial(first)
            folder.mkdir(parents=True)
            (folder / "model.pt").write_bytes(b"weights")
            (folder / "error.txt").write_text("none")
            through(
                Fault("reset", where="runs/log-batch", times=1),
                Fault("reset", where="POST /api/2.0/mlflow/runs/update", times=1),
                Fault("reset", where="PUT /api/2.0/mlflow-artifacts/artifacts", times=1),
            )
            fourth = suggest(record, 3, "resnet101")
            with proxy.having(Fault("hang", late=True)):
                epochs(fourth, 1, 2)
                until(lambda: "no answer in time" in str(scene.state().error))
            report(record, second, EPOCHS + 1, 0.3, BY_ASHA)
            ends[second] = record.events[-1]
            with proxy.having(Fault("latency", 0.3)):
                sent()
            record.append("session_end", status="interrupted")
            follower.stdin.close()
            until(lambda: follower.poll() is not None)
            assert follower.returncode == 0
        finally:
            follower.kill()
            follower.wait()
    yield scene, ends, told


def test_every_run_every_point_and_every_file_is_there_once(survived):
    scene, _, _ = survived
    _, children = scene.runs()
    epochs = {"t0000": EPOCHS, "t0001": EPOCHS + 1, "t0002": 1, "t0003": 2}
    assert children.keys() == epochs.keys()
    for trial, run in children.items():
        for metric in run.data.metrics:
            steps = scene.steps(run, metric)
            assert steps == ([epochs[trial]] if metric.startswith("best/") else list(range(1, epochs[trial] + 1)))
        assert run.data.params["seed"] == "0"
        assert run.data.params["detector.backbone"] == run.data.tags["cell"].removeprefix("backbone=")
        assert len(run.data.params) > 20
    files = {file.path for file in scene.client.list_artifacts(children["t0000"].info.run_id)}
    assert files == {"model.pt", "error.txt"}


def test_every_end_is_the_recorded_one(survived):
    scene, ends, _ = survived
    parent, children = scene.runs()
    told = {trial: (run.info.status, run.data.tags["stop_reason"]) for trial, run in children.items()}
    assert told == {
        "t0000": ("FINISHED", "completed"),
        "t0001": ("FINISHED", "asha"),
        "t0002": ("FAILED", "error"),
        "t0003": ("KILLED", ""),
    }
    assert {trial: children[trial].info.end_time for trial in ends} == {
        trial: milliseconds(event) for trial, event in ends.items()
    }
    assert parent.info.status == "KILLED"
    assert parent.info.end_time == children["t0003"].info.end_time > max(map(milliseconds, ends.values())) - 1


def test_an_outage_is_told_with_address_and_reason(survived):
    scene, _, told = survived
    reasons = ("connection refused", "connection reset by peer")  # as the proxy goes, the last request may be under way
    assert told in [f"{scene.proxy.uri} cannot be reached ({reason})" for reason in reasons]


def finished(record: Record, epochs: int = 1, trial: int = 0) -> str:
    """A trial that ran to its end."""
    name = suggest(record, trial)
    for epoch in range(1, epochs + 1):
        report(record, name, epoch, 0.5, COMPLETED if epoch == epochs else None)
    return name


def test_a_slow_server_gets_few_requests(mlflow, tmp_path):
    scene = Scene(tmp_path, mlflow, "510e")
    with scene.begin() as record:
        finished(record, epochs=200)
        record.append("session_end", status="finished")
    scene.proxy.requests.clear()
    with scene.proxy.having(Fault("latency", 0.1)):
        assert scene.project().complete
    _, children = scene.runs()
    assert scene.steps(children["t0000"]) == list(range(1, 201))
    points = 200 * len([name for name in children["t0000"].data.metrics if not name.startswith("best/")])
    assert sum("log-batch" in each for each in scene.proxy.requests) <= points / 1000 + 3
    assert len(scene.proxy.requests) < 25
    before = len(scene.proxy.requests)
    assert scene.project().complete
    assert not [each for each in scene.proxy.requests[before:] if "create" in each or "log-batch" in each]


def test_a_run_that_a_given_up_request_makes_in_the_end_is_taken_away(mlflow, tmp_path, monkeypatch):
    scene = Scene(tmp_path, mlflow, "1a7e")
    with scene.begin() as record:
        trial = finished(record)
        record.append("session_end", status="finished")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    hang, upload = Fault("hang", where="runs/create", times=1, late=True), Fault("reset", where="runs/update", times=1)
    register = MlflowTracker._register

    def deliver(*arguments):
        """The server does it now."""
        scene.proxy.set()
        until(lambda: len(scene.all_runs()) == 3)
        register(*arguments)

    monkeypatch.setattr(MlflowTracker, "_register", deliver)
    scene.proxy.set(hang, upload)
    assert scene.project().complete
    assert hang.used == upload.used == 1
    parent, children = scene.runs()
    assert (parent.info.status, scene.steps(children[trial])) == ("FINISHED", [1])


def test_a_point_that_is_sent_again_is_the_same_point(mlflow):
    """What makes it safe to send a batch again whose outcome is not known."""
    experiment = mlflow.client.create_experiment("again")
    run = mlflow.client.create_run(experiment).info.run_id
    batch = [Metric("map_50", 0.1 + epoch / 3, 1700000000123 + epoch, epoch) for epoch in range(5)]
    mlflow.client.log_batch(run, batch[:3])
    mlflow.client.log_batch(run, batch)
    assert [point.step for point in mlflow.client.get_metric_history(run, "map_50")] == [0, 1, 2, 3, 4]


def test_a_model_whose_registration_was_not_answered_is_registered_once(mlflow, tmp_path):
    scene = Scene(tmp_path, mlflow, "4e6")
    with scene.begin() as record:
        trial = finished(record)
        record.append("session_end", status="finished")
    scene.search.trial(trial).mkdir(parents=True)
    (scene.search.trial(trial) / "model.pt").write_bytes(b"weights")
    faults = [Fault("reset", where=f"{what}/create", times=1) for what in ("registered-models", "model-versions")]
    with scene.proxy.having(*faults):
        assert scene.project().complete
    assert [fault.used for fault in faults] == [1, 1]
    versions = scene.client.search_model_versions("name = 'backbone_ablation'")
    assert [version.tags["search_id"] for version in versions] == ["4e6"]
    assert scene.client.get_model_version_by_alias("backbone_ablation", "best").version == versions[0].version
    parent, _ = scene.runs()
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["registered_trial"] == trial


def test_a_trial_that_is_continued_is_the_same_run_until_its_new_end(mlflow, tmp_path):
    scene = Scene(tmp_path, mlflow, "c047")
    with scene.begin() as record:
        trial = finished(record, epochs=2)
        record.append("session_end", status="finished")
    assert scene.project().complete
    _, before = scene.runs()
    changed = {"training.epochs": 4}
    with Record(scene.search.record) as record:
        record.append("session", host="h", process=2)
        record.append("continued", trial=trial, config=changed, after=2)
        record.append("session_end", status="interrupted")
    assert scene.project().complete
    _, children = scene.runs()
    assert (children[trial].info.status, children[trial].data.tags["stop_reason"]) == ("KILLED", "")
    assert trial not in scene.state().complete
    with Record(scene.search.record) as record:
        record.append("session", host="h", process=3)
        record.append("started", trial=trial)
        report(record, trial, 3, 0.6)
        metrics = record.events[-1]["metrics"]
        record.append(
            "result", trial=trial, epoch=4, metrics=metrics, end=COMPLETED, remarks=["a checkpoint was damaged"]
        )
        end = record.events[-1]
        record.append("session_end", status="finished")
    assert scene.project().complete
    _, after = scene.runs()
    assert after[trial].info.run_id == before[trial].info.run_id
    assert scene.steps(after[trial]) == [1, 2, 3, 4]
    assert (after[trial].info.status, after[trial].info.end_time) == ("FINISHED", milliseconds(end))
    assert after[trial].data.tags["stop_reason"] == "completed"
    assert json.loads(after[trial].data.tags["continued"]) == changed
    assert after[trial].data.tags["remarks"] == "a checkpoint was damaged"
    assert after[trial].data.params["training.epochs"] == before[trial].data.params["training.epochs"]


def test_lines_that_a_record_has_lost_are_neither_sent_twice_nor_mistaken(mlflow, tmp_path):
    scene = Scene(tmp_path, mlflow, "1057")
    with scene.begin() as record:
        trial = suggest(record, 0)
        report(record, trial, 1, 0.1)
        kept = scene.search.record.stat().st_size
        report(record, trial, 2, 0.2)
        report(record, trial, 3, 0.3, COMPLETED)
        finished(record, trial=1)
        finished(record, trial=2)
    assert scene.project().complete
    _, before = scene.runs()
    os.truncate(scene.search.record, kept)
    with Record(scene.search.record) as record:
        record.append("session", host="h", process=2)
        record.append("started", trial=trial)
        report(record, trial, 2, 0.2)
        again = suggest(record, 1)
        report(record, again, 1, 0.5)
        other = suggest(record, 2, "resnet101")
        report(record, other, 1, 0.4)
    assert scene.project().complete
    _, after = scene.runs_and_lost()
    assert {name: run.info.run_id == before[name].info.run_id for name, run in after.items()} == {
        "t0000": True,
        "t0001": True,
        "t0002": False,
    }
    assert scene.steps(after[trial]) == [1, 2, 3]
    assert scene.steps(after[again]) == [1]
    assert {run.info.status for run in after.values()} == {"KILLED"}
    lost = scene.client.get_run(before["t0002"].info.run_id)
    assert (lost.data.tags["lost_trial_id"], lost.data.tags["satdet.role"]) == ("t0002", "lost")


def test_the_user_is_told_once_when_a_server_is_lost_and_once_when_it_is_back(mlflow, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.tracking._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("experiments.tracking._BEGIN_AGAIN_SECONDS", 0.0)
    scene = Scene(tmp_path, mlflow, "7e11")
    address = scene.proxy.uri.replace("//", "//***@")
    options = RunOptions(
        experiment="backbone_ablation", wandb="off", tracking_uri=scene.proxy.uri.replace("//", "//anna:sesame@")
    )
    said: list[str] = []

    def hear(end: str) -> None:
        until(lambda: said.extend(process.news()) or any(line.endswith(end) for line in said))

    scene.proxy.down()
    with scene.begin() as record, TrackerProcess(scene.storage, scene.search, options) as process:
        trial = suggest(record, 0)
        report(record, trial, 1, 0.1)
        hear("recording")
        with pytest.raises(TrackerError, match=r"mlflow: http://\*\*\*@127.0.0.1:\d+ cannot be reached .*refused"):
            process.require(0.0)
        scene.proxy.up()
        hear("missed")
        process.require(0.0)
        assert said == [
            f"mlflow: {address} cannot be reached (connection refused); the search goes on, recording",
            "mlflow: back; sending what it missed",
        ]
        process._process.kill()
        hear("begun again")
        report(record, trial, 2, 0.2)
        until(lambda: scene.state().sequence == record.events[-1]["n"])
        monkeypatch.setattr("experiments.tracking._DEADLINE_SECONDS", 1.0)
        with scene.proxy.having(Fault("hang")):
            record.append("session_end", status="interrupted")
            process.finish()
    said_last = capsys.readouterr().err
    assert said_last.count("\n") == 1
    command = f"python -m experiments.sync backbone_ablation --storage {scene.storage.root} --wandb off"
    assert said_last.endswith(f"send the rest with: {command} (with MLFLOW_TRACKING_URI as for this search)\n")
    files = [file for file in scene.search.root.rglob("*") if file.is_file()]
    assert {"mlflow.json", "sync.log"} <= {file.name for file in files}
    assert not [file for file in files if "sesame" in file.read_text() or "anna" in file.read_text()]
    assert scene.project().complete
    _, children = scene.runs()
    assert scene.steps(children[trial]) == [1, 2]


def test_one_process_at_a_time_sends_a_search(mlflow, tmp_path, capsys):
    scene = Scene(tmp_path, mlflow, "10c4")
    scene.begin().close()
    scene.search.trackers.mkdir()
    with (scene.search.trackers / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 12 on elsewhere")
        lock.flush()
        assert main(["backbone_ablation", "--storage", str(scene.storage.root), "--wandb", "off"]) == 2
    assert "process 12 on elsewhere is sending it already" in capsys.readouterr().err
    assert main(["backbone_ablation", "--storage", str(scene.storage.root), "--wandb", "off"]) == 0


@pytest.mark.skipif(without_postgresql() is not None, reason=str(without_postgresql()))
def test_a_server_with_postgresql_behind_it_holds_the_same(tmp_path):
    with postgresql() as store, mlflow_server(tmp_path, store) as port:
        proxy = FaultProxy(port)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        scene = Scene(tmp_path / "runs", SimpleNamespace(proxy=proxy, client=client), "9057")
        with scene.begin() as record:
            trial = finished(record, epochs=3)
            open_trial = suggest(record, 1)
            report(record, open_trial, 1, 0.1 + 0.2)
        with proxy.having(
            *(Fault("reset", where=f"runs/{what}", times=1) for what in ("create", "log-batch", "update"))
        ):
            assert scene.project().complete
        with Record(scene.search.record) as record:
            record.append("session", host="h", process=2)
            report(record, open_trial, 2, 0.3, COMPLETED)
            record.append("session_end", status="finished")
        assert scene.project().complete
        parent, children = scene.runs()
        assert {name: scene.steps(run) for name, run in children.items()} == {trial: [1, 2, 3], open_trial: [1, 2]}
        assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
        run = children[open_trial].info.run_id
        point = client.get_metric_history(run, "map_50")[0]
        client.log_batch(run, [Metric("map_50", point.value, point.timestamp, point.step)])
        assert scene.steps(children[open_trial]) == [1, 2]
        proxy.down()
