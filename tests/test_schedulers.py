"""A scheduler after a resume decides as it would have without the interruption."""

import random
from dataclasses import dataclass

import pytest

from experiments.record import Record, read_record
from experiments.schedulers import RecordedScheduler, build_scheduler
from search_spaces.declare import ASHA, Maximise, Minimise, RunAll
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest

EPOCHS = 9
SETTINGS = [RunAll(), ASHA(grace_epochs=1, reduction=3), ASHA(grace_epochs=2, reduction=2)]


@dataclass(frozen=True)
class FakeTrial:
    trial_id: str


def build(settings):
    return RecordedScheduler(build_scheduler(settings, Maximise("map_50"), EPOCHS))


class Driver:
    """Feeds a scheduler with made-up curves in a fixed order of arrival, recording as the platform does."""

    def __init__(self, record: Record, scheduler: RecordedScheduler) -> None:
        self.record, self.scheduler = record, scheduler
        self.decisions: list[tuple[str, int, str]] = []

    def feed(self, arrivals, gone):
        for trial_id, epoch, value in arrivals:
            if trial_id in gone:
                continue
            trial = FakeTrial(trial_id)
            if epoch == 1:
                suggest(self.record, int(trial_id[1:]))
                self.scheduler.on_trial_add(None, trial)
            result = {"epoch": epoch, "map_50": value, "stop_reason": ""}
            failed = trial_id == "t0003" and epoch == 2
            if failed or epoch == EPOCHS:
                end = FAILED if failed else COMPLETED
                report(self.record, trial_id, epoch, value, end)
                self.scheduler.on_trial_complete(None, trial, result | {"stop_reason": end["stop_reason"]})
                gone.add(trial_id)
                continue
            decision = self.scheduler.on_trial_result(None, trial, result)
            self.decisions.append((trial_id, epoch, decision))
            report(self.record, trial_id, epoch, value, BY_ASHA if decision == "STOP" else None)
            if decision == "STOP":
                self.scheduler.on_trial_complete(None, trial, result)
                gone.add(trial_id)


def arrivals():
    chooser = random.Random(5)
    level = {f"t{number:04d}": chooser.random() for number in range(12)}
    epochs = dict.fromkeys(level, 0)
    order = []
    while any(epoch < EPOCHS for epoch in epochs.values()):
        trial = chooser.choice([name for name, epoch in epochs.items() if epoch < EPOCHS])
        epochs[trial] += 1
        order.append((trial, epochs[trial], level[trial] * (1 - 0.5 ** epochs[trial]) + 0.1 * chooser.random()))
    return order


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: f"{each}")
@pytest.mark.parametrize("cut", [3, 20, 45])
def test_decisions_after_a_replay_equal_those_without_interruption(settings, cut, tmp_path):
    order = arrivals()
    straight = Driver(begin(tmp_path / "straight.jsonl"), build(settings))
    straight.feed(order, set())

    gone: set[str] = set()
    first = Driver(begin(tmp_path / "cut.jsonl"), build(settings))
    first.feed(order[:cut], gone)
    first.record.close()
    resumed = build(settings)
    resumed.replay(read_record(tmp_path / "cut.jsonl"))
    second = Driver(Record(tmp_path / "cut.jsonl"), resumed)
    second.feed(order[cut:], gone)
    second.record.close()
    straight.record.close()

    assert first.decisions + second.decisions == straight.decisions
    if isinstance(settings, ASHA):
        assert any(decision == "STOP" for _, _, decision in straight.decisions)


def test_an_epoch_reported_again_is_not_decided_again():
    scheduler = build(ASHA(grace_epochs=1, reduction=2))
    for name, value in (("t0000", 0.9), ("t0001", 0.8)):
        scheduler.on_trial_add(None, FakeTrial(name))
        first = scheduler.on_trial_result(None, FakeTrial(name), {"epoch": 1, "map_50": value, "stop_reason": ""})
    assert first == "STOP"
    again = scheduler.on_trial_result(None, FakeTrial("t0001"), {"epoch": 1, "map_50": 0.8, "stop_reason": ""})
    assert again == "CONTINUE"


def test_objective_to_minimise_stops_the_larger():
    scheduler = RecordedScheduler(build_scheduler(ASHA(grace_epochs=1, reduction=2), Minimise("loss"), EPOCHS))
    decisions = []
    for name, loss in (("t0000", 0.1), ("t0001", 0.9)):
        scheduler.on_trial_add(None, FakeTrial(name))
        decisions.append(scheduler.on_trial_result(None, FakeTrial(name), {"epoch": 1, "loss": loss}))
    assert decisions == ["CONTINUE", "STOP"]
