"""How a search stands, told from its record and its lock by another process."""

import json
import threading
import time

import pytest

from experiments.lock import sole_driver
from experiments.paths import storage_paths
from experiments.status import main
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest


@pytest.fixture
def search(tmp_path):
    search = storage_paths(tmp_path).search("backbone_ablation")
    with begin(search.record) as record:
        record.append("session", host="h", process=2, trials=6, concurrency=2, options={"budget": {"epochs": 12.0}})
        for number, end in enumerate((COMPLETED, BY_ASHA, FAILED)):
            trial = suggest(record, number, seed=number)
            report(record, trial, 1, 0.3 + 0.1 * number, end)
        trial = suggest(record, 3, "resnet34")
        report(record, trial, 1, 0.25)
    return search


def shown(tmp_path, capsys, *flags):
    assert main(["backbone_ablation", "--storage", str(tmp_path), *flags]) == 0
    return capsys.readouterr().out


def test_a_running_search_is_shown_with_its_driver_and_what_is_left(search, tmp_path, capsys):
    with sole_driver(search.lock):
        lines = shown(tmp_path, capsys).splitlines()
    assert lines[0].startswith("backbone_ablation: running (process ")
    assert "3/6 trials ended, 1 running, 1 stopped, 1 failed, best map_50" in lines[0]
    assert "left" in lines[0] and lines[0].endswith("budget: 4 of 12 epochs")
    assert lines[2].split()[:2] == ["t0003", "resnet34"]
    assert any(line.startswith("t0001 resnet18 seed 1: stopped (asha)") for line in lines)
    assert lines[-1].startswith("last recorded 0 s ago")


def test_one_that_nobody_runs_is_what_its_record_says(search, tmp_path, capsys):
    assert shown(tmp_path, capsys).startswith("backbone_ablation: interrupted, 3/6 trials ended")
    found = json.loads(shown(tmp_path, capsys, "--json"))
    assert found["status"] == "interrupted" and found["driver"] is None
    assert found["trials"] == {"finished": 1, "stopped": 1, "failed": 1, "running": 1}
    assert (found["planned"], found["epochs"], found["best_trial"]) == (6, 4, "t0002")
    assert found["seconds_left"] is None


def test_a_driver_that_died_runs_nothing(search, tmp_path, capsys):
    with sole_driver(search.lock):
        left = search.lock.read_text()
    search.lock.write_text(left.replace('"started": "', '"started": "1'))
    assert json.loads(shown(tmp_path, capsys, "--json"))["driver"] is None


def test_it_is_followed_until_it_has_ended(search, tmp_path, capsys):
    def drive():
        with sole_driver(search.lock):
            driving.set()
            time.sleep(1.5)

    driving = threading.Event()
    thread = threading.Thread(target=drive)
    thread.start()
    driving.wait(10)
    started = time.monotonic()
    said = shown(tmp_path, capsys, "--follow")
    assert time.monotonic() - started >= 1
    thread.join()
    assert "backbone_ablation: interrupted" in said.splitlines()[-7]


def test_what_is_not_there_is_said_in_a_line(tmp_path, search, capsys):
    assert main(["backbone", "--storage", str(tmp_path)]) == 2
    assert "no search of that name here" in capsys.readouterr().err
