"""A search that was interrupted anywhere decides on as it would have without the interruption."""

import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.interrupt import Interrupt
from experiments.live import LiveSearch
from experiments.record import Record, read_record
from experiments.resources import TrialResources
from experiments.schedulers import build_scheduler
from experiments.schedulers.ray_scheduler import DecidingScheduler, own_id
from experiments.searchers import build_searcher
from experiments.stopping import build_epoch_stoppers
from experiments.trial_run import TrialOrder
from experiments.tuning import RecordedSearch, RecordingCallback
from satdet.config import metric_names, unflatten
from search_spaces.declare import (
    ASHA,
    BOHB,
    CMAES,
    NSGA2,
    PASHA,
    REPORT_PROTOCOL,
    TPE,
    Choice,
    Divergence,
    Experiment,
    Grid,
    Hyperband,
    HyperbandStopping,
    IntUniform,
    LogUniform,
    Maximise,
    MedianStopping,
    Minimise,
    Plateau,
    Random,
    RunAll,
    SearchSpace,
    Target,
    smoke_of,
)

EPOCHS = 9
MAP_50 = Maximise("map_50")
CONCURRENCY = 3
SPACE = SearchSpace({"optimizer.learning_rate": LogUniform(1e-5, 1e-1), "training.batch_size": IntUniform(2, 9)})
CELLS = SearchSpace({"optimizer.learning_rate": Choice(1e-4, 1e-3, 1e-2), "training.batch_size": Choice(2, 4, 8)})


def declare(searcher, scheduler=None, *, stoppers=(), space=SPACE, objective=MAP_50, trials=14, **more):
    return Experiment(
        name="made_up", question="?", base=REPORT_PROTOCOL, space=space, objective=objective, searcher=searcher,
        scheduler=scheduler or RunAll(), stoppers=stoppers, trials=trials if searcher.sampled else None,
        seeds=more.pop("seeds", 1), smoke=smoke_of(), **more,
    )  # fmt: skip


SEARCHES = {
    "random, all": declare(Random()),
    "random, ASHA": declare(Random(), ASHA(grace_epochs=1, reduction=3), trials=20),
    "grid with seeds, ASHA": declare(Grid(), ASHA(grace_epochs=2, reduction=2), space=CELLS, seeds=2),
    "random, Hyperband": declare(Random(), Hyperband(reduction=3, min_epochs=1), trials=19),
    "random, W&B's Hyperband": declare(Random(), HyperbandStopping(rungs=(2, 6), reduction=2)),
    "random, median": declare(Random(), MedianStopping(grace_epochs=2, min_trials=2)),
    "random, PASHA": declare(Random(), PASHA(grace_epochs=1, reduction=2)),
    "TPE, ASHA": declare(TPE(startup=4), ASHA(grace_epochs=1, reduction=3)),
    "TPE, minimising": declare(TPE(startup=4), ASHA(grace_epochs=1), objective=Minimise("loss")),
    "BOHB": declare(BOHB(min_points=3), Hyperband(reduction=3, min_epochs=1), trials=16),
    "CMA-ES": declare(CMAES(population=4)),
    "NSGA-II": declare(NSGA2(population=4), also=(Maximise("images_per_second"),)),
    "stoppers": declare(
        Random(),
        ASHA(grace_epochs=3),
        stoppers=(Plateau(epochs=3, tolerance=0.02, grace_epochs=3), Divergence(factor=1.5)),
    ),
    "target": declare(Random(), stoppers=(Target(value=0.6, ends_search=False),)),
    "divided and confirmed": declare(
        TPE(startup=2), ASHA(grace_epochs=3), trials=8, each="training.batch_size", confirm=2,
        space=SearchSpace({"optimizer.learning_rate": LogUniform(1e-5, 1e-1), "training.batch_size": Choice(2, 4)}),
    ),
}  # fmt: skip


@dataclass
class FakeTrial:
    """As much of Ray's trial as is used here."""

    trainable: str
    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)
    error_file: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)
    run_metadata: Any = field(default_factory=lambda: SimpleNamespace(num_failures=0))


