"""One session of a search: from the point where all is known to be well to the summary."""

import hashlib
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.busy import BusyWatch
from experiments.data import SearchData, stored_key
from experiments.interrupt import Interrupt, StoragePause
from experiments.keeping import CheckpointCap, Keep, SpaceWatch
from experiments.live import LiveSearch
from experiments.models import export_missing_models, lost_models
from experiments.node_facts import environment
from experiments.nodes import Nodes
from experiments.opening import lost_lines
from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths
from experiments.plan import Plan
from experiments.progress import Outlook, Screen, build_screen
from experiments.ray_cluster import free_room
from experiments.record import VERSION
from experiments.resources import TrialResources, grown
from experiments.searchers import build_searcher
from experiments.state import OPEN, SearchState, TrialState
from experiments.stoppers import SearchEnds
from experiments.stopping.speeds import median_rates
from experiments.summary import write_summary
from experiments.tracking import TrackerProcess
from satdet._storage import keep_trying
from satdet.config import TrialConfig, unflatten
from satdet.errors import SatdetError
from search_spaces.declare import SpeedGuard

if TYPE_CHECKING:
    from experiments.schedulers.ray_scheduler import DecidingScheduler
    from experiments.trial_run import TrialOrder

_TRACKERS_SECONDS = 45.0
"""How long ``--require-trackers`` waits for their first answers; opening a new SQLite database takes some seconds."""


