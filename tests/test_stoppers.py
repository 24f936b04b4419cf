"""What holds for every stopper: it ends the trial that it is for, leaves others alone, and survives a resume."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from experiments.stoppers import build_callbacks
from experiments.stopping import Stop, build_epoch_stoppers, median_rates
from satdet.config import metric_names, with_values
from satdet.errors import NonFiniteLossError
from satdet.training import train
from satdet.training.learner import Learner
from search_spaces.declare import BudgetCap, Divergence, Maximise, Minimise, Plateau, SpeedGuard, Target
from search_spaces.declare.settings import STOPPERS
from tests.test_training import BATCHES, CONFIG, no_litter, one_thread, store  # noqa: F401


@dataclass(frozen=True)
class Example:
    """Values of a metric, epoch by epoch, of a trial that is stopped after the last of them, and of a good one."""

    setting: Any
    reason: str
    why: str
    bad: list[float]
    good: list[float]
    metric: str = "map_50"


ON_EPOCHS = [
    Example(
        Plateau(epochs=3, tolerance=0.01, grace_epochs=5),
        "plateau",
        "standard deviation of map_50 over the last 3 epochs is 0.00943, below 0.01",
        bad=[0.1, 0.1, 0.1, 0.3, 0.5, 0.52, 0.5],
        good=[0.1, 0.1, 0.1, 0.1, 0.2, 0.3, 0.35],
    ),
    Example(
        Target(value=0.5),
        "target_reached",
        "map_50 is 0.5 after epoch 3, the target 0.5",
        bad=[0.1, 0.4, 0.5],
        good=[0.1, 0.3, 0.499],
    ),
    Example(
        Divergence(factor=4.0),
        "diverged",
        "loss is 2.5 in epoch 4, above 4 times the lowest, 0.5",
        bad=[1.0, 0.5, 0.6, 2.5],
        good=[9.0, 0.5, 2.0, 1.0],
        metric="loss",
    ),
]
IN_TRAINING = [
    (
        SpeedGuard(images_per_second=1e9, warmup_batches=BATCHES),
        "slow_speed_global",
        "images/s on average over 1 batch",
    ),
    (Divergence(), "diverged", "loss_objectness is nan in epoch 2, step 1"),
]
FOR_THE_WHOLE_SEARCH = {BudgetCap}
"""These end no trial by themselves."""
by_name = {"ids": lambda each: type(each.setting).__name__}


def stops(stopper, values, metric, trial="t0000", first=1):
    metrics = ({"map_50": 0.1 * epoch, "loss": 1.0, metric: value} for epoch, value in enumerate(values, start=first))
    return [stopper.result(trial, epoch, each) for epoch, each in enumerate(metrics, start=first)]


def build(setting, objective=None):
    (stopper,) = build_epoch_stoppers([setting], objective or Maximise("map_50"))
    return stopper


def test_every_stopper_has_an_example():
    examples = {type(each.setting) for each in ON_EPOCHS} | {type(each[0]) for each in IN_TRAINING}
    assert examples | FOR_THE_WHOLE_SEARCH == set(STOPPERS.values())
    assert build_epoch_stoppers([SpeedGuard(images_per_second=1.0), BudgetCap(seconds=1.0)], Maximise("map_50")) == []


# --- on epochs


@pytest.mark.parametrize("example", ON_EPOCHS, **by_name)
def test_a_trial_is_stopped_at_the_epoch_and_a_good_one_is_not(example):
    stopper = build(example.setting)
    assert stops(stopper, example.good, example.metric, "t0001") == [None] * len(example.good)
    *before, last = stops(stopper, example.bad, example.metric)
    assert before == [None] * len(before)
    assert (last.reason, last.why) == (example.reason, example.why)


@pytest.mark.parametrize("example", ON_EPOCHS, **by_name)
@pytest.mark.parametrize("cut", [1, 2])
def test_a_stopper_that_is_told_the_record_again_goes_on_as_before(example, cut):
    straight = stops(build(example.setting), example.bad, example.metric)
    resumed = build(example.setting)
    stops(resumed, example.bad[:cut], example.metric)
    stops(resumed, example.good, example.metric, "t0001")
    assert stops(resumed, example.bad[cut:], example.metric, first=cut + 1) == straight[cut:]


def test_a_plateau_counts_epochs_and_not_reports():
    stopper = build(Plateau(epochs=6, tolerance=0.01, grace_epochs=0))
    reported = {epoch: stopper.result("t0000", epoch, {"map_50": 0.5}) for epoch in (2, 4, 6, 8)}
    assert [epoch for epoch, stop in reported.items() if stop] == [8]
    assert stopper.result("t0001", 30, {"map_50": 0.5}) is None


@pytest.mark.parametrize(("value", "stopped"), [(0.2, True), (0.1, True), (0.21, False)])
def test_a_target_to_minimise_is_reached_from_above(value, stopped):
    stopper = build(Target(value=0.2, ends_search=False), Minimise("loss"))
    stop = stopper.result("t0000", 1, {"loss": value})
    assert (stop is not None) == stopped


def test_a_loss_of_zero_is_nothing_to_diverge_from():
    assert stops(build(Divergence()), [0.0, 1.0], "loss") == [None, None]


def test_stoppers_are_asked_in_their_order():
    stoppers = build_epoch_stoppers([Target(value=0.5), Plateau(), Divergence(), SpeedGuard()], Maximise("map_50"))
    assert [type(each).__name__ for each in stoppers] == ["TargetStopper", "PlateauStopper", "DivergenceStopper"]
    assert isinstance(stoppers[0].result("t0000", 1, {"map_50": 0.7, "loss": 1.0}), Stop)


# --- in training


@pytest.fixture
def poisoned_losses(monkeypatch):
    """Losses are NaN from the second epoch on."""
    step = Learner.step

    def poisoned(self, images, targets, **options):
        losses = step(self, images, targets, **options)
        return losses if self._steps <= BATCHES else torch.full_like(losses, math.nan)

    monkeypatch.setattr(Learner, "step", poisoned)


@pytest.mark.parametrize(("setting", "reason", "why"), IN_TRAINING, ids=["slow", "not finite"])
def test_a_trial_is_stopped_within_its_epoch_and_keeps_the_last(setting, reason, why, store, tmp_path, request):  # noqa: F811
    if isinstance(setting, Divergence):
        request.getfixturevalue("poisoned_losses")

    def reports(after_epoch=0):
        callbacks = build_callbacks([setting.to_json()], {}, "cpu")
        return list(train(CONFIG, store, tmp_path, seed=1, callbacks=callbacks, device="cpu", after_epoch=after_epoch))

    first, last = reports()
    assert (first.epoch, first.stop_reason, first.stop_detail) == (1, None, None)
    assert (last.epoch, last.stop_reason) == (1, reason)
    assert why in last.stop_detail
    assert last.metrics == first.metrics
    assert first.metrics["loss"] > 0
    assert all(map(math.isfinite, last.metrics.values()))
    assert {"model.pt", "detections.png", "stopped.json"} <= {path.name for path in tmp_path.iterdir()}
    assert reports(after_epoch=1) == [last]  # from what is on disk


def test_a_divergence_in_the_first_epoch_leaves_zeros(store, tmp_path):  # noqa: F811
    config = with_values(CONFIG, {"optimizer.learning_rate": 1e20, "optimizer.max_gradient_norm": None})
    callbacks = build_callbacks([Divergence().to_json()], {}, "cpu")
    (report,) = train(config, store, tmp_path / "stopped", seed=1, callbacks=callbacks, device="cpu")
    assert (report.epoch, report.stop_reason) == (0, "diverged")
    assert report.metrics == dict.fromkeys(metric_names(config), 0.0)
    others = build_callbacks([SpeedGuard(images_per_second=1e-9).to_json()], {}, "cpu")
    with pytest.raises(NonFiniteLossError):
        list(train(config, store, tmp_path / "failed", seed=1, callbacks=others, device="cpu"))


def test_a_good_trial_completes_under_all_of_them(store, tmp_path):  # noqa: F811
    settings = [SpeedGuard(images_per_second=1e-9, iterations_per_second=1e-9, of_median=1.0), Divergence()]
    callbacks = build_callbacks([each.to_json() for each in settings], {"cpu": [1e-9]}, "cpu")
    config = with_values(CONFIG, {"training.epochs": 1})
    (report,) = train(config, store, tmp_path, seed=1, callbacks=callbacks, device="cpu")
    assert (report.stop_reason, report.stop_detail) == ("completed", None)


# --- what is usual


@dataclass
class Trial:
    status: str
    hardware: str | None
    results: list[tuple[int, float, dict[str, float]]]


def trial(*epochs, status="finished", hardware="a"):
    """A trial by its images a second and seconds of training, epoch by epoch."""
    results = [
        (number, 0.0, {"images_per_second": rate, "seconds_training": seconds})
        for number, (rate, seconds) in enumerate(epochs, start=1)
    ]
    return Trial(status, hardware, results)


def test_the_usual_speed_is_the_median_of_averages_since_the_start():
    trials = [
        trial((10.0, 1.0), (20.0, 4.0), (18.0, 5.0)),  # 10, 18, 18 on the average
        trial((30.0, 1.0), (10.0, 1.0), (20.0, 2.0)),  # 30, 20, 20
        trial((12.0, 1.0), (12.0, 1.0)),
        trial((1.0, 1.0), status="stopped"),
        trial((1.0, 1.0), status="failed"),
        trial((1.0, 1.0), hardware=None),
        trial((5.0, 1.0), hardware="b"),
    ]
    assert median_rates(trials, 1) == {"a": pytest.approx([12.0, 18.0, 19.0]), "b": [5.0]}
    assert median_rates(trials, 3) == {"a": pytest.approx([12.0, 18.0])}
    assert median_rates(trials, 4) == median_rates([], 1) == {}


def test_an_end_that_repeats_its_epoch_counts_once():
    repeated = trial((10.0, 1.0), (30.0, 1.0))
    repeated.results.append(repeated.results[-1])
    assert median_rates([repeated], 1) == {"a": [10.0, 20.0]}
