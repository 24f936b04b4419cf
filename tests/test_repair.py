"""A damaged record: never gone on from silently, and repaired when asked."""

import json

import pytest

from experiments import repair, summary
from experiments.paths import storage_paths
from experiments.record import read_record
from satdet.errors import StorageError
from tests.searches import COMPLETED, begin, report, suggest


@pytest.fixture
def search(tmp_path):
    paths = storage_paths(tmp_path).search("backbone_ablation")
    with begin(paths.record) as record:
        for number in range(2):
            trial = suggest(record, number)
            report(record, trial, 1, 0.3)
            report(record, trial, 2, 0.4 + number / 10, COMPLETED)
        record.append("session_end", status="finished")
    return paths


def command(search, module=repair):
    return module.main([search.name, "--storage", str(search.root.parent)])


def damage(search, line):
    """Flip a bit in a line (from 0); returns the events before it."""
    content = bytearray(search.record.read_bytes())
    lines = bytes(content).splitlines(keepends=True)
    content[sum(map(len, lines[:line])) + 20] ^= 4
    search.record.write_bytes(content)
    return line


def test_a_whole_record_is_left_alone(search, capsys):
    before = search.record.read_bytes()
    assert command(search) == 0
    assert "whole, 11 events" in capsys.readouterr().out
    assert search.record.read_bytes() == before


def test_the_events_before_the_damage_are_kept_and_the_file_too(search, capsys):
    events = read_record(search.record)
    kept = damage(search, 8)
    damaged = search.record.read_bytes()
    with pytest.raises(StorageError, match=r"python -m experiments\.repair backbone_ablation"):
        read_record(search.record)
    assert command(search) == 0
    said = capsys.readouterr().out
    assert "8 events kept" in said and "about 3 events" in said and "1 of 2 trials have ended" in said
    assert read_record(search.record) == events[:kept]
    (aside,) = search.root.glob("record.jsonl.damaged-*")
    assert aside.read_bytes() == damaged
    assert [trial["status"] for trial in json.loads(search.summary.read_text())["trials"]] == ["finished", "running"]


@pytest.mark.parametrize("emptied", [False, True])
def test_without_a_first_line_there_is_nothing_to_go_on_from(search, capsys, emptied):
    damage(search, 0)
    if emptied:
        search.record.write_bytes(b"")
    before = search.record.read_bytes()
    assert command(search) == 2
    assert "its first line is damaged or lost" in capsys.readouterr().err
    assert search.record.read_bytes() == before


@pytest.mark.parametrize("module", [repair, summary])
def test_an_unknown_search_is_an_error_in_a_line(search, capsys, module):
    search.record.unlink()
    assert command(search, module) == 2
    assert "no search of that name here" in capsys.readouterr().err


def test_the_summary_is_made_anew_from_the_record(search, capsys):
    assert command(search, summary) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == json.loads(search.summary.read_text())
    assert (made["status"], made["best"]) == ("finished", "t0001")
