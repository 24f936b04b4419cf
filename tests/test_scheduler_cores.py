"""What holds for every scheduler, and the rule of each against its source: Ray, the papers, W&B."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

from experiments.schedulers import CONTINUE, Decision, SchedulerCore, build_scheduler
from search_spaces.declare import ASHA, PASHA, Hyperband, HyperbandStopping, MedianStopping, RunAll
from search_spaces.declare.settings import SCHEDULERS

EPOCHS = 27
VARIANTS = [
    ASHA(grace_epochs=1, reduction=3),
    ASHA(grace_epochs=2, reduction=2),
    PASHA(grace_epochs=1, reduction=2, noise=0.0),
    PASHA(grace_epochs=1, reduction=3, noise=0.2),
    Hyperband(reduction=2, min_epochs=3),
    HyperbandStopping(rungs=(2, 5, 11), reduction=2.5, strict=True),
    HyperbandStopping(rungs=(1, 3, 9), strict=False),
    MedianStopping(grace_epochs=1, min_trials=1),
]
ALL = [kind() for kind in SCHEDULERS.values()] + VARIANTS
by_name = {"ids": lambda each: f"{each}"}


@dataclass
class Search:
    """A search without training: trials with made-up curves run on some places and report in a random order.

    Every call to the scheduler is kept in `calls`, with what it returned.
    """

    core: SchedulerCore
    curves: dict[str, list[float]]
    places: int = 4
    seed: int = 0
    every: int = 1
    """Epochs from one report to the next."""
    failing: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, tuple[Any, ...], Any]] = field(default_factory=list)
    stops: dict[str, Decision] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    completed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def run(self) -> "Search":
        chooser = random.Random(self.seed)
        new, ready, running, paused = list(self.curves), [], [], set()
        while new or ready or running or paused:
            while len(running) < self.places and (ready or new):
                if not ready:
                    ready.append(new.pop(0))
                    self.epochs[ready[-1]] = 0
                    self._call("add", ready[-1])
                running.append(ready.pop(0))
            if running:
                trial = running.pop(chooser.randrange(len(running)))
                match self._epoch(trial).action:
                    case "continue" if trial not in self.completed | self.failed:
                        running.append(trial)
                    case "pause":
                        paused.add(trial)
            released = self._call("release", not new and not running)
            assert running or new or released or not paused, f"nobody can go on: {paused}"
            for trial, decision in released:
                paused.remove(trial)
                if decision.action == "stop":
                    self.stops[trial] = decision
                else:
                    assert decision.action == "continue"
                    ready.append(trial)
        return self

    def _epoch(self, trial: str) -> Decision:
        curve = self.curves[trial]
        epoch = self.epochs[trial] = min(self.epochs[trial] + self.every, len(curve))
        if epoch >= self.failing.get(trial, len(curve) + 1):
            self.failed.add(trial)
            self._call("ended", trial, epoch, None)
            return CONTINUE
        if epoch == len(curve):
            self.completed.add(trial)
            self._call("ended", trial, epoch, curve[-1])
            return CONTINUE
        decision = self._call("result", trial, epoch, curve[epoch - 1])
        if decision.action == "stop":
            self.stops[trial] = decision
        return decision

    def _call(self, name: str, *arguments: Any) -> Any:
        outcome = call(self.core, name, arguments)
        self.calls.append((name, arguments, outcome))
        return outcome


def call(core: SchedulerCore, name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "release":
        return list(core.release(no_more=arguments[0]))
    return getattr(core, name)(*arguments)


def curves(trials: int, *, seed: int = 0, noise: float = 0.2, epochs: int = EPOCHS) -> dict[str, list[float]]:
    """Curves that rise to different levels; without noise, they never cross. Two digits, so that some are equal."""
    chooser = random.Random(seed)
    made = {}
    for number in range(trials):
        level = chooser.random() if noise else (number * 7 % trials + 1) / trials
        values = [level * (1 - 0.8**epoch) + noise * (chooser.random() - 0.5) for epoch in range(1, epochs + 1)]
        made[f"t{number:04d}"] = [round(value, 2) for value in values] if noise else values
    return made


def search(setting, trials=40, *, mode="max", epochs=EPOCHS, **options) -> Search:
    made = options.pop("curves", None) or curves(trials, epochs=epochs)
    if mode == "min":
        made = {trial: [-value for value in curve] for trial, curve in made.items()}
    return Search(build_scheduler(setting, mode, epochs), made, **options).run()


# --- every scheduler


@pytest.mark.parametrize("setting", ALL, **by_name)
def test_every_trial_ends_and_whoever_is_stopped_is_told_why(setting):
    ran = search(setting)
    ends = [ran.stops.keys(), ran.completed, ran.failed]
    assert sum(map(len, ends)) == len(set().union(*ends)) == 40
    assert all(ran.epochs[trial] == EPOCHS for trial in ran.completed)
    assert all(ran.epochs[trial] < EPOCHS for trial in ran.stops)
    for decision in ran.stops.values():
        assert decision.action == "stop"
        assert decision.why.startswith(f"rung {decision.rung}: rank {decision.rank} of {decision.compared} with ")
        assert 1 <= decision.rank <= decision.compared
        assert decision.threshold is not None or isinstance(setting, PASHA)
    assert bool(ran.stops) == (not isinstance(setting, RunAll))


@pytest.mark.parametrize("setting", ALL, **by_name)
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.95])
def test_a_memory_rebuilt_from_the_record_decides_as_the_first_one(setting, cut):
    straight = search(setting)
    end = int(cut * len(straight.calls))
    core = build_scheduler(setting, "max", EPOCHS)
    handed_out, again = [], []
    for name, arguments, outcome in straight.calls[:end]:
        if name == "release":
            handed_out += outcome
            if arguments[0]:  # when nobody was asked whether to go on, no record knows of it
                again += call(core, name, arguments)
        else:
            assert call(core, name, arguments) == outcome
    again += core.release(no_more=False)
    assert again[: len(handed_out)] == handed_out
    pending = again[len(handed_out) :]
    for name, arguments, outcome in straight.calls[end:]:
        now = call(core, name, arguments)
        if name == "release":
            now, pending = pending + now, []
        assert now == outcome


@pytest.mark.parametrize("setting", ALL, **by_name)
def test_to_minimise_is_to_maximise_the_negative(setting):
    highest, lowest = search(setting), search(setting, mode="min")
    assert lowest.epochs == highest.epochs
    assert lowest.stops.keys() == highest.stops.keys()
    for trial, decision in highest.stops.items():
        mirrored = lowest.stops[trial]
        assert (mirrored.rung, mirrored.rank, mirrored.compared) == (decision.rung, decision.rank, decision.compared)
        assert (mirrored.threshold or 0.0) == -(decision.threshold or 0.0)
        assert decision.threshold is None or ("at most" in mirrored.why and "at least" in decision.why)


@pytest.mark.parametrize("setting", ALL, **by_name)
@pytest.mark.parametrize("seed", range(3))
def test_trials_that_fail_block_nobody(setting, seed):
    chooser = random.Random(seed)
    failing = {f"t{number:04d}": chooser.randint(1, EPOCHS) for number in chooser.sample(range(40), 25)}
    ran = search(setting, failing=failing, seed=seed, places=1 + 3 * seed)
    assert len(ran.stops) + len(ran.completed) + len(ran.failed) == 40
    assert ran.failed <= failing.keys()


@pytest.mark.parametrize("setting", ALL, **by_name)
@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_curves_that_never_cross_is_not_stopped(setting, seed):
    made = curves(40, noise=0.0)
    best = max(made, key=lambda trial: made[trial][-1])
    ran = search(setting, curves=made, seed=seed)
    if isinstance(setting, PASHA):  # its ranking is settled from the first
        top = setting.grace_epochs * setting.reduction
        assert max(ran.epochs.values()) == ran.epochs[best] == ran.stops[best].rung == top
        assert ran.stops[best].rank == 1
    else:
        assert best in ran.completed


@pytest.mark.parametrize("setting", ALL, **by_name)
@pytest.mark.parametrize("every", [2, 5, 40])
def test_reports_may_skip_epochs(setting, every):
    ran = search(setting, every=every)
    assert len(ran.stops) + len(ran.completed) == 40
    assert all(decision.rung <= ran.epochs[trial] for trial, decision in ran.stops.items())
    assert every < EPOCHS or not ran.stops


@pytest.mark.parametrize("setting", ALL, **by_name)
def test_fewer_epochs_than_the_first_rung(setting):
    ran = search(setting, 5, epochs=1)
    assert len(ran.completed) == 5


@pytest.mark.parametrize("setting", ALL, **by_name)
def test_an_end_before_the_first_epoch_leaves_nothing_behind(setting):
    core = build_scheduler(setting, "max", EPOCHS)
    core.add("t0000")
    core.ended("t0000", 0, None)
    core.add("t0001")
    decision = core.result("t0001", 1, 0.5)
    assert decision.action != "stop"
    assert decision.compared in (None, 1)


# --- as Ray decides


@dataclass(frozen=True)
class RayTrial:
    trial_id: str


class Nobody:
    def get_live_trials(self):
        return []


def ray_actions(scheduler, calls):
    """What Ray's scheduler does with the same calls."""
    actions = []
    for name, arguments, _ in calls:
        if name == "release":
            continue
        trial = RayTrial(arguments[0])
        if name == "add":
            scheduler.on_trial_add(Nobody(), trial)
            continue
        result = {"epoch": arguments[1], "score": arguments[2]}
        if name == "ended":
            if arguments[2] is not None:
                scheduler.on_trial_complete(Nobody(), trial, result)
            continue
        actions.append(scheduler.on_trial_result(Nobody(), trial, result).lower())
    return actions


