"""Between Ray Tune and the record: which trials go out, and what is written down of what comes back."""

import dataclasses
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.execution.placement_groups import PlacementGroupFactory
from rich.console import Console

import search_spaces
from experiments.interrupt import Interrupt
from experiments.live import LiveSearch
from experiments.progress import Outlook, PlainScreen
from experiments.record import Record, read_record
from experiments.resources import Capacity, TrialResources, grown
from experiments.schedulers import build_scheduler
from experiments.schedulers.ray_scheduler import DecidingScheduler
from experiments.searchers import build_searcher
from experiments.stoppers import Budget, SearchEnds
from experiments.trial_run import TrialOrder
from experiments.tuning import RecordedSearch, RecordingCallback, SearchStopper
from satdet.config import metric_names
from search_spaces.declare import BudgetCap, Choice, Forbid, SearchSpace, Target
from tests.searches import BY_ASHA, COMPLETED, begin, report, suggest

EXPERIMENT = search_spaces.load("backbone_ablation")
GIVEN = TrialResources(cpus=1, gpus=0, concurrency=2)


def placed(given):
    return PlacementGroupFactory(given.bundles())


@dataclass
class FakeTrial:
    """As much of Ray's trial as is used here."""

    trainable: str
    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)
    error_file: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)
    run_metadata: Any = field(default_factory=lambda: SimpleNamespace(num_failures=0))


@pytest.fixture
def live(tmp_path):
    with begin(tmp_path / "record.jsonl") as record:
        yield LiveSearch(record)


def deciding(settings=EXPERIMENT.scheduler):
    return DecidingScheduler(lambda: build_scheduler(settings, "max", 60), (), "map_50", "asha")


def searching(live, monkeypatch, limit=12, concurrency=2, grow=None):
    monkeypatch.setattr(
        "experiments.tuning.Trial",
        lambda run, *, trial_id, config, **rest: FakeTrial(run, trial_id, config, rest=rest),
    )

    def order(trial, given):
        return TrialOrder(
            trial_id=trial.trial_id, config=trial.config, seed=trial.seed, directory="d", store="s", stoppers=[],
            threads=given.cpus, workers=given.workers, after_epoch=trial.epochs,
        )  # fmt: skip

    searcher = build_searcher(EXPERIMENT)
    search = RecordedSearch(
        live,
        searcher,
        deciding(),
        order,
        resources=GIVEN,
        place=placed,
        grow=grow,
        limit=limit,
        concurrency=concurrency,
        interrupt=Interrupt(),
    )
    search.add_configurations([SimpleNamespace(spec={"run": "trial", "storage": None})])
    return search


def result(epoch, map_50, **more):
    metrics = dict.fromkeys(metric_names(EXPERIMENT.base), 0.5)
    return {"epoch": epoch, **metrics, "map_50": map_50, "stop_reason": "", "done": False, **more}


def test_the_last_trials_get_the_room_of_those_that_are_gone(live, monkeypatch):
    search = searching(live, monkeypatch, limit=3, grow=lambda left, most: grown(GIVEN, Capacity.of(4), left, most))
    first, second = search.next_trial(), search.next_trial()
    assert [trial.config["trial"]["workers"] for trial in (first, second)] == [1, 1]
    search.on_trial_complete(first.trial_id)
    search.on_trial_complete(second.trial_id)
    third = search.next_trial()
    assert third.config["trial"]["workers"] == 4 <= third.config["trial"]["config"]["training.batch_size"]
    assert third.rest["placement_group_factory"].bundles == [{"CPU": 1.0}] * 4


def test_trials_go_out_as_the_grid_says_and_no_more_than_fit(live, monkeypatch):
    search = searching(live, monkeypatch, limit=5)
    first, second = search.next_trial(), search.next_trial()
    assert search.next_trial() is None and not search.is_finished()
    assert [trial.trial_id for trial in (first, second)] == ["t0000", "t0001"]
    assert second.config["trial"]["config"]["detector.backbone"] == "resnet34"
    ended = []
    for trial in ("t0000", "t0001", "t0002", "t0003", "t0004"):
        search.on_trial_complete(trial)
        following = search.next_trial()
        ended.append(following and following.trial_id)
    assert ended == ["t0002", "t0003", "t0004", None, None]
    assert search.is_finished()
    assert [trial.seed for trial in live.state.trials.values()] == [0, 0, 0, 0, 1]
    kinds = [event["kind"] for event in read_record(live.record.path)]
    assert kinds.count("suggested") == 5