@dataclass(frozen=True)
class Session:
    """All that a driver has at hand while trials run.

    Attributes
    ----------
    live : LiveSearch
        With the record open for writing.
    plan : Plan
    data : SearchData
    options : RunOptions
    storage : StoragePaths
    search : SearchPaths
    pause : StoragePause
        Waits while the storage refuses; holds what asks the search to leave.
    nodes : Nodes
        Those of the cluster, if it is one.
    """

    live: LiveSearch
    plan: Plan
    data: SearchData
    options: RunOptions
    storage: StoragePaths
    search: SearchPaths
    pause: StoragePause
    nodes: Nodes = field(default_factory=Nodes)

    def run(self, reopened: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Run what is left of the search, and return its summary.

        Parameters
        ----------
        reopened : sequence of mapping
            Ended trials that go on, as they are recorded.

        Raises
        ------
        SatdetError
            If the search broke off; what is recorded is kept.
        """
        for line in lost_lines(self.search, self.live.record):
            sys.stderr.write(f"{line}\n")
        self._note_beginning(reopened)
        with self._interrupt.handled(), TrackerProcess(self.storage, self.search, self.options) as trackers:
            screen = build_screen(self._outlook())
            try:
                if self.options.require_trackers:
                    trackers.require(_TRACKERS_SECONDS)
                if work_left(self.live.state, self.search, self.plan, self.options):
                    self._run_trials(screen, trackers)
                export_missing_models(self.live.state, self.search)
            except SatdetError:
                raise
            except Exception as error:
                if self.live.record.lost is not None:  # Ray has made another error of it
                    raise self.live.record.lost from None
                reason = " ".join(f"{type(error).__name__}: {error}".split())[-300:]
                raise SatdetError(f"the search broke off ({reason}); what is recorded is kept, resume it") from error
            finally:
                screen.close()
                if self.live.record.lost is None:
                    self.live.note("session_end", status=self._status())
                    self._summarise()
            trackers.finish()
        return self._summarise()

    @property
    def _interrupt(self) -> Interrupt:
        return self.pause.interrupt

    def _note_beginning(self, reopened: Sequence[Mapping[str, Any]]) -> None:
        """Record the search, if this is its first session, then the session, and the trials that it has go on."""
        live, options, experiment = self.live, self.options, self.plan.experiment
        if not live.state.header:
            live.note(
                "search",
                version=VERSION,
                search_id=secrets.token_hex(8),
                declaration=experiment.to_json(),
                digest=experiment.digest(),
                options=options.recorded(),
                data=self.data.to_json(),
                **({"checkpoint": file_identity(Path(options.checkpoint))} if options.checkpoint else {}),
                environment=environment(),
            )
        given = self.plan.resources
        session = {"options": options.recorded(), "cpus": given.cpus, "workers": given.workers}
        session |= {"trials": self.plan.trials, "concurrency": given.concurrency, "dropped": live.record.dropped}
        live.note("session", host=socket.gethostname(), process=os.getpid(), **session)
        for change in reopened:
            live.note("continued", **change)

    def _run_trials(self, screen: Screen, trackers: TrackerProcess) -> None:
        """Give the trials to Ray Tune and wait until all have ended, or somebody or the budget ends the search."""
        from ray import tune

        from experiments.measuring import EvaluationTrainable
        from experiments.trainable import TrialTrainable
        from experiments.tuning import RecordingCallback, SearchStopper

        live, search = self.live, self.search
        for line in self.plan.skipped_lines():
            screen.say(line)
        scheduler = self._scheduler()
        ends = search_ends(self.plan, self.options, live.state)
        space = SpaceWatch(search.root, screen.say)
        cap = CheckpointCap(search, self.options.keep.total_bytes if self.options.keep else None, screen.say)
        busy = BusyWatch(self.plan.resources, free_room, screen.say)
        live.listen(screen.event)
        live.listen(cap.event)
        live.listen(busy.event)
        live.listen(self.nodes.event)

        def tick() -> None:
            space.look()
            busy.look(live.state)
            self.nodes.look(screen.say)
            for line in trackers.news():
                screen.say(line)
            screen.tick(live.state)

        # Not Tuner.fit: it would pickle searcher, scheduler and callbacks for a restore that the record makes needless.
        # What Ray writes is never read back, so it has no place in the storage, which may be slow, shared or full.
        with tempfile.TemporaryDirectory(prefix="satdet-ray-", ignore_cleanup_errors=True) as scratch:
            tune.run(
                TrialTrainable if self.plan.experiment.task == "train" else EvaluationTrainable,
                name=search.name,
                storage_path=scratch,
                search_alg=self._trials(scheduler, screen),
                scheduler=scheduler,
                reuse_actors=True,
                stop=SearchStopper(live, ends, self._interrupt),
                callbacks=[RecordingCallback(live, scheduler, tick, self._interrupt.ask, screen.say)],
                verbose=0,
                raise_on_failed_trial=False,
            )
        reason = ends.reason(live.state)
        if reason is not None and not self._interrupt.asked:
            end = {"status": "stopped", "stop_reason": reason, "error": None, "by": "driver"}
            for trial in live.state.open_trials():
                live.note("ended", trial=trial.trial_id, end=end)

    def _trials(self, scheduler: "DecidingScheduler", screen: Screen) -> Any:
        """What hands out trials to Tune."""
        from ray.tune.execution.placement_groups import PlacementGroupFactory

        from experiments.tuning import RecordedSearch

        given, wanted = self.plan.resources, self.plan.experiment.resources
        restored = lost_models(self.live.state, self.search)
        for trial in restored:
            screen.say(f"{trial.trial_id}: its model was lost with its process; trained again to epoch {trial.epochs}")
        return RecordedSearch(
            self.live,
            build_searcher(self.plan.experiment),
            scheduler,
            self._order,
            resources=given,
            place=lambda given: self.nodes.placed(PlacementGroupFactory(given.bundles())),
            grow=partial(grown, given, self.plan.capacity) if wanted.grow else None,
            limit=self.plan.trials,
            concurrency=given.concurrency,
            interrupt=self._interrupt,
            restored=restored,
        )

    def _scheduler(self) -> "DecidingScheduler":
        """The scheduler and the stoppers, with all that they knew."""
        from experiments.schedulers import build_scheduler
        from experiments.schedulers.ray_scheduler import DecidingScheduler
        from experiments.stopping import build_epoch_stoppers

        experiment = self.plan.experiment
        scheduler = DecidingScheduler(
            lambda: build_scheduler(experiment.scheduler, experiment.objective.mode, self.plan.epochs),
            build_epoch_stoppers(experiment.stoppers, experiment.objective),
            experiment.objective.metric,
            type(experiment.scheduler).__name__.lower(),
        )
        scheduler.replay(self.live.record.events)
        return scheduler

    def _order(self, trial: TrialState, given: TrialResources) -> "TrialOrder":
        """What a worker is told of a trial."""
        from experiments.evaluation import cells_of
        from experiments.trial_run import TrialOrder

        experiment, options, remote = self.plan.experiment, self.options, self.storage.remote
        store = self.data.store(unflatten(trial.config).tiles)
        measured = experiment.task == "evaluate"

        def place(path: Path) -> str:
            return str(path if remote is None else path.relative_to(self.storage.root))

        stand_ins = remote is not None and options.weights_dir == str(self.storage.stand_ins)
        return TrialOrder(
            trial_id=trial.trial_id,
            config=trial.config,
            seed=trial.seed,
            directory=place(self.search.trial(trial.trial_id)),
            store=str(store.path) if remote is None else stored_key(store),
            remote=remote.to_json() if remote is not None else None,
            stand_ins=place(self.storage.stand_ins) if stand_ins else None,
            checkpoint_digest=self.live.state.header["checkpoint"]["sha256"] if measured else "",
            store_digest=store.content_digest,
            tile_cache=options.tile_cache.to_json() if options.tile_cache else None,
            stoppers=[stopper.to_json() for stopper in experiment.stoppers],
            threads=given.cpus,
            gpus=given.gpus,
            workers=given.workers,
            speeds=self._speeds(),
            after_epoch=trial.epochs,
            weights_dir=options.weights_dir,
            keep=(options.keep or Keep()).newest,
            storage_patience=options.storage_patience,
            continue_after=trial.continued_after,
            until_epoch=None if trial.status in OPEN else trial.epochs,
            checkpoint=options.checkpoint if measured else None,
            shared=place(self.search.root / "evaluation"),
            cells=cells_of(experiment) if measured else [],
            pictured=trial.values in [dict(cell) for cell in experiment.pictures_of],
            proof=self.nodes.proof.to_json() if self.nodes.proof else None,
        )

    def _speeds(self) -> dict[str, list[float]]:
        """Median speeds of finished trials, if a guard needs them."""
        for stopper in self.plan.experiment.stoppers:
            if isinstance(stopper, SpeedGuard) and stopper.of_median is not None:
                speeds: dict[str, list[float]] = median_rates(self.live.state.trials.values(), stopper.min_finished)
                return speeds
        return {}

    def _outlook(self) -> Outlook:
        experiment = self.plan.experiment

        def epochs(trial: TrialState) -> int:
            config: TrialConfig = unflatten(trial.config)
            return config.training.epochs if experiment.task == "train" else 1

        budget = search_ends(self.plan, self.options, self.live.state).budget
        return Outlook(experiment.name, self.plan.trials, self.plan.resources.concurrency, epochs, budget)

    def _status(self) -> str:
        state = self.live.state
        if state.open_trials() or self._interrupt.asked:
            return "interrupted"
        return "finished" if any(trial.status != "failed" for trial in state.trials.values()) else "failed"

    def _summarise(self) -> dict[str, Any]:
        return keep_trying(
            lambda: write_summary(self.search, self.live.state),
            self.search.summary,
            seconds=self.options.storage_patience,
            pause=self.pause,
        )


def work_left(state: SearchState, search: SearchPaths, plan: Plan, options: RunOptions) -> bool:
    """Whether a trial is open, another may begin, or a model was lost; a driver may have died at the very end."""
    if state.open_trials():
        return True
    more = len(state.trials) < plan.trials or bool(lost_models(state, search))
    return more and search_ends(plan, options, state).reason(state) is None


def search_ends(plan: Plan, options: RunOptions, state: SearchState) -> SearchEnds:
    """What ends the search early; a target is none while a trial goes on that had ended: somebody wants more of it."""
    ends = SearchEnds.of(plan.experiment, options.budget)
    wanted = any(trial.continued_after is not None for trial in state.open_trials())
    return replace(ends, target=None) if wanted else ends


def file_identity(path: Path) -> dict[str, str]:
    """Which file a search measures: its path and content."""
    with path.open("rb") as file:
        return {"path": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
