"""The driver of a search: opens or resumes the record, gets the data, runs the trials under Ray, leaves a summary."""

import os
import platform
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import search_spaces
from experiments.data import SearchData, check_batches, data_lines, prepare_data
from experiments.interrupt import Interrupt, terminated_like_interrupted
from experiments.live import LiveSearch
from experiments.lock import in_turn, sole_driver
from experiments.opening import archive, check_in_the_way, check_unchanged, earlier_state
from experiments.options import RunOptions
from experiments.paths import SearchPaths, StoragePaths, storage_paths
from experiments.plan import Plan, make_plan
from experiments.progress import Outlook, Screen, build_screen
from experiments.ray_cluster import Capacity, TrialResources, machine, ray_cluster, ray_logs_to
from experiments.record import VERSION, Record
from experiments.searchers import build_searcher
from experiments.state import SearchState, TrialState
from experiments.summary import write_summary
from experiments.tracking import TrackerProcess
from satdet.config import unflatten, with_values
from satdet.errors import DataError, SatdetError
from search_spaces.declare import Experiment

_PACKAGES = ("satdet", "ray", "optuna", "torch", "torchvision", "astropy", "albumentations", "torchmetrics", "mlflow",
             "wandb", "numpy")  # fmt: skip


def run_search(options: RunOptions) -> dict[str, Any]:
    """Run, or go on with, a search and return its summary.

    Raises
    ------
    SatdetError
        For all that can be wrong before a trial starts; nothing has been changed then.
    KeyboardInterrupt
        When interrupted before trials began, or twice.
    """
    declared = search_spaces.load(options.experiment)
    storage = storage_paths(options.storage)
    storage.make()
    search = storage.search(declared.name)
    with sole_driver(search.lock), terminated_like_interrupted():
        earlier = earlier_state(search)
        check_in_the_way(search, earlier, options)
        if options.resume:
            options = options.resumed(earlier.header["options"])
        experiment = options.applied_to(declared)
        if options.resume:
            check_unchanged(earlier, experiment)
        plan = make_plan(experiment, options, machine() if options.address is None else Capacity(1 << 20, 1 << 20))
        if options.resume and earlier.status != "interrupted" and not _work_left(earlier, plan, options):
            return write_summary(search, earlier)
        data = _prepare(storage, plan, options)
        if options.resume and data.to_json()["digest"] != earlier.header["data"]["digest"]:
            raise DataError(f"the frames in {data.source} are not those that the search began with; begin with --fresh")
        sys.stderr.write(f"{'connecting to' if options.address else 'starting'} Ray\n")
        with ray_cluster(options.address, storage.ray_token) as capacity:
            plan = make_plan(experiment, options, capacity)
            if options.fresh and earlier.header:
                archive(storage, search, earlier)
            with ray_logs_to(search.logs / "ray.log"), Record(search.record) as record:
                return _run_recorded(LiveSearch(record), plan, data, options, storage, search)


def _run_recorded(
    live: LiveSearch, plan: Plan, data: SearchData, options: RunOptions, storage: StoragePaths, search: SearchPaths
) -> dict[str, Any]:
    """The search from the point where all is known to be well."""
    experiment = plan.experiment
    if not live.state.header:
        live.note(
            "search",
            version=VERSION,
            search_id=secrets.token_hex(8),
            declaration=experiment.to_json(),
            digest=experiment.digest(),
            options=options.recorded(),
            data=data.to_json(),
            environment=_environment(),
        )
    live.note("session", host=socket.gethostname(), process=os.getpid())
    interrupt = Interrupt()
    with interrupt.handled(), TrackerProcess(storage, search, options) as trackers:
        screen = build_screen(_outlook(plan, experiment))
        try:
            if _work_left(live.state, plan, options):
                _run_trials(live, plan, data, options, search, screen, interrupt)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[-300:]
            raise SatdetError(f"the search broke off ({reason}); what is recorded is kept, resume it") from error
        finally:
            screen.close()
            live.note("session_end", status=_status(live.state, interrupt))
            write_summary(search, live.state)
        trackers.finish()
    return write_summary(search, live.state)


def _run_trials(
    live: LiveSearch,
    plan: Plan,
    data: SearchData,
    options: RunOptions,
    search: SearchPaths,
    screen: Screen,
    interrupt: Interrupt,
) -> None:
    """Give the trials to Ray Tune and wait until all have ended, or somebody or the budget ends the search."""
    from ray import tune
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    from experiments.schedulers import RecordedScheduler, build_scheduler
    from experiments.trainable import TrialTrainable
    from experiments.tuning import RecordedSearch, RecordingCallback, SearchStopper

    experiment, given = plan.experiment, plan.resources
    scheduler_name = type(experiment.scheduler).__name__.lower()
    scheduler = RecordedScheduler(build_scheduler(experiment.scheduler, experiment.objective, plan.epochs))
    scheduler.replay(live.record.events)
    trials = RecordedSearch(
        live,
        build_searcher(experiment.searcher, experiment),
        lambda trial: _order(trial, experiment, data, search, given, options),
        resources=PlacementGroupFactory([{"CPU": given.cpus, "GPU": given.gpus}]),
        limit=len(plan.suggestions),
        concurrency=given.concurrency,
    )
    stopper = SearchStopper(live, options.budget, given.gpus, interrupt)
    live.listen(screen.event)
    # Not Tuner.fit: it would pickle searcher, scheduler and callbacks for a restore that the record makes needless.
    tune.run(
        TrialTrainable,
        name=f"session-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}",
        storage_path=str(search.ray),
        search_alg=trials,
        scheduler=scheduler,
        reuse_actors=True,
        stop=stopper,
        callbacks=[RecordingCallback(live, scheduler_name, lambda: screen.tick(live.state))],
        verbose=0,
        raise_on_failed_trial=False,
    )
    if not interrupt.asked and stopper.stop_all():
        for trial in live.state.open_trials():
            live.note("ended", trial=trial.trial_id, end=_budget_end())


def _order(
    trial: TrialState,
    experiment: Experiment,
    data: SearchData,
    search: SearchPaths,
    given: TrialResources,
    options: RunOptions,
) -> Any:
    from experiments.trainable import TrialOrder

    return TrialOrder(
        trial_id=trial.trial_id,
        config=trial.config,
        seed=trial.seed,
        directory=str(search.trial(trial.trial_id)),
        store=str(data.store(unflatten(trial.config).tiles).path),
        stoppers=[stopper.to_json() for stopper in experiment.stoppers],
        threads=given.cpus,
        after_epoch=trial.epochs,
        weights_dir=options.weights_dir,
    )


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
        return with_values(experiment.base, trial.values).training.epochs

    return Outlook(experiment.name, len(plan.suggestions), plan.resources.concurrency, epochs)


def _work_left(state: SearchState, plan: Plan, options: RunOptions) -> bool:
    """Whether a trial is open, or another may begin; a driver that died at the very end leaves none."""
    if state.open_trials():
        return True
    spent = options.budget is not None and options.budget.reached(state, plan.resources.gpus)
    return len(state.trials) < len(plan.suggestions) and not spent


def _status(state: SearchState, interrupt: Interrupt) -> str:
    if state.open_trials() or interrupt.asked:
        return "interrupted"
    return "finished" if any(trial.status != "failed" for trial in state.trials.values()) else "failed"


def _budget_end() -> dict[str, Any]:
    return {"status": "stopped", "stop_reason": "budget", "error": None, "by": "driver"}


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
