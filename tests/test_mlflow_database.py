"""MLflow's database in the storage: whole, or absent, whenever its maker was killed."""

import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
from mlflow.tracking import MlflowClient

from experiments.trackers import database
from experiments.trackers.database import make_database

MAKE = """
import pathlib, sys
from experiments.trackers.database import make_database
make_database(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).parent / "artifacts")
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "mlflow.db"
    make_database(path, path.parent / "artifacts")
    return path


def works(path):
    client = MlflowClient(f"sqlite:///{path}")
    return client.get_experiment(client.create_experiment("one")).name == "one"


def test_it_is_made_once_and_nothing_else_is_left(whole, tmp_path):
    path = tmp_path / "mlflow.db"
    shutil.copy(whole, path)
    before = path.read_bytes()
    make_database(path, tmp_path / "artifacts")
    assert path.read_bytes() == before
    assert sorted(each.name for each in whole.parent.iterdir()) == [".mlflow.db.lock", "mlflow.db"]
    assert works(path)


def test_a_maker_that_is_killed_leaves_none_and_the_next_one_makes_it(tmp_path):
    path = tmp_path / "mlflow.db"
    maker = subprocess.Popen([sys.executable, "-c", MAKE, str(path)])
    while not (begun := list(tmp_path.glob(".mlflow.db.*.tmp"))) or begun[0].stat().st_size < 20_000:
        assert maker.poll() is None
        time.sleep(0.001)
    maker.kill()
    maker.wait()
    assert not path.exists()
    make_database(path, tmp_path / "artifacts")
    assert works(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


@pytest.mark.parametrize("statement", ["DROP TABLE experiments", "DELETE FROM experiments", None])
def test_one_left_half_made_is_moved_aside(whole, tmp_path, monkeypatch, caplog, statement):
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 0.3)
    path = tmp_path / "mlflow.db"
    shutil.copy(whole, path)
    if statement is None:
        path.write_bytes(b"not a database at all, of some length")
    else:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
    half = path.read_bytes()
    make_database(path, tmp_path / "artifacts")
    assert works(path)
    (aside,) = tmp_path.glob("mlflow.db.damaged-*")
    assert aside.read_bytes() == half
    assert "half made by a process that died" in caplog.text


def test_one_that_somebody_else_is_making_is_waited_for(whole, tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    path.touch()
    looked = []
    is_whole = database._is_whole

    def finished_meanwhile(each):
        looked.append(each)
        if len(looked) == 2:
            shutil.copy(whole, path)
        return is_whole(each)

    monkeypatch.setattr(database, "_is_whole", finished_meanwhile)
    make_database(path, tmp_path / "artifacts")
    assert len(looked) == 2 and path.read_bytes() == whole.read_bytes()
