"""Searches replayed from made-up curves."""

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.learning_curves import read
from experiments import simulate
from experiments.schedulers import CONTINUE, SchedulerCore
from experiments.simulation import virtual
from experiments.simulation.comparison import Interval, Settings, Standing, compare_strategies
from experiments.simulation.recordings import Recording, Recordings
from experiments.simulation.strategies import STRATEGIES
from experiments.simulation.virtual import replay
from satdet.config import TrialConfig, with_values
from satdet.errors import ConfigError, UsageError
from search_spaces.declare import (
    ASHA,
    Choice,
    Experiment,
    Hyperband,
    LogUniform,
    Maximise,
    Random,
    RunAll,
    SearchSpace,
    SimulatedSurvey,
    Smoke,
    When,
)

EPOCHS = 9
RATE, BATCH = "optimizer.learning_rate", "training.batch_size"
BEST_RATE, BEST = 1e-3, 0.9
SPACE = SearchSpace({BATCH: Choice(2, 4), RATE: LogUniform(1e-5, 1e-1)})


def declared(*, searcher=None, scheduler=None, trials=20, space=SPACE):
    survey = SimulatedSurvey()
    return Experiment(
        name="made_up",
        question="Which?",
        base=with_values(TrialConfig(), {"training.epochs": EPOCHS}),
        space=space,
        objective=Maximise("map_50"),
        searcher=searcher or Random(),
        scheduler=scheduler or RunAll(),
        trials=trials,
        seeds=1,
        survey=survey,
        smoke=Smoke(survey=survey),
    )


def level(rate, batch):
    """What a made-up training reaches: the best at one rate and the smaller batch."""
    return BEST - 0.2 * abs(math.log10(rate / BEST_RATE)) - (0.05 if batch == 4 else 0.0)


def recorded(epochs=EPOCHS, seconds=2.0):
    points = [(batch, 10.0 ** (half / 2)) for batch in (2, 4) for half in range(-10, -1)]
    return [
        Recording(
            point,
            {BATCH: batch, RATE: rate},
            tuple(level(rate, batch) * epoch / EPOCHS for epoch in range(1, epochs + 1)),
            (seconds,) * epochs,
        )
        for point, (batch, rate) in enumerate(points)
    ]


@pytest.fixture(scope="module")
def recordings():
    return Recordings(declared(), recorded())


def settings(**changes):
    values = {"seeds": 4, "trials": 12, "workers": 3, "first_rung": 1, "clock": "equal"}
    return Settings(**values | changes)


# --- which recording stands in for a suggestion


@pytest.mark.parametrize(
    ("rate", "batch", "expected"),
    [(1e-3, 2, 1e-3), (1.2e-3, 2, 1e-3), (2.9e-3, 2, 10**-2.5), (1e-1, 4, 1e-1), (1e-5, 4, 1e-5), (8e-2, 4, 1e-1)],
)
def test_the_nearest_recording_stands_in(recordings, rate, batch, expected):
    (found,) = recordings.nearest({RATE: rate, BATCH: batch})
    assert found.values[RATE] == pytest.approx(expected)
    assert found.values[BATCH] == batch


@pytest.mark.parametrize("values", [{RATE: 1.0, BATCH: 2}, {RATE: 1e-3, BATCH: 3}, {RATE: 1e-3}])
def test_a_value_outside_the_space_has_no_recording(recordings, values):
    with pytest.raises(ConfigError, match="outside the space of the recorded curves"):
        recordings.nearest(values)


def test_recordings_need_a_space_with_a_cube_and_something_recorded():
    conditional = SearchSpace({BATCH: Choice(2, 4)}, (When(f"{BATCH} == 2", {RATE: LogUniform(1e-5, 1e-1)}),))
    with pytest.raises(ConfigError, match="conditions"):
        Recordings(declared(space=conditional), recorded())
    with pytest.raises(ConfigError, match="no training"):
        Recordings(declared(), [])


def test_trials_of_a_point_take_its_seeds_in_turn():
    values = {BATCH: 2, RATE: 1e-3}
    twice = Recordings(declared(), [Recording(0, values, (each,) * EPOCHS, (1.0,) * EPOCHS) for each in (0.3, 0.6)])
    found = replay(declared(trials=2), twice, epochs=99, workers=1)
    assert found.best == (0.3,) * EPOCHS + (0.6,) * EPOCHS


# --- the search