def own_actions(calls):
    return [outcome.action for name, _, outcome in calls if name == "result"]


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "every"),
    [(1, 3, 27, 1), (2, 2, 27, 1), (10, 3, 60, 1), (3, 4, 200, 1), (5, 3, 4, 1), (2, 3, 60, 2), (2, 3, 60, 4)],
)
@pytest.mark.parametrize("mode", ["max", "min"])
def test_asha_decides_as_ray(grace, reduction, epochs, every, mode):
    stopped = 0
    for seed in range(6):
        ran = search(
            ASHA(grace_epochs=grace, reduction=reduction),
            mode=mode,
            epochs=epochs,
            curves=curves(40, seed=seed, epochs=epochs),
            seed=seed,
            places=1 + 4 * seed,
            every=every,
            failing={"t0003": 2, "t0011": 20},
        )
        scheduler = AsyncHyperBandScheduler(
            "epoch", "score", mode, max_t=max(epochs, grace), grace_period=grace, reduction_factor=reduction
        )
        assert own_actions(ran.calls) == ray_actions(scheduler, ran.calls)
        stopped += len(ran.stops)
    assert bool(stopped) == (epochs > grace)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("every", [1, 3])
def test_the_median_rule_decides_as_ray(mode, every):
    stopped = 0
    for seed in range(6):
        ran = search(
            MedianStopping(grace_epochs=1, min_trials=2),
            mode=mode,
            seed=seed,
            places=1 + 4 * seed,
            every=every,
            failing={"t0003": 2, "t0011": 20},
        )
        scheduler = MedianStoppingRule("epoch", "score", mode, grace_period=1, min_samples_required=2)
        assert own_actions(ran.calls) == ray_actions(scheduler, ran.calls)
        stopped += len(ran.stops)
    assert stopped > 6


