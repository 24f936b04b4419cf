"""The driver of a search: opens or resumes the record, gets the data, runs the trials under Ray, leaves a summary."""

import contextlib
import hashlib
import os
import platform
import secrets
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import search_spaces
from experiments.data import SearchData, check_batches, data_lines, prepare_data
from experiments.interrupt import Interrupt, StoragePause, terminated_like_interrupted
from experiments.keeping import CheckpointCap, Keep, SpaceWatch
from experiments.live import LiveSearch
from experiments.lock import in_turn, sole_driver
from experiments.opening import (
    archive,
    check_ends,
    check_in_the_way,
    check_same_file,
    check_unchanged,
    earlier_state,
    lost_lines,
    reopened,
)
from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths, storage_paths
from experiments.plan import Plan, make_plan
from experiments.progress import Outlook, Screen, build_screen
from experiments.ray_cluster import Capacity, machine, ray_cluster, ray_logs_to
from experiments.record import VERSION, Record
from experiments.searchers import build_searcher
from experiments.state import OPEN, SearchState, TrialState
from experiments.stoppers import SearchEnds
from experiments.stopping.speeds import median_rates
from experiments.summary import write_summary
from experiments.tracking import TrackerProcess
from experiments.weights import stand_in_weights
from satdet._storage import keep_trying
from satdet.config import TrialConfig, unflatten
from satdet.errors import DataError, SatdetError
from search_spaces.declare import Experiment, SpeedGuard

if TYPE_CHECKING:
    from experiments.schedulers.ray_scheduler import DecidingScheduler

_PACKAGES = ("satdet", "ray", "optuna", "torch", "torchvision", "astropy", "albumentations", "torchmetrics", "mlflow",
             "wandb", "numpy")  # fmt: skip
_TRACKERS_SECONDS = 45.0
"""How long ``--require-trackers`` waits for their first answers; opening a new SQLite database takes some seconds."""


def run_search(options: RunOptions) -> dict[str, Any]:
    """Run, or go on with, a search and return its summary.

    Raises
    ------
    SatdetError
        For all that can be wrong before a trial starts; nothing has been changed then.
    KeyboardInterrupt
        When interrupted before trials began, or twice.
    """
    declaration = search_spaces.declaration(options.experiment)
    for warning in declaration.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return run_declared(declaration.experiment, options)


def run_declared(declared: Experiment, options: RunOptions) -> dict[str, Any]:
    """As `run_search`, of an experiment that need not be declared in a file."""
    storage = storage_paths(options.storage)
    storage.make()
    search = storage.search(declared.name)
    with sole_driver(search.lock) as ownership, terminated_like_interrupted():
        earlier = earlier_state(search, fresh=options.fresh)
        check_in_the_way(search, earlier, options)
        asked_for_more = options.trials is not None or bool(options.continued)
        if options.resume:
            options = options.resumed(earlier.options)
        experiment = options.applied_to(declared)
        if experiment.task == "evaluate":
            from experiments.evaluation import checkpoint_option, evaluating

            options = checkpoint_option(experiment, options, storage, run_declared)
            if options.resume:
                check_same_file(earlier, _file_identity(Path(str(options.checkpoint))))
            experiment = evaluating(experiment, Path(str(options.checkpoint)))
        if options.resume:
            check_unchanged(earlier, experiment)
        reopen = reopened(search, earlier, options) if options.continued else []
        capacity = machine() if options.address is None else Capacity(1 << 20, 1 << 20)
        plan = make_plan(experiment, _with_threads(options, earlier, capacity), capacity)
        if options.resume:
            check_ends(earlier, _ends(plan, options), asked=asked_for_more)
        if (
            options.resume
            and earlier.status != "interrupted"
            and not reopen
            and not _work_left(earlier, search, plan, options)
        ):
            reason = _ends(plan, options).reason(earlier) or f"all {len(earlier.trials)} trials have ended"
            sys.stderr.write(f"nothing is left to run: {reason.replace('_', ' ')}\n")
            with TrackerProcess(storage, search, options) as trackers:  # they may have been killed with the driver
                trackers.finish()
            return write_summary(search, earlier)
        if options.smoke and declared.smoke.stand_in_weights and options.weights_dir is None:
            detectors = [config.detector for config in plan.configs]
            options = replace(options, weights_dir=str(stand_in_weights(storage.stand_ins, detectors)))
        data = _prepare(storage, plan, options)
        if options.resume and data.to_json()["digest"] != earlier.header["data"]["digest"]:
            raise DataError(f"the frames in {data.source} are not those that the search began with; begin with --fresh")
        sys.stderr.write(f"{'connecting to' if options.address else 'starting'} Ray\n")
        with ray_cluster(options.address, storage.ray_token) as capacity:
            plan = make_plan(experiment, _with_threads(options, earlier, capacity, say=True), capacity)
            if options.fresh and search.root.exists():
                archive(storage, search, earlier)
            interrupt = Interrupt(
                Path(options.termination_notice) if options.termination_notice else None,
                lambda: f"{ownership.lost} has taken the search over" if ownership.lost else None,
            )
            pause = StoragePause(interrupt, options.storage_patience)
            with (
                ray_logs_to(search.logs / "ray.log"),
                Record(search.record, patience=options.storage_patience, pause=pause) as record,
            ):
                return _run_recorded(LiveSearch(record), plan, data, options, storage, search, pause, reopen)