def test_random_search_finds_the_best_recording(recordings):
    found = replay(declared(trials=60), recordings, epochs=10**6)
    assert found.trials == 60
    assert len(found.best) == 60 * EPOCHS
    assert found.best[-1] == pytest.approx(BEST)
    assert list(found.best) == sorted(found.best)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_seed_decides_everything(recordings, name):
    def search(seed):
        experiment = STRATEGIES[name].experiment(recordings.experiment, seed=seed, trials=11, first_rung=1)
        return replay(experiment, recordings, epochs=11 * EPOCHS)

    assert search(1) == search(1)
    assert search(1) != search(2)


@pytest.mark.parametrize("scheduler", [ASHA(grace_epochs=1), ASHA(grace_epochs=3), Hyperband()])
def test_a_scheduler_spends_fewer_epochs_on_as_many_trials(recordings, scheduler):
    whole = replay(declared(trials=40), recordings, epochs=10**6)
    halved = replay(declared(trials=40, scheduler=scheduler), recordings, epochs=10**6)
    assert halved.trials == whole.trials == 40
    assert 40 * getattr(scheduler, "grace_epochs", 1) <= len(halved.best) < 0.7 * len(whole.best)
    assert halved.best[-1] == pytest.approx(whole.best[-1])  # curves that never cross lose nothing


@pytest.mark.parametrize("epochs", [1, 10, 50])
def test_the_budget_is_kept(recordings, epochs):
    assert len(replay(declared(trials=99, scheduler=ASHA(grace_epochs=1)), recordings, epochs=epochs).best) == epochs


@pytest.mark.parametrize(("workers", "clock", "seconds"), [(1, "equal", 72), (4, "equal", 18), (4, "recorded", 36)])
def test_the_clock_counts_trials_at_a_time(recordings, workers, clock, seconds):
    assert replay(declared(trials=8), recordings, epochs=10**6, workers=workers, clock=clock).seconds == seconds


def test_faster_trials_report_first():
    slow, fast = ({BATCH: batch, RATE: 1e-3} for batch in (2, 4))
    trainings = [
        Recording(0, slow, (0.1,) * EPOCHS, (100.0,) * EPOCHS),
        Recording(1, fast, (0.2,) * EPOCHS, (1.0,) * EPOCHS),
    ]
    found = replay(declared(trials=30), Recordings(declared(), trainings), epochs=EPOCHS, workers=30)
    assert found.best == (0.2,) * EPOCHS
    assert found.seconds < 100


@pytest.mark.parametrize("scheduler", [RunAll(), ASHA(grace_epochs=1), Hyperband()])
@pytest.mark.parametrize("survived", [0, 4])
def test_a_recorded_failure_ends_its_trial_and_not_the_search(scheduler, survived):
    failing = Recordings(declared(), recorded(epochs=survived))
    found = replay(declared(trials=12, scheduler=scheduler), failing, epochs=10**6)
    assert found.trials == 12
    assert len(found.best) <= 12 * survived


def test_a_search_that_learns_nothing_of_failures_goes_on(recordings):
    mixed = [each if each.values[BATCH] == 2 else Recording(each.point, each.values, (), ()) for each in recorded()]
    experiment = STRATEGIES["tpe"].experiment(declared(), seed=0, trials=14, first_rung=1)
    found = replay(experiment, Recordings(declared(), mixed), epochs=10**6)
    assert found.trials == 14
    assert 0 < len(found.best) < 14 * EPOCHS


def test_the_scheduler_is_told_as_in_a_real_search(recordings, monkeypatch):
    calls = []

    class Spy(SchedulerCore):
        def add(self, trial_id):
            calls.append(("add", trial_id))

        def result(self, trial_id, epoch, value):
            calls.append(("result", trial_id, epoch))
            return CONTINUE

        def ended(self, trial_id, epoch, value):
            calls.append(("ended", trial_id, epoch))

    monkeypatch.setattr(virtual, "build_scheduler", lambda settings, mode, epochs: Spy(mode))
    replay(declared(trials=2), recordings, epochs=10**6, workers=1)
    one, other = (
        [("add", trial), *(("result", trial, epoch) for epoch in range(1, EPOCHS)), ("ended", trial, EPOCHS)]
        for trial in ("t0000", "t0001")
    )
    assert calls == one + other


# --- the comparison