def test_asha_explains_itself():
    core = build_scheduler(ASHA(grace_epochs=3, reduction=2), "max", EPOCHS)
    assert core.result("t0000", 2, 0.9) is CONTINUE
    first = core.result("t0000", 3, 0.25)
    assert first == Decision(action="continue", why="rung 3: rank 1 of 1 with 0.25", rung=3, rank=1, compared=1)
    core.result("t0001", 3, 0.75)
    assert core.result("t0002", 4, 0.375) == Decision(
        action="stop",
        why="rung 3: rank 2 of 3 with 0.375; at least 0.5 was needed",
        rung=3,
        rank=2,
        compared=3,
        threshold=0.5,
    )


def test_a_report_that_passes_several_rungs_is_compared_at_the_highest():
    core = build_scheduler(ASHA(grace_epochs=1, reduction=3), "max", EPOCHS)
    assert core.result("t0000", 10, 0.9).rung == 9
    assert core.result("t0000", 11, 0.9) is CONTINUE
    assert core.result("t0001", 1, 0.1).compared == 1


def test_the_median_rule_waits_for_its_grace_and_for_others():
    core = build_scheduler(MedianStopping(grace_epochs=2, min_trials=2), "max", EPOCHS)
    for trial, first in (("t0000", 0.5), ("t0001", 0.7)):
        assert core.result(trial, 1, first) is CONTINUE
        assert core.result(trial, 2, 0.5) is CONTINUE
    assert core.result("t0002", 1, 0.0) is CONTINUE
    assert core.result("t0002", 2, 0.549).to_json() == {
        "action": "stop", "why": "rung 2: rank 2 of 3 with 0.549; at least 0.55 was needed",
        "rung": 2, "rank": 2, "compared": 3, "threshold": pytest.approx(0.55),
    }  # fmt: skip