def test_after_a_resume_open_trials_go_out_first_with_what_they_have(tmp_path, monkeypatch):
    with begin(tmp_path / "record.jsonl") as record:
        one, two = suggest(record, 0), suggest(record, 1, "resnet34")
        report(record, two, 1, 0.2)
        report(record, one, 1, 0.3, COMPLETED)
    with Record(tmp_path / "record.jsonl") as record:
        search = searching(LiveSearch(record), monkeypatch)
        first, second = search.next_trial(), search.next_trial()
    assert (first.trial_id, first.config["trial"]["after_epoch"]) == ("t0001", 1)
    assert second.trial_id == "t0002"
    assert second.config["trial"]["config"]["detector.backbone"] == "resnet50"


@pytest.fixture
def callback(live):
    return RecordingCallback(live, deciding(), lambda: None, lambda reason: None, lambda text: None)


def send(callback, trial, **values):
    callback.on_trial_result(0, [], FakeTrial("trial", trial), result(**values))


def test_epochs_are_recorded_once_and_the_end_with_the_last(live, callback):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    send(callback, trial, epoch=1, map_50=0.3)
    send(callback, trial, epoch=1, map_50=0.3)
    send(callback, trial, epoch=2, map_50=0.4, stop_reason="early_stopping", done=True)
    results = [event for event in read_record(live.record.path) if event["kind"] == "result"]
    assert [event["epoch"] for event in results] == [1, 2]
    state = live.trial(trial)
    assert (state.status, state.stop_reason, state.epochs) == ("finished", "early_stopping", 2)


def test_losses_are_counted_from_the_last_new_epoch(live, callback):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    lost = FakeTrial("trial", trial)
    for epoch, failures in ((1, 0), (1, 3), (2, 0)):
        lost.run_metadata.num_failures = 3
        callback.on_trial_result(0, [], lost, result(epoch, 0.3))
        assert lost.run_metadata.num_failures == failures


def test_a_trial_whose_storage_is_lost_has_not_ended_but_asks_to_leave(live):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    reasons = []
    scheduler = deciding()
    callback = RecordingCallback(live, scheduler, lambda: None, reasons.append, lambda text: None)
    last = result(0, 0.0, stop_reason="storage_lost", error="runs: No space left on device", done=True)
    before = len(live.record.events)
    callback.on_trial_result(0, [], FakeTrial("trial", trial), last)
    scheduler.on_trial_complete(None, FakeTrial("trial", trial), last)
    assert reasons == ["runs: No space left on device"]
    assert len(live.record.events) == before and live.trial(trial).status == "running"


def test_a_trial_that_is_restored_leaves_no_trace_in_the_record(live, monkeypatch):
    trial = suggest(live.record, 0)
    report(live.record, trial, 1, 0.3, BY_ASHA)
    live = LiveSearch(live.record)
    scheduler = deciding()
    scheduler.replay(live.record.events)
    before = list(live.record.events)
    scheduler.set_apart(trial)
    said = []
    callback = RecordingCallback(live, scheduler, lambda: None, lambda reason: None, said.append)
    restored = FakeTrial("trial", trial, error_file=None)
    last = result(1, 0.3, stop_reason="stopped", done=True)
    callback.on_trial_start(0, [], restored)
    callback.on_trial_recover(0, [], restored)
    assert scheduler.on_trial_result(None, restored, last) == "CONTINUE"
    scheduler.on_trial_complete(None, restored, last)
    callback.on_trial_result(0, [], restored, last)
    assert said == []
    callback.on_trial_result(0, [], restored, last | {"stop_reason": "error", "error": "ValueError: bad"})
    assert said == [f"{trial}: its model cannot be made again (ValueError: bad)"]
    callback.on_trial_error(0, [], restored)
    assert live.record.events == before
    assert (live.trial(trial).status, live.trial(trial).stop_reason) == ("stopped", "asha")


@pytest.mark.parametrize("last", [{"epoch": 1}, {"epoch": 2}])
def test_remarks_are_recorded_with_an_epoch_and_with_an_end_alone(live, callback, last):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    send(callback, trial, epoch=1, map_50=0.3, remarks=["epoch-0002 is damaged; went on from epoch 1"])
    send(callback, trial, map_50=0.3, stop_reason="diverged", done=True, remarks=["no picture"], **last)
    assert live.trial(trial).remarks == ["epoch-0002 is damaged; went on from epoch 1", "no picture"]
    assert live.trial(trial).status == "stopped"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"stop_reason": "completed", "done": True}, ("finished", "completed", None)),
        ({"stop_reason": "slow_speed_global", "done": True}, ("stopped", "slow_speed_global", None)),
        ({"stop_reason": "error", "done": True, "error": "ValueError: bad"}, ("failed", "error", "ValueError: bad")),
    ],
)
def test_every_end_has_its_status_and_reason(live, callback, values, expected):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    send(callback, trial, epoch=3, map_50=0.3, **values)
    state = live.trial(trial)
    assert (state.status, state.stop_reason, state.error) == expected


