"""Trackers: whatever is sent again, interrupted or late, each of them holds each trial once and each point once."""

import threading
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from optuna import load_study
from optuna.storages import RDBStorage
from PIL import Image

from experiments.paths import storage_paths
from experiments.record import Record, read_record
from experiments.state import SearchState
from experiments.summary import summarise, write_summary
from experiments.sync import Projection, main, synchronise
from experiments.trackers import TRACKERS, TrackerSettings, TrackerState, tracker_states
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest
from tests.tracked import Script, Tracked, evaluation, training
from tests.wandb_log import read_run


class Site:
    def __init__(self, root: Path) -> None:
        self.storage = storage_paths(root)
        self.storage.make()
        self.search = self.storage.search("backbone_ablation")
        self.settings = TrackerSettings(
            storage=self.storage, search=self.search, tracking_uri=self.storage.mlflow_uri, wandb="offline"
        )

    def send(self) -> bool:
        return all(projection.complete for projection in synchronise(self.settings, None))

    def mlflow(self):
        """The parent and the children by trial."""
        client = MlflowClient(self.storage.mlflow_uri)
        experiment = client.get_experiment_by_name("backbone_ablation")
        runs = client.search_runs([experiment.experiment_id])
        (parent,) = [run for run in runs if "trial_id" not in run.data.tags]
        children = {run.data.tags["trial_id"]: run for run in runs if "trial_id" in run.data.tags}
        assert len(children) == len(runs) - 1
        points = {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "map_50")]
            for name, run in children.items()
        }
        return parent, children, points

    def wandb(self):
        runs = [read_run(folder) for folder in self.storage.wandb.glob("offline-run-*")]
        assert len({run["id"] for run in runs}) == len(runs)
        return {
            run["config"]["trial_id"]: (
                [(row["epoch"], row["map_50"]) for row in run["history"] if "map_50" in row],
                run["summary"].get("stop_reason"),
                run["exit_code"],
            )
            for run in runs
        }

    def optuna(self, study_name: str = "backbone_ablation"):
        """The study's trials by ours."""
        storage = RDBStorage(self.storage.optuna_uri)
        try:
            study = load_study(study_name=study_name, storage=storage)
            trials = study.trials
            assert [trial.user_attrs["trial_id"] for trial in trials] == [f"t{at:04d}" for at in range(len(trials))]
            return {trial.user_attrs["trial_id"]: trial for trial in trials}
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def points(self, name: str):
        """The objective by epoch of each trial, as a tracker has it."""
        if name == "mlflow":
            return self.mlflow()[2]
        if name == "wandb":
            return {trial: points for trial, (points, _, _) in self.wandb().items()}
        return {trial_id: list(trial.intermediate_values.items()) for trial_id, trial in self.optuna().items()}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A search sent while interrupted, gone on with, and sent again, twice."""
    site = Site(tmp_path_factory.mktemp("site"))
    with begin(site.search.record) as record:
        one, two = suggest(record, 0), suggest(record, 1, "resnet34")
        report(record, one, 1, 0.3)
        report(record, two, 1, 0.2)
        report(record, one, 2, 0.4, COMPLETED)
        record.append("session_end", status="interrupted")
    folder = site.search.trial("t0000")
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"weights")
    Image.new("L", (8, 8)).save(folder / "detections.png")
    assert site.send()
    halfway = site.mlflow(), site.wandb()
    with Record(site.search.record) as record:
        record.append("session", host="h", process=2)
        record.append("started", trial=two)
        report(record, two, 2, 0.25)
        report(record, two, 3, 0.35, BY_ASHA)
        three = suggest(record, 2, "resnet50")
        report(record, three, 1, 0.1, FAILED)
        record.append("session_end", status="finished")
    assert site.send()
    assert site.send()
    return site, halfway


def test_interrupted_search_is_shown_as_such(interrupted):
    _, ((parent, children, points), runs) = interrupted
    assert parent.info.status == "KILLED"
    assert {name: run.info.status for name, run in children.items()} == {"t0000": "FINISHED", "t0001": "KILLED"}
    assert points == {"t0000": [(1, 0.3), (2, 0.4)], "t0001": [(1, 0.2)]}
    assert runs["t0000"] == ([(1, 0.3), (2, 0.4)], "completed", 0)
    assert runs["t0001"] == ([(1, 0.2)], "", 1)


def test_after_the_resume_every_run_is_the_same_and_every_point_once(interrupted):
    site, ((parent_before, before, _), _) = interrupted
    parent, children, points = site.mlflow()
    assert parent.info.run_id == parent_before.info.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["best_trial"] == "t0000"
    for name, run in before.items():
        assert children[name].info.run_id == run.info.run_id
        assert children[name].info.start_time == run.info.start_time
    assert points == {
        "t0000": [(1, 0.3), (2, 0.4)],
        "t0001": [(1, 0.2), (2, 0.25), (3, 0.35)],
        "t0002": [(1, 0.1)],
    }
    assert {name: (run.info.status, run.data.tags["stop_reason"]) for name, run in children.items()} == {
        "t0000": ("FINISHED", "completed"),
        "t0001": ("FINISHED", "asha"),
        "t0002": ("FAILED", "error"),
    }
    assert children["t0002"].data.tags["error"] == "ValueError: bad"
    assert children["t0001"].data.metrics["best/map_50"] == 0.35


def test_wandb_runs_are_whole_after_the_resume(interrupted):
    site, _ = interrupted
    assert site.wandb() == {
        "t0000": ([(1, 0.3), (2, 0.4)], "completed", 0),
        "t0001": ([(1, 0.2), (2, 0.25), (3, 0.35)], "asha", 0),
        "t0002": ([(1, 0.1)], "error", 1),
    }


def test_files_of_a_trial_become_artifacts(interrupted):
    site, _ = interrupted
    _, children, _ = site.mlflow()
    client = MlflowClient(site.storage.mlflow_uri)
    names = {artifact.path for artifact in client.list_artifacts(children["t0000"].info.run_id)}
    assert names == {"model.pt", "detections.png", "registered_model"}  # the last, as it is the best trial


def test_summary_knows_the_runs(interrupted):
    site, _ = interrupted
    summary = write_summary(site.search)
    _, children, _ = site.mlflow()
    assert {trial["id"]: trial["mlflow_run_id"] for trial in summary["trials"]} == {
        name: run.info.run_id for name, run in children.items()
    }
    assert [trial["status"] for trial in summary["trials"]] == ["finished", "stopped", "failed"]
    assert all(trial["wandb_run_id"] for trial in summary["trials"])
    assert summarise(site.search) == summary


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker_that_fails_for_a_while_is_begun_again_and_misses_nothing(name, tmp_path, monkeypatch):
    site = Site(tmp_path)
    with begin(site.search.record) as record:
        trial = suggest(record, 0)
        report(record, trial, 1, 0.3)
        report(record, trial, 2, 0.4, COMPLETED)
        record.append("session_end", status="finished")
    monkeypatch.setattr("experiments.trackers.projection._PAUSES", (0.01,))
    apply, failures = TRACKERS[name].apply, iter([3, 5])
    left = [next(failures)]

    def failing(self, event, search):
        if left and event["n"] == left[0]:
            left[:] = [following] if (following := next(failures, None)) else []
            raise ConnectionError("server gone")
        apply(self, event, search)

    monkeypatch.setattr(TRACKERS[name], "apply", failing)
    gone = threading.Event()
    projection = Projection(name, site.settings, gone)
    projection.start()
    while projection.state.sequence < 6:
        assert projection.is_alive()
        gone.wait(0.05)
    gone.set()
    projection.join(60)
    assert projection.done and projection.state.error is None
    assert site.points(name) == {"t0000": [(1, 0.3), (2, 0.4)]}


def test_server_that_stays_away_is_told_and_its_rest_can_be_sent_later(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.trackers.projection.time.sleep", lambda seconds: None)
    site = Site(tmp_path)
    with begin(site.search.record) as record:
        report(record, suggest(record, 0), 1, 0.3, COMPLETED)
        record.append("session_end", status="finished")
    command = ["backbone_ablation", "--storage", str(site.storage.root), "--wandb", "off"]
    secret = "http://anna:s%C3%A9same@127.0.0.1:9"
    assert main([*command, "--tracking-uri", secret]) == 1
    said = capsys.readouterr().out
    address = "http://***@127.0.0.1:9"
    assert f"mlflow: 0 runs, 0 points, 0 files sent to {address}; left: t0000 ({address} cannot be reached" in said
    assert "connection refused" in said
    states = tracker_states(site.search)
    assert states["mlflow"].error and states["optuna"].error is None
    assert main(command) == 1, "it goes to where it was sent before"
    assert "its credentials are not kept" in capsys.readouterr().out
    assert not [file for file in site.search.root.rglob("*") if file.is_file() and "same" in file.read_text()]
    assert main([*command, "--tracking-uri", site.storage.mlflow_uri]) == 0
    assert f"mlflow: 1 run, 1 point, 0 files sent to {site.storage.mlflow_uri}\n" in capsys.readouterr().out
    assert site.mlflow()[2] == {"t0000": [(1, 0.3)]}
    assert main(command) == 0
    assert f"mlflow: 0 runs, 0 points, 0 files sent to {site.storage.mlflow_uri}\n" in capsys.readouterr().out


def test_sync_of_no_search_is_one_line(tmp_path, capsys):
    site = Site(tmp_path)
    begin(site.search.record).close()
    assert main(["nothing", "--storage", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f"searches in {tmp_path}: backbone_ablation\n")


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory) -> Path:
    """MLflow's database without anything in it, which takes seconds to make."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def at_once(tmp_path_factory, empty_mlflow):
    """What a tracker shows of the training search that it was sent as a whole; each is made when first asked for."""
    shown = {}

    def of(name: str, script: Script):
        key = (name, script[0][1]["declaration"]["name"])
        if key not in shown:
            tracked = Tracked(tmp_path_factory.mktemp(name), script, empty_mlflow)
            tracked.record()
            assert tracked.send(name).done
            shown[key] = tracked.shown(name)
        return shown[key]

    return of