def test_strategies_are_compared_with_random_search():
    known_at_once = [Recording(each.point, each.values, each.curve[-1:] * EPOCHS, each.seconds) for each in recorded()]
    recordings = Recordings(declared(), known_at_once)
    strategies = {name: STRATEGIES[name] for name in ("random", "random_asha")}
    found = compare_strategies(recordings, strategies, settings(seeds=12, trials=8))
    random, asha = found.standings.values()
    assert found.epochs == 8 * EPOCHS
    assert found.target == random.at(found.epochs).middle == np.median(random.best[:, -1])
    assert random.trials == 8 < asha.trials
    assert asha.best.mean() > random.best.mean()
    assert asha.ratio.high < random.ratio.high
    assert random.ratio.low <= random.ratio.middle <= random.ratio.high


def test_the_epochs_to_the_target_are_counted():
    rising = Recordings(declared(), [Recording(0, {BATCH: 2, RATE: 1e-3}, (0.0,) * 5 + (0.5,) * 4, (1.0,) * EPOCHS)])
    found = compare_strategies(rising, {"random": STRATEGIES["random"]}, settings(trials=2, workers=1))
    assert found.target == 0.5
    assert found.standings["random"].ratio == Interval(6 / 18, 6 / 18, 6 / 18)
    assert found.standings["random"].reached == 1


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.1, 0.05, 0.33), "yes"),
        ((0.3, 0.2, 0.4), "not shown"),
        ((0.4, 0.3, math.inf), "not shown"),
        ((0.5, 0.34, 0.9), "no"),
        ((math.inf, math.inf, math.inf), "no"),
    ],
)
def test_the_verdict_needs_the_whole_interval(interval, verdict):
    standing = Standing("x", np.zeros((1, 1)), 1, Interval(*interval), 0.0)
    assert standing.verdict.partition(":")[0] == verdict


def test_strategies_and_recordings_go_to_other_processes(recordings):
    copy, strategies = pickle.loads(pickle.dumps((recordings, STRATEGIES)))
    values = {RATE: 2e-4, BATCH: 4}
    assert strategies == STRATEGIES
    assert copy.nearest(values) == recordings.nearest(values)


# --- the command


@pytest.fixture
def curves(tmp_path):
    header = {"experiment": declared().to_json()}
    lines = [
        {"point": each.point, "values": each.values, "map_50": each.curve, "seconds": each.seconds}
        for each in recorded()
    ]
    path = tmp_path / "curves.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    return path


def test_the_command_prints_and_writes(curves, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["random_asha", "--seeds", "3", "--trials", "9", "--processes", "1"]
    assert simulate.main([*arguments, "--curves", str(curves), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "random + ASHA: the best of 9 random trials" in printed
    assert {path.name for path in out.iterdir()} == {"replay.md", "replay.json", "replay.png"}
    found = json.loads((out / "replay.json").read_text())
    assert list(found["strategies"]) == ["random", "random_asha"]
    assert f"{found['target']:.3f}" in printed
    assert (out / "replay.md").read_text().startswith("| strategy |")
    assert simulate.main([*arguments, "--curves", str(curves)]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anneal"], "no strategy 'anneal'"),
        (["--seeds", "0"], "--seeds 0 is below"),
        (["--first-rung", "0"], "--first-rung 0 is below"),
        (["--curves", "nowhere.jsonl"], "nowhere.jsonl: no recorded curves"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, curves, capsys):
    assert simulate.main(["--curves", str(curves), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}\n", "not json\n", '{"experiment": {}}\n'])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "curves.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"curves\.jsonl: not a file of recorded curves"):
        Recordings.open(path)


def test_nothing_is_trained(curves):
    code = (
        "import sys; from experiments import simulate; status = simulate.main(sys.argv[1:]);"
        " sys.exit(status or any(name in sys.modules for name in ('torch', 'ray', 'satdet.training')))"
    )
    arguments = ["tpe_asha", "bohb", "--seeds", "1", "--trials", "12", "--processes", "1", "--curves", str(curves)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


# --- the recorded curves


def test_recording_goes_on_after_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "curves.jsonl"
    path.write_text('{"command": "x"}\n{"point": 0}\n{"poi')
    assert read(path) == ({"command": "x"}, [{"point": 0}])


def test_the_committed_curves_can_be_replayed():
    recordings = Recordings.open(simulate.CURVES)
    assert len(recordings.points) >= 32
    longest = recordings.experiment.base.training.epochs
    assert all(len(each.curve) <= longest for point in recordings.points for each in point)
    experiment = STRATEGIES["random_asha"].experiment(recordings.experiment, seed=0, trials=5, first_rung=3)
    assert len(replay(experiment, recordings, epochs=100).best) == 100