def test_guard_before_the_first_epoch_leaves_finite_metrics(live, callback):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    send(callback, trial, epoch=0, map_50=0.0, stop_reason="slow_speed_global", done=True)
    state = live.trial(trial)
    assert state.status == "stopped"
    assert state.epochs == 0 and state.last["map_50"] == 0.0


def test_lost_worker_is_recorded_with_its_reason(live, callback, tmp_path):
    trial = suggest(live.record, 0)
    for event in live.record.events[-2:]:
        live.state.apply(event)
    errors = tmp_path / "error.txt"
    errors.write_text(
        "Failure # 1 (occurred at noon)\nfirst loss\n"
        "Failure # 2 (occurred at one)\nThe actor died unexpectedly.\n\tclass_name: X\n"
    )
    ray_trial = FakeTrial("trial", trial, error_file=str(errors))
    callback.on_trial_recover(0, [], ray_trial)
    assert live.record.events[-1]["error"] == "The actor died unexpectedly."
    assert live.trial(trial).losses == ["The actor died unexpectedly."]
    errors.write_text("Failure # 3 (occurred at two)\nTraceback (most recent call last):\n  File x\nValueError: bad\n")
    callback.on_trial_error(0, [], ray_trial)
    assert live.trial(trial).status == "failed"
    assert live.trial(trial).error == "ValueError: bad"


def test_search_stops_for_its_budget_and_on_request(live):
    interrupt = SimpleNamespace(asked=False)
    trial = suggest(live.record, 0)
    report(live.record, trial, 1, 0.1)
    for event in live.record.events[-3:]:
        live.state.apply(event)
    assert not SearchStopper(live, SearchEnds(Budget(epochs=2)), interrupt).stop_all()
    assert SearchStopper(live, SearchEnds(Budget(epochs=1)), interrupt).stop_all()
    assert SearchStopper(live, SearchEnds(Budget(gpu_seconds=20)), interrupt).stop_all()
    assert not SearchStopper(live, SearchEnds(Budget(gpu_seconds=21)), interrupt).stop_all()
    interrupt.asked = True
    assert SearchStopper(live, SearchEnds(None), interrupt).stop_all()


def test_points_that_cannot_run_are_recorded_and_told_with_their_reason(tmp_path, capsys):
    experiment = dataclasses.replace(
        search_spaces.load("sweep_random"),
        first=(),
        space=SearchSpace(
            {"training.batch_size": Choice(2, 4, 8, 16)},
            constraints=(Forbid("training.batch_size > 2", because="too large"),),
        ),
    )
    with Record(tmp_path / "record.jsonl") as record:
        live = LiveSearch(record)
        live.note("search", search_id="x", declaration=experiment.to_json(), digest=experiment.digest())
        live.listen(PlainScreen(Console(stderr=True), Outlook("x", 6, 2, lambda trial: 1)).event)
        search = RecordedSearch(
            live, build_searcher(experiment), deciding(), order=None, resources=GIVEN,
        place=placed, limit=6,
            concurrency=6, interrupt=Interrupt(),
        )  # fmt: skip
        for _ in range(6):
            search._next()
    suggested = [event for event in read_record(tmp_path / "record.jsonl") if event["kind"] == "suggested"]
    assert {event["values"]["training.batch_size"] for event in suggested} == {2}
    skipping = [event for event in suggested if event["skipped"]]
    assert skipping and all(event["because"] == ["too large"] for event in skipping)
    assert live.state.skipped == sum(event["skipped"] for event in skipping)
    assert capsys.readouterr().err.count("left out before it: too large") == len(skipping)


@pytest.mark.parametrize(
    ("stoppers", "budget", "reason"),
    [
        ((), None, None),
        ((BudgetCap(epochs=2),), None, None),
        ((BudgetCap(epochs=1),), None, "budget"),
        ((BudgetCap(seconds=1e9),), None, None),
        ((BudgetCap(gpu_seconds=20),), None, "budget"),
        ((BudgetCap(epochs=1),), Budget(epochs=2), None),  # what is said on the command line counts
        ((Target(value=0.5),), None, None),
        ((Target(value=0.3),), None, "target_reached"),  # in its last epoch a trial just completes
        ((Target(value=0.3, ends_search=False),), None, None),
    ],
)
def test_a_search_ends_for_its_declared_reasons(live, stoppers, budget, reason):
    trial = suggest(live.record, 0)
    report(live.record, trial, 1, 0.4, COMPLETED)
    for event in live.record.events[-3:]:
        live.state.apply(event)
    experiment = dataclasses.replace(EXPERIMENT, stoppers=stoppers)
    assert SearchEnds.of(experiment, budget).reason(live.state) == reason
