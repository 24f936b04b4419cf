"""What is seen while a search runs."""

import io

import pytest
from rich.console import Console

from experiments.progress import LiveScreen, Outlook, PlainScreen, clock
from experiments.state import SearchState
from tests.searches import COMPLETED, begin, report, suggest


@pytest.fixture
def events(tmp_path):
    with begin(tmp_path / "record.jsonl") as record:
        one, two = suggest(record, 0), suggest(record, 1, "resnet34")
        report(record, one, 1, 0.3)
        report(record, two, 1, 0.2)
        record.append("retried", trial=two, error="node died")
        report(record, one, 2, 0.5, COMPLETED)
        return list(record.events)


OUTLOOK = Outlook("backbone_ablation", trials=4, concurrency=2, epochs=lambda trial: 2)


def play(screen, events):
    state = SearchState()
    for event in events:
        state.apply(event)
        screen.event(event, state)
        screen.tick(state)
    return state


def test_plain_screen_says_every_event_in_a_line(events):
    stream = io.StringIO()
    play(PlainScreen(Console(file=stream, width=60), OUTLOOK), events)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "t0000 resnet18: started"
    assert any(line.startswith("t0000 resnet18: epoch 1/2 map_50 0.300 loss 1.000") for line in lines)
    assert any("lost (node died)" in line for line in lines)
    assert lines[-1] == "t0000 resnet18: finished (completed), best map_50 0.500"
    assert "1/4 trials ended, 1 running, best map_50 0.500 (resnet18)" in lines[-2]


def test_live_screen_shows_running_trials_and_leaves_nothing_behind(events):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160, height=40)
    screen = LiveScreen(console, OUTLOOK)
    play(screen, events)
    shown = stream.getvalue()
    assert "resnet34" in shown and "1/2" in shown and "best map_50 0.500" in shown
    screen.say("a line that stays")
    screen.close()
    assert "a line that stays" in stream.getvalue()


def test_time_left_is_epochs_left_at_the_mean_pace(events):
    state = SearchState.of(events)
    # 3 epochs of 10 s are done; 1 of t0001 and 2 of each of two trials not yet suggested are left, two at a time.
    assert OUTLOOK.seconds_left(state) == pytest.approx(5 * 10 / 2)
    assert OUTLOOK.seconds_left(SearchState.of(events[:4])) is None


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min"), (-5, "0 s")])
def test_clock(seconds, text):
    assert clock(seconds) == text
