"""A Ray cluster to run on: a local one of our own, started locked down, or one that is there already."""

import contextlib
import importlib
import io
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.credentials import withheld_from_children
from experiments.ray_access import keep_keys_out_of_runtime_env, ray_access
from experiments.resources import Capacity, Node, machine
from satdet.errors import UsageError

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
    "AUTOSCALER_METRIC_PORT": "-1",  # no port, so none is opened: it would answer anybody, on a cluster from anywhere
}  # fmt: skip


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
        # Starting Ray is waiting for other processes; meanwhile this one imports what it needs next.
        importing = threading.Thread(target=importlib.import_module, args=("ray.tune",), daemon=True)
        importing.start()
        try:
            with withheld_from_children():
                _begin(address=address or "local", **({} if address else local), **access)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            what = (
                f"--address {address}: cannot connect to a Ray cluster there"
                if address
                else "Ray cannot be started here"
            )
            raise UsageError(f"{what} ({reason})") from error
        importing.join()
        try:
            keep_keys_out_of_runtime_env()
            yield _capacity()
        finally:
            ray.shutdown()


def _begin(**settings: Any) -> None:
    """Connect, or start Ray. On a machine that is busy its nodes may not start within Ray's 30 s; a second try may do.

    Raises
    ------
    Exception
        Whatever Ray raises.
    """
    import ray

    for tries_left in (1, 0):
        try:
            ray.init(
                namespace="satdet",
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                **settings,
            )
        except Exception as error:
            if not tries_left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            return


def free_room() -> str:
    """What no trial has of the cluster now, in words."""
    import ray

    free = ray.available_resources()
    return str(Node(int(free.get("CPU", 0)), float(free.get("GPU", 0))))


def _capacity() -> Capacity:
    """The nodes of the cluster that is connected."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [Node(int(each.get("CPU", 0)), float(each.get("GPU", 0))) for each in alive]
    return Capacity(tuple(node for node in nodes if node.cpus))


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