@pytest.mark.parametrize("name", TRACKERS)
def test_sent_in_pieces_and_twice_a_search_is_shown_as_if_sent_at_once(name, tmp_path, at_once, empty_mlflow):
    tracked = Tracked(tmp_path, training(), empty_mlflow)
    for count in (17, 27, None):
        tracked.record(count)
        assert tracked.send(name).done
    assert tracked.send(name).done
    assert tracked.shown(name) == at_once(name, training())


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker_that_dies_in_the_middle_goes_on_to_the_same_end(name, tmp_path, monkeypatch, at_once, empty_mlflow):
    tracked = Tracked(tmp_path, training(), empty_mlflow)
    tracked.record(20)
    assert tracked.send(name).done
    tracked.record()
    apply, deaths = TRACKERS[name].apply, [26, 31, 18]

    def dying(self, event, search):
        apply(self, event, search)
        if deaths and event["n"] == deaths[-1]:
            deaths.pop()
            raise ConnectionError("gone after it was sent")

    monkeypatch.setattr(TRACKERS[name], "apply", dying)
    sent = [tracked.send(name).done for _ in range(4)]
    assert sent == [False, False, False, True]
    assert tracked.shown(name) == at_once(name, training())


@pytest.mark.parametrize("name", TRACKERS)
def test_every_trial_tells_why_it_was_suggested_and_why_it_stopped(name, at_once):
    shown = at_once(name, training())
    key, place = {"mlflow": ("tags", "tags"), "wandb": ("config", "summary"), "optuna": ("attributes",) * 2}[name]
    assert shown["t0000"][key]["suggested_by"] == "declared"
    assert "known" in str(shown["t0003"][key]["suggested"])
    told = {trial: (each[place].get("stop_reason"), each[place].get("stop_detail")) for trial, each in shown.items()}
    assert told["t0002"] == told["t0004"] == ("hyperband", "rank 2 of 2")
    assert told["t0003"] == ("slow_speed_global", "3 of 9 images/s")
    assert shown["t0003"][place]["hardware"] == "cpu"


