"""MLflow servers of the tests' own: on SQLite, or with PostgreSQL behind them."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_NOBODY = 65534


def until(condition: Callable[[], object], seconds: float = 180.0) -> None:
    """Wait for something that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def mlflow_server(folder: Path, store: str) -> Iterator[int]:
    """A server that keeps its runs in `store` and their files in `folder`; its port on loopback."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | _QUIET, cwd=folder, stdout=log, stderr=log)
    try:
        until(lambda: answers(port) or server.poll() is not None)
        assert server.poll() is None, (folder / "server.log").read_text()
        yield port
    finally:
        server.terminate()
        server.wait(30)


def without_postgresql() -> str | None:
    """Why no PostgreSQL can be started here; None if it can."""
    if _binary("initdb") is None or _binary("postgres") is None:
        return "no initdb and postgres on this machine"
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2 is not installed"
    return None


@contextmanager
def postgresql() -> Iterator[str]:
    """An empty PostgreSQL on loopback; its URI. It refuses to run as root, so root runs it as nobody."""
    port = free_port()
    who = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="satdet-postgresql-"))
    try:
        if who:
            os.chown(folder, _NOBODY, _NOBODY)
        make = [_binary("initdb"), "-D", folder / "data", "-U", "satdet", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **who)
        run = [_binary("postgres"), "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
        server = subprocess.Popen(run, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who)
        try:
            until(lambda: answers(port))
            yield f"postgresql+psycopg2://satdet@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binary(name: str) -> str | None:
    """On the path, or where Debian keeps it off the path."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)
