"""The driver of a search: opens or resumes the record, gets the data, and runs a session of it under Ray."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import search_spaces
from experiments.copies import bring_record, send_files
from experiments.data import SearchData, check_batches, data_lines, prepare_data, send_data
from experiments.interrupt import Interrupt, StoragePause, terminated_like_interrupted
from experiments.live import LiveSearch
from experiments.lock import in_turn, sole_driver
from experiments.models import export_missing_models
from experiments.monitoring import SearchCollector, check_port, metrics_endpoint
from experiments.nodes import proven_nodes
from experiments.opening import (
    archive,
    check_ends,
    check_in_the_way,
    check_same_file,
    check_unchanged,
    earlier_state,
    reopened,
)
from experiments.options import RunOptions
from experiments.paths import StoragePaths, storage_paths
from experiments.plan import Plan, make_plan
from experiments.ray_cluster import ray_cluster, ray_logs_to
from experiments.record import Record
from experiments.remote import RemoteRecord
from experiments.resources import UNKNOWN, Capacity, machine, workers_a_trial
from experiments.session import Session, file_identity, search_ends, work_left
from experiments.state import SearchState
from experiments.summary import write_summary
from experiments.tracking import TrackerProcess, tracker_names
from experiments.weights import stand_in_weights
from satdet.errors import DataError, SatdetError, StorageError
from search_spaces.declare import Experiment


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
    check_port(options.metrics_port)
    storage = storage_paths(options.storage)
    storage.make()
    search = storage.search(declared.name)
    remote = storage.remote
    objects = remote.objects(search.name) if remote is not None else None
    with sole_driver(search.lock, objects) as ownership, terminated_like_interrupted():
        try:
            bring_record(search, ours=True)
        except StorageError:
            if not options.fresh:  # which moves a damaged record away, too
                raise
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
                check_same_file(earlier, file_identity(Path(str(options.checkpoint))))
            experiment = evaluating(experiment, Path(str(options.checkpoint)))
        if options.resume:
            check_unchanged(earlier, experiment)
        reopen = reopened(search, earlier, options) if options.continued else []
        capacity = options.nodes or (machine() if options.address is None else UNKNOWN)
        plan = make_plan(experiment, _with_threads(experiment, options, earlier, capacity), capacity)
        if options.resume:
            ends = search_ends(plan, options, earlier)
            check_ends(earlier, ends, asked=asked_for_more)
            if earlier.status != "interrupted" and not reopen and not work_left(earlier, search, plan, options):
                reason = ends.reason(earlier) or f"all {len(earlier.trials)} trials have ended"
                sys.stderr.write(f"nothing is left to run: {reason.replace('_', ' ')}\n")
                export_missing_models(earlier, search)  # it and the trackers may have been killed with the driver
                with TrackerProcess(storage, search, options) as trackers:
                    trackers.finish()
                return write_summary(search, earlier)
        if options.smoke and declared.smoke.stand_in_weights and options.weights_dir is None:
            detectors = [config.detector for config in plan.configs]
            options = replace(options, weights_dir=str(stand_in_weights(storage.stand_ins, detectors)))
        data = _prepare(storage, plan, options)
        if options.resume and data.to_json()["digest"] != earlier.header["data"]["digest"]:
            raise DataError(f"the frames in {data.source} are not those that the search began with; begin with --fresh")
        sys.stderr.write(f"{'connecting to' if options.address else 'starting'} Ray\n")
        with ray_cluster(options.address) as there, proven_nodes(options.address, search) as nodes:
            capacity = options.nodes or nodes.usable(there)
            plan = make_plan(experiment, _with_threads(experiment, options, earlier, capacity, say=True), capacity)
            if options.fresh and (search.root.exists() or objects is not None):
                archive(storage, search, earlier)
            if objects is not None:
                send_files(storage, options)
            interrupt = Interrupt(
                Path(options.termination_notice) if options.termination_notice else None,
                lambda: f"{ownership.lost} has taken the search over" if ownership.lost else None,
            )
            pause = StoragePause(interrupt, options.storage_patience)
            with (
                ray_logs_to(search.logs / "ray.log"),
                Record(
                    search.record,
                    patience=options.storage_patience,
                    pause=pause,
                    remote=RemoteRecord(objects) if objects is not None else None,
                ) as record,
            ):
                live = LiveSearch(record)
                collector = SearchCollector(live, search, tracker_names(options))
                with metrics_endpoint(options.metrics_port, collector):
                    return Session(live, plan, data, options, storage, search, pause, nodes).run(reopen)


def _prepare(storage: StoragePaths, plan: Plan, options: RunOptions) -> SearchData:
    """The data of all trials, and a last look at what could still be wrong."""
    configs = plan.configs
    with in_turn(storage.data / ".lock"):
        data = prepare_data(storage, configs, plan.experiment.survey, data=options.data, labels=options.labels)
    sys.stderr.write("\n".join(data_lines(data)) + "\n")
    send_data(storage, data)
    check_batches(configs, data, plan.resources.workers)
    if any(config.detector.weights != "none" for config in configs):
        from satdet.detector import find_weights

        for config in configs:
            find_weights(config.detector, Path(options.weights_dir) if options.weights_dir else None)
    return data


def _with_threads(
    experiment: Experiment, options: RunOptions, earlier: SearchState, capacity: Capacity, *, say: bool = False
) -> RunOptions:
    """With as many CPUs a trial as it had before, where there are so many and nothing else is said."""
    if options.cpus_per_trial is not None or earlier.cpus is None or not options.resume:
        return options
    workers = workers_a_trial(experiment.resources, options.workers_per_trial, options.gpus_per_trial)
    if capacity.holds(earlier.cpus, 0.0) >= workers:
        return replace(options, cpus_per_trial=earlier.cpus * workers)
    if say:
        sys.stderr.write(
            f"trials had {earlier.cpus} CPUs before, here there are {capacity.cpus};"
            " with another number of threads the last bits differ\n"
        )
    return options


def exit_status(summary: Mapping[str, Any]) -> int:
    """0 finished, 3 finished with failed trials, 130 interrupted."""
    if summary["status"] == "interrupted":
        return 130
    failed = any(trial["status"] == "failed" for trial in summary["trials"])
    return SatdetError.exit_status if not summary["trials"] else 3 if failed else 0