def test_mlflow_shows_ranks_at_rungs_and_keeps_what_waits_open_until_the_search_rests(at_once):
    shown = at_once("mlflow", training())
    assert {
        trial: each["points"].get("rung_rank") for trial, each in shown.items() if "rung_rank" in each["points"]
    } == {
        "t0001": [(2, 1.0)],
        "t0002": [(2, 2.0)],
        "t0004": [(2, 2.0)],
    }
    assert shown["t0002"]["points"]["rung_threshold"] == [(2, 0.3)]
    assert {trial: each["status"] for trial, each in shown.items()} == {
        **dict.fromkeys(("t0000", "t0001", "t0002", "t0003", "t0004"), "FINISHED"),
        "t0005": "FAILED",
        "t0006": "KILLED",
    }


def test_wandb_shows_ranks_at_rungs(at_once):
    shown = at_once("wandb", training())
    ranks = {trial: [row for row in each["rows"] if "rung_rank" in row] for trial, each in shown.items()}
    found = {trial: [(row["epoch"], row["rung_rank"]) for row in rows] for trial, rows in ranks.items() if rows}
    assert found == {"t0001": [(2, 1.0)], "t0002": [(2, 2.0)], "t0004": [(2, 2.0)]}


def test_a_paused_run_is_open_again_once_its_search_goes_on(tmp_path, empty_mlflow):
    tracked = Tracked(tmp_path, training(), empty_mlflow)
    tracked.record(21)
    assert tracked.send("mlflow").done
    assert tracked.shown("mlflow")["t0001"]["status"] == "KILLED"
    tracked.record(22)
    state = SearchState()
    tracker = TRACKERS["mlflow"](tracked.settings, TrackerState.load(tracked.search.trackers, "mlflow"))
    for event in read_record(tracked.search.record):
        state.apply(event)
        tracker.apply(event, state)
    tracker.settle(final=False)
    assert state.trials["t0001"].status == "paused"
    assert tracked.shown("mlflow")["t0001"]["status"] == "RUNNING"


