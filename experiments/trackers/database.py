"""Our own MLflow database: made whole or not at all, for MLflow cannot go on from one that is half made.

It creates its tables and migrates them step by step over some seconds, with no transaction around all of it, and a
process that is killed in between leaves a file that fails ever after.
"""

import logging
import secrets
import sqlite3
import time
from pathlib import Path

from experiments.lock import in_turn

_PATIENCE_SECONDS = 30.0
"""How long somebody else who may be making it, an ``mlflow ui`` say, is given."""
_log = logging.getLogger("satdet.sync")


def make_database(path: Path, artifacts: Path) -> None:
    """See to a whole MLflow database at `path`; one that was left half made is moved aside.

    Parameters
    ----------
    path : Path
        Of an SQLite file.
    artifacts : Path
        Where experiments of other programs keep their artifacts.
    """
    with in_turn(path.with_name(f".{path.name}.lock")):
        if path.exists() and not _becomes_whole(path):
            aside = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
            path.rename(aside)
            _log.warning("%s was half made by a process that died; it is now %s, and made anew", path, aside.name)
        if not path.exists():
            _make(path, artifacts)


def dispose(uri: str) -> None:
    """Close the connections that MLflow keeps to a database; it opens others when it needs them."""
    from mlflow.tracking._tracking_service.utils import _get_store

    _get_store(uri).engine.dispose()


def _make(path: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in path.parent.glob(f".{path.name}.*.tmp*"):
        left.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    store = SqlAlchemyStore(f"sqlite:///{partial}", artifacts.as_uri())
    store.engine.dispose()
    partial.replace(path)


def _becomes_whole(path: Path) -> bool:
    """Whether a database is whole, or becomes so while somebody is at work on it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    changed, size = time.monotonic(), -1
    while not _is_whole(path):
        if path.stat().st_size != size:
            changed, size = time.monotonic(), path.stat().st_size
        if time.monotonic() > min(deadline, changed + _PATIENCE_SECONDS / 3):
            return False
        time.sleep(0.2)
    return True


def _is_whole(path: Path) -> bool:
    """Whether there is an experiment in it: the default one is what MLflow writes last."""
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            return connection.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        return "locked" in str(error)  # somebody writes to it
    except sqlite3.DatabaseError:
        return False