def _run_recorded(
    live: LiveSearch,
    plan: Plan,
    data: SearchData,
    options: RunOptions,
    storage: StoragePaths,
    search: SearchPaths,
    pause: StoragePause,
    reopen: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The search from the point where all is known to be well."""
    experiment, interrupt = plan.experiment, pause.interrupt

    def summarise() -> dict[str, Any]:
        return keep_trying(
            lambda: write_summary(search, live.state), search.summary, seconds=options.storage_patience, pause=pause
        )

    for line in lost_lines(search, live.record):
        sys.stderr.write(f"{line}\n")
    if not live.state.header:
        live.note(
            "search",
            version=VERSION,
            search_id=secrets.token_hex(8),
            declaration=experiment.to_json(),
            digest=experiment.digest(),
            options=options.recorded(),
            data=data.to_json(),
            **({"checkpoint": _file_identity(Path(options.checkpoint))} if options.checkpoint else {}),
            environment=_environment(),
        )
    session = {"options": options.recorded(), "cpus": plan.resources.cpus, "dropped": live.record.dropped}
    live.note("session", host=socket.gethostname(), process=os.getpid(), **session)
    for change in reopen:
        live.note("continued", **change)
    with interrupt.handled(), TrackerProcess(storage, search, options) as trackers:
        screen = build_screen(_outlook(plan, experiment))
        try:
            if options.require_trackers:
                trackers.require(_TRACKERS_SECONDS)
            if _work_left(live.state, search, plan, options):
                for line in plan.skipped_lines():
                    screen.say(line)
                _run_trials(live, plan, data, options, search, screen, interrupt, trackers)
                _export_missing(live.state, search)
        except SatdetError:
            raise
        except Exception as error:
            if live.record.lost is not None:
                raise live.record.lost from None
            reason = " ".join(f"{type(error).__name__}: {error}".split())[-300:]
            raise SatdetError(f"the search broke off ({reason}); what is recorded is kept, resume it") from error
        finally:
            screen.close()
            if live.record.lost is None:
                live.note("session_end", status=_status(live.state, interrupt))
                summarise()
        trackers.finish()
    return summarise()


def _run_trials(
    live: LiveSearch,
    plan: Plan,
    data: SearchData,
    options: RunOptions,
    search: SearchPaths,
    screen: Screen,
    interrupt: Interrupt,
    trackers: TrackerProcess,
) -> None:
    """Give the trials to Ray Tune and wait until all have ended, or somebody or the budget ends the search."""
    from ray import tune
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    from experiments.measuring import EvaluationTrainable
    from experiments.trainable import TrialTrainable
    from experiments.tuning import RecordedSearch, RecordingCallback, SearchStopper

    experiment, given = plan.experiment, plan.resources
    scheduler = _scheduler(plan, live)
    restored = _lost_models(live.state, search)
    for trial in restored:
        screen.say(f"{trial.trial_id}: its model was lost with its process; trained again to epoch {trial.epochs}")
    trials = RecordedSearch(
        live,
        build_searcher(experiment),
        scheduler,
        lambda trial: _order(trial, live.state, plan, data, search, options),
        resources=PlacementGroupFactory([{"CPU": given.cpus, "GPU": given.gpus}]),
        limit=plan.trials,
        concurrency=given.concurrency,
        interrupt=interrupt,
        restored=restored,
    )
    ends = _ends(plan, options, live.state)
    stopper = SearchStopper(live, ends, interrupt)
    cap = CheckpointCap(search, options.keep.total_bytes if options.keep else None, screen.say)
    live.listen(screen.event)
    live.listen(cap.event)

    space = SpaceWatch(search.root, screen.say)

    def tick() -> None:
        space.look()
        for line in trackers.news():
            screen.say(line)
        screen.tick(live.state)

    # Not Tuner.fit: it would pickle searcher, scheduler and callbacks for a restore that the record makes needless.
    # What Ray writes is never read back, so it has no place in the storage, which may be slow, shared or full.
    with tempfile.TemporaryDirectory(prefix="satdet-ray-", ignore_cleanup_errors=True) as scratch:
        tune.run(
            TrialTrainable if experiment.task == "train" else EvaluationTrainable,
            name=search.name,
            storage_path=scratch,
            search_alg=trials,
            scheduler=scheduler,
            reuse_actors=True,
            stop=stopper,
            callbacks=[RecordingCallback(live, scheduler, tick, interrupt.ask)],
            verbose=0,
            raise_on_failed_trial=False,
        )
    reason = ends.reason(live.state)
    if reason is not None and not interrupt.asked:
        for trial in live.state.open_trials():
            live.note("ended", trial=trial.trial_id, end=_driver_end(reason))


def _scheduler(plan: Plan, live: LiveSearch) -> "DecidingScheduler":
    """The scheduler and the stoppers, with all that they knew."""
    from experiments.schedulers import build_scheduler
    from experiments.schedulers.ray_scheduler import DecidingScheduler
    from experiments.stopping import build_epoch_stoppers

    experiment, objective = plan.experiment, plan.experiment.objective
    scheduler = DecidingScheduler(
        lambda: build_scheduler(experiment.scheduler, objective.mode, plan.epochs),
        build_epoch_stoppers(experiment.stoppers, objective),
        objective.metric,
        type(experiment.scheduler).__name__.lower(),
    )
    scheduler.replay(live.record.events)
    return scheduler


def _lost_models(state: SearchState, search: SearchPaths) -> list[TrialState]:
    """Trials that were stopped while their last checkpoint was being written, by a process that then died."""
    if state.task != "train":
        return []
    return [trial for trial in state.trials.values() if trial.status == "stopped" and _is_behind(trial, search)]


def _is_behind(trial: TrialState, search: SearchPaths) -> bool:
    folder = search.trial(trial.trial_id)
    on_disk = [int(path.name.split("-")[1]) for path in folder.glob("epoch-*-*.pt")]
    if not on_disk:  # removed once the model was there, or never written
        return trial.epochs > 0 and not (folder / "model.pt").exists()
    return max(on_disk) < trial.epochs


def _export_missing(state: SearchState, search: SearchPaths) -> None:
    """Write the model of a trial that a scheduler ended after the process that could have written it was gone."""
    for trial in state.trials.values():
        folder = search.trial(trial.trial_id)
        if state.task == "train" and trial.status == "stopped" and trial.epochs and not (folder / "model.pt").exists():
            from satdet.training import export_model

            with contextlib.suppress(SatdetError):  # without a whole checkpoint there is nothing to export
                export_model(folder)


def _order(
    trial: TrialState, state: SearchState, plan: Plan, data: SearchData, search: SearchPaths, options: RunOptions
) -> Any:
    from experiments.evaluation import cells_of
    from experiments.trainable import TrialOrder

    experiment = plan.experiment
    measured = experiment.task == "evaluate"
    return TrialOrder(
        trial_id=trial.trial_id,
        config=trial.config,
        seed=trial.seed,
        directory=str(search.trial(trial.trial_id)),
        store=str(data.store(unflatten(trial.config).tiles).path),
        stoppers=[stopper.to_json() for stopper in experiment.stoppers],
        threads=plan.resources.cpus,
        speeds=_speeds(experiment, state),
        after_epoch=trial.epochs,
        weights_dir=options.weights_dir,
        keep=(options.keep or Keep()).newest,
        storage_patience=options.storage_patience,
        continue_after=trial.continued_after,
        until_epoch=None if trial.status in OPEN else trial.epochs,
        checkpoint=options.checkpoint if measured else None,
        shared=str(search.root / "evaluation"),
        cells=cells_of(experiment) if measured else [],
        pictured=trial.values in [dict(cell) for cell in experiment.pictures_of],
    )


def _speeds(experiment: Experiment, state: SearchState) -> dict[str, list[float]]:
    """Median speeds of finished trials, if a guard needs them."""
    for stopper in experiment.stoppers:
        if isinstance(stopper, SpeedGuard) and stopper.of_median is not None:
            speeds: dict[str, list[float]] = median_rates(state.trials.values(), stopper.min_finished)
            return speeds
    return {}


def _file_identity(path: Path) -> dict[str, str]:
    """Which file a search measures: its path and content."""
    with path.open("rb") as file:
        return {"path": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _prepare(storage: StoragePaths, plan: Plan, options: RunOptions) -> SearchData:
    """The data of all trials, and a last look at what could still be wrong."""
    configs = plan.configs
    with in_turn(storage.data / ".lock"):
        data = prepare_data(storage, configs, plan.experiment.survey, data=options.data, labels=options.labels)
    sys.stderr.write("\n".join(data_lines(data)) + "\n")
    check_batches(configs, data)
    if any(config.detector.weights != "none" for config in configs):
        from satdet.detector import find_weights

        for config in configs:
            find_weights(config.detector, Path(options.weights_dir) if options.weights_dir else None)
    return data


def _outlook(plan: Plan, experiment: Experiment) -> Outlook:
    def epochs(trial: TrialState) -> int:
        config: TrialConfig = unflatten(trial.config)
        return config.training.epochs if experiment.task == "train" else 1

    return Outlook(experiment.name, plan.trials, plan.resources.concurrency, epochs)


def _with_threads(options: RunOptions, earlier: SearchState, capacity: Capacity, *, say: bool = False) -> RunOptions:
    """With as many CPUs a trial as it had before, where there are so many and nothing else is said."""
    if options.cpus_per_trial is not None or earlier.cpus is None or not options.resume:
        return options
    if earlier.cpus <= capacity.cpus:
        return replace(options, cpus_per_trial=earlier.cpus)
    if say:
        sys.stderr.write(
            f"trials had {earlier.cpus} CPUs before, here there are {capacity.cpus};"
            " with another number of threads the last bits differ\n"
        )
    return options


def _work_left(state: SearchState, search: SearchPaths, plan: Plan, options: RunOptions) -> bool:
    """Whether a trial is open, another may begin, or a model was lost; a driver may have died at the very end."""
    if state.open_trials():
        return True
    more = len(state.trials) < plan.trials or bool(_lost_models(state, search))
    return more and _ends(plan, options).reason(state) is None


def _ends(plan: Plan, options: RunOptions, state: SearchState | None = None) -> SearchEnds:
    """What ends the search early; a target is none while a trial goes on that had ended: somebody wants more of it."""
    ends = SearchEnds.of(plan.experiment, options.budget, plan.resources.gpus)
    wanted = state is not None and any(trial.continued_after is not None for trial in state.open_trials())
    return replace(ends, target=None) if wanted else ends


def _status(state: SearchState, interrupt: Interrupt) -> str:
    if state.open_trials() or interrupt.asked:
        return "interrupted"
    return "finished" if any(trial.status != "failed" for trial in state.trials.values()) else "failed"


def _driver_end(reason: str) -> dict[str, Any]:
    return {"status": "stopped", "stop_reason": reason, "error": None, "by": "driver"}


def _environment() -> dict[str, str]:
    """Versions that a result depends on."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def exit_status(summary: Mapping[str, Any]) -> int:
    """0 finished, 3 finished with failed trials, 130 interrupted."""
    if summary["status"] == "interrupted":
        return 130
    failed = any(trial["status"] == "failed" for trial in summary["trials"])
    return SatdetError.exit_status if not summary["trials"] else 3 if failed else 0