@pytest.mark.parametrize("name", TRACKERS)
def test_evaluation_is_shown_without_a_loss_and_registers_no_model(name, at_once, tmp_path, empty_mlflow, monkeypatch):
    monkeypatch.setattr("experiments.trackers.mlflow.register_best", None)
    tracked = Tracked(tmp_path, evaluation(), empty_mlflow)
    for trial in ("t0000", "t0001"):
        tracked.search.trial(trial).mkdir(parents=True)
        (tracked.search.trial(trial) / "model.pt").write_bytes(b"not of this search")
    tracked.record()
    assert tracked.send(name).done
    shown = tracked.shown(name)
    assert all("loss" not in points for each in shown.values() for points in each.get("rows", [each.get("points", ())]))
    states = [{"mlflow": "status", "wandb": "status", "optuna": "state"}[name]]
    found = [each[key] for _, each in sorted(shown.items()) for key in states]
    failed = {"mlflow": "FAILED", "wandb": 1, "optuna": "FAIL"}[name]
    assert found[0] == found[1] != failed and found[2] == failed


def test_the_search_s_run_tells_searcher_and_scheduler(tmp_path, empty_mlflow):
    tracked = Tracked(tmp_path, evaluation(), empty_mlflow)
    tracked.record(2)
    assert tracked.send("mlflow").done
    client = MlflowClient(tracked.storage.mlflow_uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("nms_grid").experiment_id])
    assert (parent.data.tags["searcher"], parent.data.tags["scheduler"]) == ("Grid", "RunAll")


def test_mlflow_knows_the_data_of_each_trial_and_its_values_by_name(tmp_path, empty_mlflow):
    site = Site(tmp_path)
    with begin(site.search.record) as record:
        report(record, suggest(record, 0), 1, 0.3, COMPLETED)
    assert site.send() and site.send()
    (run,) = site.mlflow()[1].values()
    assert run.data.tags["backbone"] == "resnet18"
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("backbone_ablation frames", "da7a")
    assert given.dataset.source == '{"uri": "frames"}'
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
