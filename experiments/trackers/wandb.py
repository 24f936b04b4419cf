"""W&B: group = search, one run a trial whose id follows from the search and the trial.

A server that cannot be reached is not waited for: runs are written to files, whole and readable, and sent from the
record once it answers.
"""

import hashlib
import netrc
import os
import shutil
import time
from typing import Any
from urllib.parse import urlsplit

from experiments.credentials import masked
from experiments.record import Event
from experiments.state import SearchState, TrialState
from experiments.trackers.base import Tracker, TrackerSettings, TrackerState, suggestion, trial_summary
from experiments.trackers.outage import Anew, Unreachable, ask
from experiments.trackers.outbox import Outbox, Outgoing
from experiments.trackers.wandb_files import is_whole
from satdet._storage import sync, sync_tree
from satdet.errors import StorageError

PROJECT = "satdet"
_SERVER = "https://api.wandb.ai"
_PROBE_SECONDS = 5.0
_PROBE_EVERY_SECONDS = 15.0
_CLOSE_SECONDS = 30.0
"""How long W&B may take to close a file that it was asked to close."""
_FINISH_SECONDS = 15.0
"""How long a run that has ended may take to upload the rest; then it is sent from the record another time."""


class WandbTracker(Tracker):
    """Online runs are continued; offline ones, which W&B cannot continue, are written anew from the record."""

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        super().__init__(settings, state)
        state.mode = settings.wandb
        self._online = settings.wandb == "online"
        self._outbox = Outbox()
        self._search: SearchState | None = None
        self._runs: dict[str, Any] = {}
        self._ended: dict[str, float] = {}
        self._look_until: dict[str, float] = {}
        self._used = False
        self._next_probe = time.monotonic() + _PROBE_EVERY_SECONDS

    @staticmethod
    def address(settings: TrackerSettings) -> str:
        """The server, whether or not it is used."""
        return masked(_server())

    def connect(self) -> None:
        """Write files where the server does not answer or nobody is logged in to it."""
        if self._online and (lost := self._lost()):
            self._online = False
            self.trouble = f"{lost}; runs are written to {self.settings.storage.wandb}"

    def apply(self, event: Event, search: SearchState) -> None:
        """Take note of one event."""
        self._search = search
        if event.get("trial"):
            self._outbox.add(event, search.trials[event["trial"]].epochs)

    def settle(self, *, final: bool) -> bool:
        """Log what was noted; look from time to time whether the server has gone or come back."""
        if self.settings.wandb == "online" and time.monotonic() >= self._next_probe:
            self._next_probe = time.monotonic() + _PROBE_EVERY_SECONDS
            lost = self._lost()
            if self._online:
                self.trouble = lost
            elif lost is None:
                raise Anew
        self._settled()
        if self._search is not None:
            for trial_id, outgoing in list(self._outbox.changed.items()):
                self._send(self._search.trials[trial_id], outgoing, self._search)
                self._outbox.sent(trial_id)
        return True

    def finish(self, search: SearchState) -> None:
        """Close the runs of open trials as far as they go; a resume opens them again."""
        for trial_id, run in list(self._runs.items()):
            run.summary.update(trial_summary(search.trials[trial_id], search))
            run.finish(exit_code=1)
            del self._runs[trial_id]
        self._let_go()
        self._settled(closed=True)

    def close(self) -> None:
        """Finish what is open, so that the files are whole; what a lost server has not taken is given up."""
        runs, self._runs = self._runs, {}
        try:
            if not self._online:
                for run in runs.values():
                    run.finish()
        finally:
            self._let_go()  # else its process would know the runs as in use for ever

    def _let_go(self) -> None:
        """End W&B's own process, which returns when it has closed its files."""
        if self._used:
            import wandb

            wandb.teardown(exit_code=0)
            self._used = False

    def _settled(self, *, closed: bool = False) -> None:
        """Count trials as complete that have ended and, where they are files, once these are whole.

        W&B closes files a moment after it was asked to. What is not whole then, because the storage was away for a
        while, is written anew.

        Raises
        ------
        StorageError
            If a file is not whole although it should be by now.
        """
        for trial_id, at in list(self._ended.items()):
            if trial_id in self.state.local and not self._has_whole_files(trial_id):
                if closed or time.monotonic() > self._look_until[trial_id]:
                    raise StorageError(f"the file of {trial_id} in {self.settings.storage.wandb} is not whole")
                continue
            self.state.complete[trial_id] = at
            del self._ended[trial_id]

    def _has_whole_files(self, trial_id: str) -> bool:
        folders = list(self.settings.storage.wandb.glob(f"offline-run-*-{self.state.run_ids[trial_id]}"))
        if len(folders) != 1 or not is_whole(folders[0]):
            return False
        sync_tree(folders[0])  # which W&B does not: a storage that breaks off must not lose what counts as complete
        sync(folders[0].parent)
        return True

    def _lost(self) -> str | None:
        """Why runs cannot be sent to the server; None if they can."""
        try:
            if not has_key():
                raise Unreachable("nobody is logged in: set WANDB_API_KEY or run wandb login")
            ask(f"{_server()}/healthz", _PROBE_SECONDS)
        except Unreachable as error:
            return f"{masked(_server())} cannot be reached ({error})"
        return None

    def _send(self, trial: TrialState, outgoing: Outgoing, search: SearchState) -> None:
        trial_id = trial.trial_id
        ended = trial.ended_at is not None
        there = not self._online or trial_id not in self.state.local
        if ended and there and trial.ended_at in (self.state.complete.get(trial_id), self._ended.get(trial_id)):
            return
        self.state.complete.pop(trial_id, None)
        self._ended.pop(trial_id, None)
        run = self._runs.get(trial_id)
        if run is None:
            if not trial.attempts and not ended:
                return
            if not outgoing.whole:
                raise Anew
            run = self._runs[trial_id] = self._open(trial, outgoing, search)
        for point in outgoing.points:
            if point.step >= run.starting_step:
                run.log(point.metrics, step=point.step)
                self.state.sent(trial_id, points=1)
        if ended:
            run.summary.update(trial_summary(trial, search))
            self._end(run, trial)

    def _open(self, trial: TrialState, outgoing: Outgoing, search: SearchState) -> Any:
        import wandb

        name = str(search.header["declaration"]["name"])
        run_id = wandb_run_id(search.search_id, trial.trial_id)
        if not self._online:
            self._remove_files(run_id)
            self.state.local = sorted({*self.state.local, trial.trial_id})
        self.state.run_ids[trial.trial_id] = run_id
        self.settings.storage.wandb.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id,
            name=f"{trial.trial_id} " + " ".join(str(value) for value in trial.values.values()),
            group=name,
            job_type="trial",
            config={
                **trial.config,
                "seed": trial.seed,
                "search_id": search.search_id,
                "trial_id": trial.trial_id,
                **suggestion(trial),
                **({"continued": outgoing.continued} if outgoing.continued else {}),
            },
            dir=str(self.settings.storage.root),
            mode="online" if self._online else "offline",
            resume="allow",
            reinit="create_new",
            allow_val_change=True,
            settings=wandb.Settings(
                base_url=_server(),
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                init_timeout=_FINISH_SECONDS,
                finish_timeout=_FINISH_SECONDS if self._online else 0.0,
                finish_timeout_raises=True,
            ),
        )
        self._used = True
        run.define_metric("*", step_metric="epoch")
        self.state.sent(trial.trial_id)
        return run

    def _end(self, run: Any, trial: TrialState) -> None:
        picture = self.settings.search.trial_here(trial.trial_id) / "detections.png"
        if picture.exists():
            import wandb

            run.log({"detections": wandb.Image(str(picture))}, step=max(trial.epochs, run.starting_step))
        run.finish(exit_code=1 if trial.status == "failed" else 0)
        del self._runs[trial.trial_id]
        if trial.ended_at is not None:
            self._ended[trial.trial_id] = trial.ended_at
            self._look_until[trial.trial_id] = time.monotonic() + _CLOSE_SECONDS
        if self._online and trial.trial_id in self.state.local:
            self._remove_files(self.state.run_ids[trial.trial_id])
            self.state.local.remove(trial.trial_id)

    def _remove_files(self, run_id: str) -> None:
        for folder in self.settings.storage.wandb.glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(folder)


def wandb_run_id(search_id: str, trial_id: str) -> str:
    """The id of a trial's run, the same however often the search is interrupted."""
    return hashlib.sha256(f"{search_id}/{trial_id}".encode()).hexdigest()[:16]


def has_key() -> bool:
    """Whether there is a key for the server, in the environment or left by ``wandb login`` in the user's netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(_server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", _SERVER).rstrip("/")
