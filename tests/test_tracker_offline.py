"""W&B whose server is not there, goes away or comes back: files instead, and everything from the record in the end."""

import threading
import time

import pytest

from experiments.paths import storage_paths
from experiments.record import Record, read_record
from experiments.sync import main
from experiments.trackers import TrackerSettings, TrackerState
from experiments.trackers.projection import Projection
from experiments.trackers.wandb import wandb_run_id
from tests.fake_wandb import KEY, FakeWandb
from tests.mlflow_server import until
from tests.searches import COMPLETED, FAILED, begin, report, suggest
from tests.wandb_log import read_run


@pytest.fixture
def server(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", fake.proxy.uri)
    yield fake
    fake.close()


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


class Scene:
    def __init__(self, root):
        self.storage = storage_paths(root)
        self.storage.make()
        self.search = self.storage.search("backbone_ablation")

    def project(self, mode: str) -> Projection:
        settings = TrackerSettings(
            storage=self.storage, search=self.search, tracking_uri=self.storage.mlflow_uri, wandb=mode
        )
        projection = Projection("wandb", settings, _Gone(), last_pauses=[0.0])
        projection.run()
        return projection

    def state(self) -> TrackerState:
        return TrackerState.load(self.search.trackers, "wandb")

    def files(self):
        """Steps, stop reason and exit code of what lies in files, by trial."""
        runs = [read_run(folder) for folder in self.storage.wandb.glob("offline-run-*")]
        ids = [run["id"] for run in runs if "id" in run]
        assert len(set(ids)) == len(ids)
        return {
            run["config"]["trial_id"]: (
                [row["epoch"] for row in run["history"] if "map_50" in row],
                run["summary"].get("stop_reason"),
                run["exit_code"],
            )
            for run in runs
            if "id" in run
        }


class _Gone:
    def is_set(self):
        return True


def run_id(trial: str) -> str:
    return wandb_run_id("5ea2c4", trial)


def recorded(scene: Scene) -> None:
    """One trial at its end, one that goes on."""
    with begin(scene.search.record) as record:
        one, two = suggest(record, 0), suggest(record, 1, "resnet34")
        for epoch in (1, 2):
            report(record, one, epoch, 0.3, COMPLETED if epoch == 2 else None)
            report(record, two, epoch, 0.2)
        record.append("session_end", status="interrupted")


def test_online_runs_hold_what_was_recorded(server, scene):
    recorded(scene)
    assert scene.project("online").complete
    assert {run: sorted(rows) for run, rows in server.history.items()} == {
        run_id("t0000"): [1, 2],
        run_id("t0001"): [1, 2],
    }
    with Record(scene.search.record) as record:
        record.append("session", host="h", process=2)
        record.append("started", trial="t0001")
        report(record, "t0001", 3, 0.1, FAILED)
    assert scene.project("online").complete
    assert sorted(server.history[run_id("t0001")]) == [1, 2, 3]
    assert server.doubled == []
    assert server.exit_code == {run_id("t0000"): 0, run_id("t0001"): 1}
    assert server.summary[run_id("t0001")]["stop_reason"] == "error"
    assert scene.files() == {}


def test_unreachable_at_the_start_runs_are_files_until_they_can_be_sent(server, scene, capsys):
    recorded(scene)
    server.proxy.down()
    started = time.monotonic()
    projection = scene.project("online")
    assert time.monotonic() - started < 20
    assert projection.done and not projection.complete
    assert scene.state().error == (
        f"{server.proxy.uri} cannot be reached (connection refused); runs are written to {scene.storage.wandb}"
    )
    assert scene.state().local == ["t0000", "t0001"]
    assert scene.files() == {"t0000": ([1, 2], "completed", 0), "t0001": ([1, 2], "", 1)}
    with Record(scene.search.record) as record:
        record.append("session", host="h", process=2)
        report(record, "t0001", 3, 0.1, FAILED)
    server.proxy.up()
    assert main(["backbone_ablation", "--storage", str(scene.storage.root)]) == 0, "W&B as it was asked for before"
    assert f"wandb: 2 runs, 5 points, 0 files sent to {server.proxy.uri}\n" in capsys.readouterr().out
    assert server.steps() == {run_id("t0000"): [1, 2], run_id("t0001"): [1, 2, 3]}
    assert server.doubled == []
    assert server.exit_code == {run_id("t0000"): 0, run_id("t0001"): 1}
    assert scene.files() == {} and scene.state().local == []


def test_a_continued_trial_is_written_anew_and_whole(scene):
    with begin(scene.search.record) as record:
        one = suggest(record, 0)
        report(record, one, 1, 0.3, COMPLETED)
        record.append("session_end", status="finished")
    assert scene.project("offline").complete
    assert scene.files() == {"t0000": ([1], "completed", 0)}
    with Record(scene.search.record) as record:
        record.append("session", host="h", process=2)
        record.append("continued", trial=one, config={"training.epochs": 9}, after=1)
    assert scene.project("offline").complete
    assert scene.state().complete == {}
    assert scene.files() == {"t0000": ([1], "", 1)}
    with Record(scene.search.record) as record:
        record.append("started", trial=one)
        names = read_record(scene.search.record)[4]["metrics"]
        record.append("result", trial=one, epoch=2, metrics=names, end=COMPLETED, remarks=["a smaller micro-batch"])
    assert scene.project("offline").complete
    assert scene.files() == {"t0000": ([1, 2], "completed", 0)}
    (folder,) = scene.storage.wandb.glob("offline-run-*")
    run = read_run(folder)
    assert run["config"]["training.epochs"] == 9
    assert run["config"]["continued"] == {"training.epochs": 9}
    assert run["summary"]["remarks"] == "a smaller micro-batch"


def test_without_a_key_nothing_is_asked_of_the_server(server, scene, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", "/dev/null")
    recorded(scene)
    assert not scene.project("online").complete
    assert "nobody is logged in" in scene.state().error
    assert server.proxy.requests == []
    assert scene.files() == {"t0000": ([1, 2], "completed", 0), "t0001": ([1, 2], "", 1)}


def test_lost_in_the_middle_everything_is_in_files_and_sent_once_when_it_is_back(server, scene, monkeypatch):
    monkeypatch.setattr("experiments.trackers.wandb._FINISH_SECONDS", 2.0)
    monkeypatch.setattr("experiments.trackers.wandb._PROBE_EVERY_SECONDS", 0.3)
    monkeypatch.setattr("experiments.trackers.projection._PAUSES", (0.1,))
    settings = TrackerSettings(
        storage=scene.storage, search=scene.search, tracking_uri=scene.storage.mlflow_uri, wandb="online"
    )
    gone = threading.Event()
    with begin(scene.search.record) as record:
        one = suggest(record, 0)
        report(record, one, 1, 0.3)
        projection = Projection("wandb", settings, gone)
        projection.start()
        until(lambda: run_id(one) in server.config)
        server.proxy.down()
        report(record, one, 2, 0.4)
        until(lambda: "cannot be reached" in str(scene.state().error))
        report(record, one, 3, 0.5, COMPLETED)
        two = suggest(record, 1)
        report(record, two, 1, 0.1)
        until(lambda: scene.state().local == [one, two])
        until(lambda: scene.files().get(one) == ([1, 2, 3], "completed", 0))
        server.proxy.up()
        until(lambda: scene.state().local == [two])
        report(record, two, 2, 0.2, FAILED)
        until(lambda: scene.state().local == [])
        gone.set()
    projection.join(60)
    assert projection.complete
    assert server.steps() == {run_id(one): [1, 2, 3], run_id(two): [1, 2]}
    assert server.doubled == []
    assert server.exit_code == {run_id(one): 0, run_id(two): 1}
    assert scene.files() == {}
