"""A Ray cluster to run on: a local one of our own, started locked down, or one that is there already."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experiments.credentials import withheld_from_children
from experiments.ray_access import keep_keys_out_of_runtime_env, ray_access
from satdet.errors import UsageError
from search_spaces.declare import Resources

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "30",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "8",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Capacity:
    """What a cluster, or this machine, has."""

    cpus: int
    gpus: float


@dataclass(frozen=True)
class TrialResources:
    """What each trial gets, and how many run at a time."""

    cpus: int
    gpus: float
    concurrency: int


@contextmanager
def ray_cluster(address: str | None) -> Iterator[Capacity]:
    """Connect to Ray at `address`, or start it on this machine for as long as the context lasts.

    A cluster of our own is closed to everybody else (see `ray_access`), runs no dashboard and sends no statistics.

    Raises
    ------
    UsageError
        If it cannot be reached or started.
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    with ray_access(address) as access:
        import ray

        local = {"num_cpus": machine().cpus, "include_dashboard": False}
        try:
            with withheld_from_children():
                ray.init(
                    address=address or "local",
                    namespace="satdet",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=False,
                    **({} if address else local),
                    **access,
                )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            what = (
                f"--address {address}: cannot connect to a Ray cluster there"
                if address
                else "Ray cannot be started here"
            )
            raise UsageError(f"{what} ({reason})") from error
        try:
            keep_keys_out_of_runtime_env()
            total = ray.cluster_resources()
            yield Capacity(int(total.get("CPU", 0)), float(total.get("GPU", 0)))
        finally:
            ray.shutdown()


def machine() -> Capacity:
    """What this machine has, without asking Ray: the CPUs this process may use, and NVIDIA devices."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = len(list(Path("/dev").glob("nvidia[0-9]*")))
    gpus = min(devices, len([device for device in visible.split(",") if device])) if visible is not None else devices
    return Capacity(len(os.sched_getaffinity(0)), float(gpus))


def divide(
    capacity: Capacity, wanted: Resources, trials: int, *, concurrency: int | None, cpus: int | None, gpus: float | None
) -> TrialResources:
    """Divide a cluster between trials: with GPUs as many as these hold, else as many as there are CPUs or trials.

    Raises
    ------
    UsageError
        If not even one trial could ever be placed.
    """
    if gpus is None:
        gpus = wanted.gpus_per_worker if capacity.gpus else 0.0
    cpus = cpus or wanted.cpus_per_worker
    if gpus > capacity.gpus or (cpus or 1) > capacity.cpus:
        there = f"{capacity.cpus} CPUs and {capacity.gpus:g} GPUs"
        raise UsageError(f"a trial asks for {cpus or 1} CPUs and {gpus:g} GPUs; there are {there}")
    by_device = int(capacity.gpus / gpus) if gpus else capacity.cpus
    by_cpu = capacity.cpus // cpus if cpus else capacity.cpus
    most = max(1, min(by_device, by_cpu, trials, concurrency or trials))
    return TrialResources(cpus or max(1, capacity.cpus // most), gpus, most)


@contextmanager
def ray_logs_to(path: Path) -> Iterator[None]:
    """Send Ray's messages, also those it prints on standard output, to a file: they do not belong between our lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("ray")
    with contextlib.closing(_LenientLog(path)) as sink, contextlib.redirect_stdout(sink):
        logger.handlers = [logging.StreamHandler(sink)]
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.handlers = []


class _LenientLog(io.TextIOBase):
    """A log file whose disk may be full: what cannot be written is left out, for a log must not end a search."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text.encode(errors="replace"))
        return len(text)

    def close(self) -> None:
        self._file.close()
        super().close()
