"""Leaving early: signals, a termination notice, and twice."""

import os
import signal

import pytest

from experiments import interrupt as module
from experiments.interrupt import Interrupt, StoragePause


@pytest.fixture
def at_once(monkeypatch):
    """Look for notices at every question."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)


@pytest.mark.parametrize("number", module._SIGNALS)
def test_a_signal_asks_and_a_second_one_leaves(number, capsys):
    interrupt = Interrupt()
    with interrupt.handled():
        assert not interrupt.asked
        os.kill(os.getpid(), number)
        assert interrupt.asked and interrupt.reason == signal.Signals(number).name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_under_nohup_a_lost_terminal_is_not_noticed():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt = Interrupt()
        with interrupt.handled():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_termination_notice_asks(tmp_path, at_once, capsys):
    interrupt = Interrupt(tmp_path / "notice")
    assert not interrupt.asked
    (tmp_path / "notice").touch()
    assert interrupt.asked and interrupt.asked
    assert "notice announces the end of this machine" in capsys.readouterr().err


def test_whoever_watches_can_ask(at_once):
    reasons = iter([None, "process 7 on gpu7 has taken the search over"])
    interrupt = Interrupt(watch=lambda: next(reasons))
    assert [interrupt.asked, interrupt.asked] == [False, True]


def test_waiting_for_a_storage_says_so_once_and_ends_when_asked(at_once, capsys):
    interrupt = Interrupt()
    pause = StoragePause(interrupt, patience=90)
    error = OSError(28, "No space left on device")
    assert not pause(0.01, error) and not pause(0.01, error)
    assert capsys.readouterr().err == (
        "the storage refuses (No space left on device): the search waits up to 90 s for it\n"
    )
    interrupt.ask("SIGTERM")
    assert pause(60.0, error)