def test_the_median_rule_counts_an_end_once_and_those_that_skipped_the_epoch():
    core = build_scheduler(MedianStopping(grace_epochs=1, min_trials=2), "max", EPOCHS)
    core.result("t0000", 1, 0.2)
    core.result("t0000", 4, 0.6)  # up to the epochs 2 and 3 its average is 0.2
    core.result("t0001", 2, 0.4)
    core.ended("t0001", 2, 0.4)  # stopped within its third epoch: the second is told again
    core.result("t0002", 1, 0.1)
    core.ended("t0002", 2, 0.7)  # 0.4 on the average
    decision = core.result("t0003", 2, 0.3)
    assert (decision.action, decision.rank, decision.compared) == ("stop", 3, 4)
    assert decision.threshold == pytest.approx(0.4)


# --- Hyperband as in the paper


def expected_counts(reduction, min_epochs, epochs, trials):
    """How many trials reach each rung of each bracket, by the formulas of the paper."""
    halvings = next(s for s in range(99) if min_epochs * reduction ** (s + 1) > epochs)
    counts = []
    while trials:
        for s in range(halvings, -1, -1):
            size = min(trials, -(-(halvings + 1) * reduction**s // (s + 1)))
            trials -= size
            if size:
                rungs = [round(epochs / reduction ** (s - step)) for step in range(s + 1)]
                kept = [size]
                for _ in range(s):
                    kept.append(max(1, kept[-1] // reduction))
                counts.append((size, dict(zip(rungs, kept, strict=True))))
    return counts


def test_the_brackets_are_those_of_the_paper():
    assert expected_counts(3, 1, 81, 143) == [
        (81, {1: 81, 3: 27, 9: 9, 27: 3, 81: 1}),
        (34, {3: 34, 9: 11, 27: 3, 81: 1}),
        (15, {9: 15, 27: 5, 81: 1}),
        (8, {27: 8, 81: 2}),
        (5, {81: 5}),
    ]


def assert_as_in_the_paper(ran, setting, epochs):
    names = list(ran.epochs)
    for size, reached in expected_counts(setting.reduction, setting.min_epochs, epochs, len(names)):
        bracket, names = names[:size], names[size:]
        for rung, count in reached.items():
            assert sum(ran.epochs[trial] >= rung for trial in bracket) == count, (size, rung)
    assert not names


@pytest.mark.parametrize("trials", [143, 100, 300])
def test_the_paper_s_numbers_of_trials_reach_each_rung(trials):
    setting = Hyperband(reduction=3, min_epochs=1)
    ran = search(setting, curves=curves(trials, epochs=81), epochs=81, places=9)
    assert_as_in_the_paper(ran, setting, 81)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_hyperband_never_waits_in_vain(data):
    epochs = data.draw(st.integers(1, 40), "epochs")
    setting = Hyperband(reduction=data.draw(st.integers(2, 4)), min_epochs=data.draw(st.integers(1, 6)))
    made = curves(data.draw(st.integers(1, 60), "trials"), epochs=epochs)
    failing = data.draw(st.dictionaries(st.sampled_from(list(made)), st.integers(1, epochs), max_size=40), "failing")
    ran = search(
        setting,
        curves=made,
        epochs=epochs,
        places=data.draw(st.integers(1, 12), "places"),
        seed=data.draw(st.integers(0, 99), "seed"),
        every=data.draw(st.sampled_from([1, 1, 3]), "every"),
        failing=failing,
    )
    assert len(ran.stops) + len(ran.completed) + len(ran.failed) == len(made)
    if not failing and ran.every == 1:
        assert_as_in_the_paper(ran, setting, epochs)


def test_the_best_of_a_rung_go_on_and_equals_by_their_age():
    core = build_scheduler(Hyperband(reduction=3, min_epochs=3), "max", 9)  # 3 trials at rung 3, then 2 of 9 epochs
    for trial in "abcde":
        core.add(trial)
    assert core.result("d", 8, 0.0) is CONTINUE
    assert core.result("c", 3, 0.5).action == "pause"
    assert core.result("a", 2, 0.0) is CONTINUE
    assert core.result("b", 3, 0.5).action == "pause"
    assert core.release(no_more=False) == []
    assert core.result("a", 3, 0.4).action == "pause"
    released = dict(core.release(no_more=False))
    assert {trial: each.action for trial, each in released.items()} == {"b": "continue", "c": "stop", "a": "stop"}
    assert released["a"].why == "rung 3: rank 3 of 3 with 0.4; at least 0.5 was needed"
    assert core.release(no_more=True) == []


def test_a_report_that_passes_several_rungs_is_waited_for_once():
    core = build_scheduler(Hyperband(reduction=2, min_epochs=2), "max", 16)  # 8 trials at the rungs 2, 4, 8
    for trial in "abcdefgh":
        core.add(trial)
    for value, trial in enumerate("abcdefgh"):
        assert core.result(trial, 5, value / 8).action == "pause"
    released = dict(core.release(no_more=False))
    assert [trial for trial, decision in released.items() if decision.action == "continue"] == ["h", "g"]
    assert {trial: decision.rung for trial, decision in released.items()} == dict.fromkeys("dcba", 2) | dict.fromkeys(
        "hgfe", 4
    )


# --- W&B's early termination


def stops_by_wandb(history, rungs, reduction, strict):
    """The rule on whole histories, best values the smallest; the last report decides on its trial alone."""
    trial = history["last"]
    own = history[trial]
    passed = [rung for rung in rungs if rung <= len(own)]
    if not passed:
        return False
    there = sorted(
        values[passed[-1] - 1] for name, values in history.items() if name != "last" and len(values) >= passed[-1]
    )
    return (own[passed[-1] - 1] if strict else min(own)) > there[int(1.0 / reduction * len(there))]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("rungs", "reduction"), [((3, 9), 3.0), ((1, 2, 4, 8, 16), 2.0), ((2, 5, 11), 2.5)])
def test_early_termination_decides_as_wandb(strict, rungs, reduction):
    setting = HyperbandStopping(rungs=rungs, reduction=reduction, strict=strict)
    between = 0
    for seed in range(4):
        ran = search(setting, mode="min", curves=curves(40, seed=seed), seed=seed, places=2 + 5 * seed)
        history: dict[str, Any] = {}
        for name, arguments, outcome in ran.calls:
            if name not in ("result", "ended"):
                continue
            history.setdefault(arguments[0], []).append(arguments[2])
            history["last"] = arguments[0]
            if name == "result":
                assert (outcome.action == "stop") == stops_by_wandb(history, rungs, reduction, strict)
        between += sum(ran.epochs[trial] > decision.rung for trial, decision in ran.stops.items())
    assert between > 0


# --- PASHA


def pasha(noise=0.0):
    core = build_scheduler(PASHA(grace_epochs=1, reduction=2, noise=noise), "max", 16)
    for trial in "abcd":
        core.add(trial)
    return core


def test_the_ceiling_rises_when_the_ranking_changes():
    core = pasha()
    for trial, value in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        assert core.result(trial, 1, value).action == "continue"
    assert core.result("a", 2, 0.5).action == "pause"
    assert core.result("b", 2, 0.6).action == "pause"
    assert core.release(no_more=False) == []
    assert core.result("c", 2, 0.55).action == "continue"  # third of the first rung, now second
    released = dict(core.release(no_more=False))
    assert {trial: each.action for trial, each in released.items()} == {"a": "stop", "b": "continue"}
    assert core.result("b", 3, 0.6) is CONTINUE
    assert core.result("b", 4, 0.7).action == "pause"
    assert core.result("c", 4, 0.8).action == "continue"
    assert [(trial, each.action) for trial, each in core.release(no_more=False)] == [("b", "stop")]


def test_a_change_within_the_noise_settles_the_search():
    core = pasha(noise=0.11)
    for trial, value in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        core.result(trial, 1, value)
    for trial, value in (("a", 0.5), ("b", 0.6), ("c", 0.55)):
        last = core.result(trial, 2, value)
    assert last.action == "pause"
    assert last.why.endswith("waits, the ranking is settled so far")
    released = core.release(no_more=True)
    assert [(trial, each.action, each.rank) for trial, each in released] == [
        ("a", "stop", 3),
        ("b", "stop", 1),
        ("c", "stop", 2),
    ]
    assert released[1][1].why == "rung 2: rank 1 of 3 with 0.6; the ranking is settled, no trial needs to go further"
    assert core.release(no_more=True) == []
