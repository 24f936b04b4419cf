"""What makes a search leave early: Ctrl-C, a signal, a machine about to be taken away; twice: at once."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; a scheduler's or a cloud's termination; a lost terminal; Slurm's warning before the time limit."""
_LOOK_SECONDS = 1.0
_SILENT_SECONDS = 5.0
"""After so long without a refusal, the next is news."""


class Interrupt:
    """The first signal, or a termination notice, asks the search to leave; a second signal leaves at once.

    Parameters
    ----------
    notice : Path, optional
        A file whose appearance says that the machine is about to go.
    watch : callable, optional
        Another reason to leave, in words, or None; asked now and then.
    """

    def __init__(self, notice: Path | None = None, watch: Callable[[], str | None] = lambda: None) -> None:
        self._notice = notice
        self._watch = watch
        self._looked = float("-inf")
        self.reason: str | None = None

    @property
    def asked(self) -> bool:
        """Whether the search should leave."""
        if self.reason is None and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            if self._notice is not None and self._notice.exists():
                self.ask(f"{self._notice} announces the end of this machine")
            elif other := self._watch():
                self.ask(other)
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """Ask the search to leave, and say why."""
        if self.reason is None:
            self.reason = reason
            sys.stderr.write(
                f"leaving ({reason}): finished epochs are kept, running ones given up; Ctrl-C to leave at once\n"
            )

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until the search should leave; whether it should."""
        deadline = time.monotonic() + seconds
        while not self.asked and time.monotonic() < deadline:
            time.sleep(min(0.1, seconds))
        return self.asked

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Catch the signals for as long as the context lasts; one that is ignored (nohup) stays so."""
        caught = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before = {each: signal.signal(each, self._on_signal) for each in caught}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt
        self.ask(signal.Signals(number).name)


class StoragePause:
    """Waits while the storage refuses, saying so once a refusal; gives up when the search should leave.

    Parameters
    ----------
    interrupt : Interrupt
    patience : float
        How long [s] it will be waited, for the message.
    """

    def __init__(self, interrupt: Interrupt, patience: float) -> None:
        self.interrupt = interrupt
        self._patience = patience
        self._said = float("-inf")

    def __call__(self, seconds: float, error: OSError) -> bool:
        """Wait for at most so long; whether to give up."""
        if time.monotonic() - self._said > _SILENT_SECONDS:
            sys.stderr.write(
                f"the storage refuses ({error.strerror}): the search waits up to {self._patience:.0f} s for it\n"
            )
        self._said = time.monotonic()
        return self.interrupt.wait(seconds)


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, where there is no trial to leave cleanly."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