def chance(*what):
    digest = hashlib.sha256(repr(what).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def curve(trial, epoch):
    """A made-up result that follows from the trial alone: better near a learning rate of 1e-3."""
    distance = abs(chance(trial.values["optimizer.learning_rate"]) - 0.5)
    value = (0.9 - distance) * (1 - 0.6**epoch) + 0.03 * chance(trial.trial_id, epoch)
    metrics = dict.fromkeys(metric_names(unflatten(trial.config)), 0.5)
    loss = 1 / (epoch + 1) if chance(trial.trial_id) < 0.8 else 0.3 * epoch
    return {**metrics, "map_50": value, "loss": loss, "images_per_second": 1 + 5 * chance(trial.trial_id, "speed")}


class Session:
    """One driver, with Ray played by a loop: which of the running trials reports next follows from what they are."""

    def __init__(self, record, experiment, monkeypatch, more=0):
        monkeypatch.setattr(
            "experiments.tuning.Trial",
            lambda run, *, trial_id, config, **rest: FakeTrial(run, trial_id, config, rest=rest),
        )
        self.live = LiveSearch(record)
        if not self.live.state.header:
            self.live.note("search", search_id="x", declaration=experiment.to_json(), digest=experiment.digest())
        self.live.note("session", host="h", process=1)
        objective = experiment.objective
        self.scheduler = DecidingScheduler(
            lambda: build_scheduler(experiment.scheduler, objective.mode, EPOCHS),
            build_epoch_stoppers(experiment.stoppers, objective),
            objective.metric,
            "scheduler",
        )
        self.scheduler.replay(record.events)
        searcher = build_searcher(experiment)
        self.search = RecordedSearch(
            self.live,
            searcher,
            self.scheduler,
            self.order,
            resources=TrialResources(cpus=1, gpus=0, concurrency=CONCURRENCY),
            place=lambda given: None,
            limit=searcher.total + more,
            concurrency=CONCURRENCY,
            interrupt=Interrupt(),
        )
        self.search.add_configurations([SimpleNamespace(spec={"run": "trial", "storage": None})])
        self.callback = RecordingCallback(
            self.live, self.scheduler, lambda: None, lambda reason: None, lambda text: None
        )

    def order(self, trial, given):
        return TrialOrder(
            trial_id=trial.trial_id, config=trial.config, seed=trial.seed, directory="d", store="s", stoppers=[],
            threads=1, after_epoch=trial.epochs,
        )  # fmt: skip

    def run(self):
        running = []
        while True:
            while len(running) < CONCURRENCY and (trial := self.search.next_trial()) is not None:
                self.scheduler.on_trial_add(None, trial)
                self.callback.on_trial_start(0, [], trial)
                running.append(trial)
            if not running:
                assert self.search.is_finished()
                return
            trial = min(running, key=lambda each: chance(own_id(each.trial_id), self.state(each).epochs))
            if self.report(trial):
                running.remove(trial)
                self.search.on_trial_complete(trial.trial_id)

    def report(self, trial):
        """One epoch of a trial, as Tune handles it; whether it has ended for Tune."""
        state = self.state(trial)
        epoch = state.epochs + 1
        failing = chance(state.trial_id, "fails") < 0.1 and epoch == 2
        result = {"epoch": epoch, **curve(state, epoch), "stop_reason": "", "done": False}
        if failing:
            result |= {"epoch": 1, "stop_reason": "error", "error": "ValueError: bad", "done": True}
        elif epoch == max(EPOCHS, (state.continued_after or 0) + 2):
            result |= {"stop_reason": "completed", "done": True}
        if result["done"]:
            self.scheduler.on_trial_complete(None, trial, result)
        elif self.scheduler.on_trial_result(None, trial, result) == "STOP":
            result["done"] = True
        self.callback.on_trial_result(0, [], trial, result)
        return result["done"]

    def state(self, trial):
        return self.live.trial(own_id(trial.trial_id))


def decided(path):
    """What a record says, without when it was written and how often it was interrupted."""
    skipped = ("session", "started")
    return [
        {key: value for key, value in event.items() if key not in ("n", "time", "t")}
        for event in read_record(path)
        if event["kind"] not in skipped
    ]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_interrupted_anywhere_goes_on_as_without(name, tmp_path, monkeypatch):
    experiment = SEARCHES[name]
    with Record(tmp_path / "straight.jsonl") as record:
        Session(record, experiment, monkeypatch).run()
    lines = (tmp_path / "straight.jsonl").read_bytes().splitlines(keepends=True)
    expected = decided(tmp_path / "straight.jsonl")
    for cut in range(3, len(lines), max(1, len(lines) // 9)):
        path = tmp_path / f"cut-{cut}.jsonl"
        path.write_bytes(b"".join(lines[:cut]))
        with Record(path) as record:
            Session(record, experiment, monkeypatch).run()
        assert decided(path) == expected, cut


@pytest.mark.parametrize("name", [name for name, each in SEARCHES.items() if not each.confirm])
def test_a_search_given_more_trials_and_epochs_is_as_exact(name, tmp_path, monkeypatch):
    experiment = SEARCHES[name]
    path = tmp_path / "straight.jsonl"
    with Record(path) as record:
        Session(record, experiment, monkeypatch).run()
        before = decided(path)
        live = LiveSearch(record)
        wanted = [trial for trial in live.state.trials.values() if trial.status in ("stopped", "finished")][-1]
        live.note("continued", trial=wanted.trial_id, config={}, after=wanted.epochs)
    begun = len(path.read_bytes().splitlines())
    with Record(path) as record:
        session = Session(record, experiment, monkeypatch, more=4)
        session.run()
        state = session.live.state
    expected = decided(path)
    assert expected[: len(before)] == before
    assert not state.open_trials()
    assert state.trials[wanted.trial_id].epochs == max(EPOCHS, wanted.epochs + 2)
    assert state.trials[wanted.trial_id].stop_reason in ("completed", "error")
    sampled = experiment.searcher.sampled
    assert len(state.trials) == build_searcher(experiment).total + (4 if sampled else 0)
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in range(begun, len(lines), max(1, (len(lines) - begun) // 4)):
        shorter = tmp_path / f"cut-{cut}.jsonl"
        shorter.write_bytes(b"".join(lines[:cut]))
        with Record(shorter) as record:
            Session(record, experiment, monkeypatch, more=4).run()
        assert decided(shorter) == expected, cut


@pytest.mark.parametrize("name", SEARCHES)
def test_every_trial_ends_and_says_why(name, tmp_path, monkeypatch):
    experiment = SEARCHES[name]
    with Record(tmp_path / "record.jsonl") as record:
        session = Session(record, experiment, monkeypatch)
        session.run()
    trials = list(session.live.state.trials.values())
    assert len(trials) == build_searcher(experiment).total
    assert {trial.status for trial in trials} <= {"finished", "stopped", "failed"}
    assert all(trial.detail for trial in trials if trial.status == "stopped")
    assert all(trial.why["by"] for trial in trials)
    assert {trial.why["searcher"] for trial in trials} == {type(experiment.searcher).__name__}
    stopping = not isinstance(experiment.scheduler, RunAll) or experiment.stoppers
    assert any(trial.status == "stopped" for trial in trials) == bool(stopping)
    confirming = [trial for trial in trials if trial.why["by"] == "confirm"]
    assert len(confirming) == experiment.confirm * (2 if experiment.each else 1)
    assert all(trial.status != "stopped" for trial in confirming)


def test_paused_trials_give_their_place_to_others(tmp_path, monkeypatch):
    with Record(tmp_path / "record.jsonl") as record:
        session = Session(record, SEARCHES["random, Hyperband"], monkeypatch)
        session.run()
    events = read_record(tmp_path / "record.jsonl")
    paused: set[str] = set()
    most = 0
    for event in events:
        if event.get("decision", {}).get("action") == "pause":
            paused.add(event["trial"])
        elif event["kind"] in ("promoted", "ended"):
            paused.discard(event["trial"])
        most = max(most, len(paused))
    assert most > CONCURRENCY
    promoted = [event["trial"] for event in events if event["kind"] == "promoted"]
    attempts = {trial.trial_id: trial.attempts for trial in session.live.state.trials.values()}
    assert promoted and all(attempts[trial] > 1 for trial in promoted)


def scheduler_of(settings, stoppers=()):
    objective = Maximise("map_50")
    return DecidingScheduler(
        lambda: build_scheduler(settings, "max", EPOCHS), build_epoch_stoppers(stoppers, objective), "map_50", "asha"
    )


def test_an_epoch_reported_again_is_not_decided_again():
    scheduler = scheduler_of(ASHA(grace_epochs=1, reduction=2))
    for name, value in (("t0000", 0.9), ("t0001", 0.8)):
        scheduler.added(name, {})
        result = {"epoch": 1, "map_50": value, "stop_reason": ""}
        first = scheduler.on_trial_result(None, FakeTrial("trial", name), result)
    assert first == "STOP"
    again = scheduler.on_trial_result(None, FakeTrial("trial", "t0001"), {"epoch": 1, "map_50": 0.8, "stop_reason": ""})
    assert again == "CONTINUE"


def test_an_epoch_without_an_evaluation_is_decided_on_only_by_its_loss():
    scheduler = scheduler_of(ASHA(grace_epochs=1, reduction=2), (Plateau(epochs=2, grace_epochs=0), Divergence()))
    for name in ("t0000", "t0001"):
        scheduler.added(name, {})
    metrics = {"map_50": 0.0, "seconds_evaluation": 0.0, "stop_reason": ""}
    for epoch in (1, 2, 3):
        for name in ("t0000", "t0001"):
            loss = 100.0 if (name, epoch) == ("t0001", 3) else 1.0
            decision = scheduler.on_trial_result(
                None, FakeTrial("trial", name), {"epoch": epoch, "loss": loss, **metrics}
            )
            assert decision == ("STOP" if loss > 1 else "CONTINUE")
    assert scheduler.verdict("t0001").reason == "diverged"


def test_legs_of_a_trial_in_ray_are_one_trial_of_ours():
    scheduler = scheduler_of(Hyperband(reduction=3, min_epochs=1))
    for number in range(9):
        scheduler.added(f"t{number:04d}", {})
        result = {"epoch": 1, "map_50": number / 10, "stop_reason": ""}
        assert scheduler.on_trial_result(None, FakeTrial("trial", f"t{number:04d}"), result) == "STOP"
        scheduler.on_trial_complete(None, FakeTrial("trial", f"t{number:04d}"), result | {"done": True})
    released = scheduler.release(no_more=False)
    assert [each.trial_id for each in released if each.verdict.reason is None] == ["t0008", "t0007", "t0006"]
    leg = FakeTrial("trial", "t0008-2")
    assert scheduler.on_trial_result(None, leg, {"epoch": 2, "map_50": 0.9, "stop_reason": ""}) == "CONTINUE"


def test_parts_of_a_divided_search_are_not_compared_with_each_other():
    scheduler = scheduler_of(ASHA(grace_epochs=1, reduction=2))
    decisions = {}
    for number, (part, value) in enumerate([(0, 0.9), (1, 0.2), (0, 0.8), (1, 0.1), (1, 0.3)]):
        name = f"t{number:04d}"
        scheduler.added(name, {"by": "random", "part": part})
        result = {"epoch": 1, "map_50": value, "stop_reason": ""}
        decisions[part, value] = scheduler.on_trial_result(None, FakeTrial("trial", name), result)
    assert decisions == {
        (0, 0.9): "CONTINUE", (0, 0.8): "STOP", (1, 0.2): "CONTINUE", (1, 0.1): "STOP", (1, 0.3): "CONTINUE",
    }  # fmt: skip
