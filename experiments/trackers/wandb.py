"""W&B: group = search, one run a trial whose id follows from the search and the trial."""

import hashlib
import os
import shutil
from typing import Any

from experiments.record import Event
from experiments.state import SearchState, TrialState
from experiments.trackers.base import (
    Tracker,
    TrackerSettings,
    TrackerState,
    end_of,
    rung_metrics,
    suggestion,
    trial_summary,
)

PROJECT = "satdet"


class WandbTracker(Tracker):
    """Online runs are continued; offline ones, which W&B cannot continue, are written anew from the record."""

    def __init__(self, settings: TrackerSettings, state: TrackerState) -> None:
        super().__init__(settings, state)
        self._runs: dict[str, Any] = {}

    def apply(self, event: Event, search: SearchState) -> None:
        """Send one event."""
        if event.get("trial") and event["trial"] not in self.state.complete:
            self._apply_trial(event, search)

    def settle(self, *, final: bool) -> bool:
        """Nothing waits: pictures are files of the run's own folder."""
        return True

    def finish(self, search: SearchState) -> None:
        """Close the runs of open trials as far as they go; a resume opens them again."""
        for trial_id, run in self._runs.items():
            run.summary.update(trial_summary(search.trials[trial_id], search))
            run.finish(exit_code=1)
        self._runs = {}

    def close(self) -> None:
        """Finish what is open, so that the files are whole."""
        for run in self._runs.values():
            run.finish()
        self._runs = {}

    def _apply_trial(self, event: Event, search: SearchState) -> None:
        trial = search.trials[event["trial"]]
        if trial.trial_id not in self._runs and event["kind"] in ("started", "result", "ended"):
            self._runs[trial.trial_id] = self._open(trial, search)
        run = self._runs.get(trial.trial_id)
        if run is not None and event["kind"] == "result" and event["epoch"] >= run.starting_step:
            run.log({**event["metrics"], **rung_metrics(event), "epoch": event["epoch"]}, step=event["epoch"])
        elif run is not None and rung_metrics(event) and trial.epochs >= run.starting_step:
            run.log(rung_metrics(event), step=trial.epochs)
        if end_of(event):
            self._end(trial, search)

    def _open(self, trial: TrialState, search: SearchState) -> Any:
        import wandb

        name = str(search.header["declaration"]["name"])
        run_id = wandb_run_id(search.search_id, trial.trial_id)
        if self.settings.wandb == "offline":
            for partial in self.settings.storage.wandb.glob(f"offline-run-*-{run_id}"):
                shutil.rmtree(partial)
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
            },
            dir=str(self.settings.storage.root),
            mode="online" if self.settings.wandb == "online" else "offline",
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )
        run.define_metric("*", step_metric="epoch")
        return run

    def _end(self, trial: TrialState, search: SearchState) -> None:
        run = self._runs[trial.trial_id]
        run.summary.update(trial_summary(trial, search))
        picture = self.settings.search.trial(trial.trial_id) / "detections.png"
        if picture.exists():
            import wandb

            run.log({"detections": wandb.Image(str(picture))}, step=max(trial.epochs, run.starting_step))
        run.finish(exit_code=1 if trial.status == "failed" else 0)
        del self._runs[trial.trial_id]
        self.state.complete.append(trial.trial_id)


def wandb_run_id(search_id: str, trial_id: str) -> str:
    """The id of a trial's run, the same however often the search is interrupted."""
    return hashlib.sha256(f"{search_id}/{trial_id}".encode()).hexdigest()[:16]
