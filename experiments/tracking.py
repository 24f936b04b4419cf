"""The process that feeds the trackers while a search runs."""

import netrc
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths
from experiments.trackers.base import WandbMode, tracker_states

_DEADLINE_SECONDS = 60.0


class TrackerProcess:
    """``experiments.sync`` beside the driver, following the record until the driver closes the pipe or is gone.

    It has a session of its own, so that a Ctrl-C meant for the search does not cut off what is still to be sent.
    """

    def __init__(self, storage: StoragePaths, search: SearchPaths, options: RunOptions) -> None:
        self._search = search
        self._command = [sys.executable, "-m", "experiments.sync", search.name, "--storage", str(storage.root)]
        self._command += ["--wandb", wandb_mode(options)]
        self._environment = dict(os.environ)
        self._environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        if options.tracking_uri is not None:
            # Not an argument: it may hold a password, and everybody can read a process list.
            self._environment["MLFLOW_TRACKING_URI"] = options.tracking_uri
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._search.logs.mkdir(parents=True, exist_ok=True)
        with (self._search.logs / "sync.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--follow"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def finish(self) -> None:
        """Wait until all is sent, or say what to do about the rest."""
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        started = time.monotonic()
        try:
            status = process.wait(_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            status = -1
        if status != 0:
            errors = [f"{name}: {state.error}" for name, state in tracker_states(self._search).items() if state.error]
            sys.stderr.write(
                f"the trackers were not sent everything within {time.monotonic() - started:.0f} s"
                f" ({'; '.join(errors) or 'see ' + str(self._search.logs / 'sync.log')});"
                f" send the rest with: python {' '.join(self._command[1:])}\n"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def wandb_mode(options: RunOptions) -> WandbMode:
    """What was asked for; else online with a key, from the environment or from ``wandb login``, offline without."""
    if options.wandb is not None:
        return options.wandb
    return "online" if os.environ.get("WANDB_API_KEY") or _logged_in() else "offline"


def _logged_in() -> bool:
    """Whether ``wandb login`` has left a key for its server in the user's netrc file."""
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(server) is not None
    except (OSError, netrc.NetrcParseError):
        return False
