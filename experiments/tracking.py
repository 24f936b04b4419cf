"""The process that feeds the trackers while a search runs."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from experiments.credentials import TRACKING_URI, masked
from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths
from experiments.trackers.base import TrackerState, WandbMode, tracker_states
from experiments.trackers.wandb import has_key
from satdet.errors import TrackerError

_DEADLINE_SECONDS = 120.0
"""How long a search that has ended waits for its trackers."""
_LOOK_SECONDS = 1.0
_BEGIN_AGAIN_SECONDS = 30.0


class TrackerProcess:
    """``experiments.sync`` beside the driver, following the record until the driver closes the pipe or is gone.

    It has a session of its own, so that a Ctrl-C meant for the search does not cut off what is still to be sent. One
    that has died is begun again.
    """

    def __init__(self, storage: StoragePaths, search: SearchPaths, options: RunOptions) -> None:
        self._search = search
        mode = wandb_mode(options)
        self._names = tracker_names(options)
        self._command = ["-m", "experiments.sync", search.name, "--storage", str(storage), "--wandb", mode]
        self._environment = dict(os.environ)
        self._environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._hint: list[str] = []
        if options.tracking_uri is not None:
            # Not an argument: it may hold a password, and everybody can read a process list.
            self._environment[TRACKING_URI] = options.tracking_uri
            if masked(options.tracking_uri) == options.tracking_uri:
                self._hint = ["--tracking-uri", options.tracking_uri]
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._next_look = 0.0
        self._before: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._lost: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._before = {name: self._changed(name) for name in self._names}
        self._seen = dict(self._before)
        self._begin()
        return self

    def news(self) -> list[str]:
        """What has happened to the trackers since the last call, in lines for the user; mostly nothing, and cheap."""
        now = time.monotonic()
        if now < self._next_look or self._process is None:
            return []
        self._next_look = now + _LOOK_SECONDS
        lines = []
        if self._process.poll() is not None and now > self._began + _BEGIN_AGAIN_SECONDS:
            lines.append(f"trackers: the process that sends to them is gone ({_how(self._process)}); begun again")
            self._begin()
        for name in self._names:
            if (changed := self._changed(name)) == self._seen[name]:
                continue
            self._seen[name] = changed
            error = TrackerState.load(self._search.trackers, name).error
            if error is not None and name not in self._lost:
                lines.append(f"{name}: {error}; the search goes on, recording")
                self._lost[name] = error
            elif error is None and name in self._lost:
                del self._lost[name]
                lines.append(f"{name}: back; sending what it missed")
        return lines

    def require(self, seconds: float) -> None:
        """Wait until every tracker has had a first answer from its server.

        Raises
        ------
        TrackerError
            If one has not within `seconds`, naming it, its address and the reason.
        """
        until = time.monotonic() + seconds
        while waiting := [name for name in self._names if not self._answered(name)]:
            gone = self._process is None or self._process.poll() is not None
            if time.monotonic() > until or gone:
                missing = "; ".join(self._missing(name) for name in waiting)
                raise TrackerError(f"{missing}; without --require-trackers the search runs, and sends when it can")
            time.sleep(0.1)

    def finish(self) -> None:
        """Wait until all is sent, or say what to do about the rest."""
        process = self._process
        if process is None:
            return
        started = time.monotonic()
        self._hang_up(process)
        try:
            status = process.wait(_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            _end(process)
            status = -1
        if status != 0:
            states = tracker_states(self._search)
            errors = [f"{name}: {states[name].error}" for name in self._names if name in states and states[name].error]
            sys.stderr.write(
                f"the trackers were not sent everything within {time.monotonic() - started:.0f} s"
                f" ({'; '.join(errors) or 'see ' + str(self._search.logs / 'sync.log')});"
                f" send the rest with: {self._rest()}\n"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._hang_up(self._process)

    def _begin(self) -> None:
        self._search.logs.mkdir(parents=True, exist_ok=True)
        if self._process is not None:
            self._hang_up(self._process)
        with (self._search.logs / "sync.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command, "--follow"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self._began = time.monotonic()

    def _hang_up(self, process: subprocess.Popen[bytes]) -> None:
        """Let the process know that nothing more will be recorded."""
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def _changed(self, name: str) -> int:
        """When a tracker's state was last written."""
        try:
            return (self._search.trackers / f"{name}.json").stat().st_mtime_ns
        except OSError:
            return 0

    def _answered(self, name: str) -> bool:
        """Whether a tracker's server has answered the process of this session."""
        written = self._changed(name) != self._before[name]
        return written and TrackerState.load(self._search.trackers, name).contact is not None

    def _missing(self, name: str) -> str:
        state = TrackerState.load(self._search.trackers, name)
        return f"{name}: {state.error or f'no answer yet from {state.address}'}"

    def _rest(self) -> str:
        """The command that sends what was not sent."""
        said = shlex.join(["python", *self._command, *self._hint])
        secret = TRACKING_URI in self._environment and not self._hint
        return said + (" (with MLFLOW_TRACKING_URI as for this search)" if secret else "")


def tracker_names(options: RunOptions) -> list[str]:
    """Those that a search is sent to."""
    return [name for name in ("mlflow", "wandb", "optuna") if name != "wandb" or wandb_mode(options) != "off"]


def wandb_mode(options: RunOptions) -> WandbMode:
    """What was asked for; else online with a key, from the environment or from ``wandb login``, offline without."""
    return options.wandb or ("online" if has_key() else "offline")


def _how(process: subprocess.Popen[bytes]) -> str:
    status = process.returncode
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that is late, with all that it has started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
            return
