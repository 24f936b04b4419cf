"""The record: nothing written is lost, torn ends are dropped, damage is never passed over in silence."""

import json

import pytest

from experiments.record import Record, RecordReader, read_record
from experiments.state import SearchState
from satdet.errors import StorageError

DECLARATION = {"objective": {"metric": "map_50", "mode": "max"}, "base": {"training.epochs": 3}, "name": "demo"}
GOES_ON = None
DONE = {"status": "finished", "stop_reason": "completed", "error": None, "by": "trial"}


def write_search(path):
    with Record(path) as record:
        record.append("search", version=1, search_id="abc", declaration=DECLARATION, digest="d", data={})
        record.append("session", host="h", process=1)
        for trial, value in (("t0000", 0.4), ("t0001", 0.6)):
            record.append("suggested", trial=trial, values={"training.epochs": 2}, seed=0)
            record.append("started", trial=trial)
            for epoch in (1, 2):
                metrics = {"map_50": value - 0.1 * epoch, "seconds": 2.0}
                record.append("result", trial=trial, epoch=epoch, metrics=metrics, end=DONE if epoch == 2 else GOES_ON)
        record.append("suggested", trial="t0002", values={}, seed=1)
    return path


def test_what_was_appended_is_read_back_in_order(tmp_path):
    events = read_record(write_search(tmp_path / "record.jsonl"))
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    state = SearchState.of(events)
    assert state.trials["t0001"].status == "finished"
    assert state.trials["t0001"].config == {"training.epochs": 2}
    assert [trial.trial_id for trial in state.open_trials()] == ["t0002"]
    assert state.ranking()[0].trial_id == "t0001"
    assert state.ranking()[0].best("map_50", "max")["map_50"] == pytest.approx(0.5)
    assert state.trials["t0000"].seconds == 4.0
    assert state.status == "interrupted"


def test_sequence_goes_on_when_opened_again(tmp_path):
    path = write_search(tmp_path / "record.jsonl")
    before = len(read_record(path))
    with Record(path) as record:
        record.append("session", host="h", process=2)
    assert read_record(path)[-1]["n"] == before + 1


def test_every_torn_end_is_dropped_and_can_be_written_on(tmp_path):
    whole = write_search(tmp_path / "record.jsonl").read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    torn = tmp_path / "torn.jsonl"
    for length in range(ends[2], len(whole) + 1, 7):
        torn.write_bytes(whole[:length])
        expected = sum(end <= length for end in ends)
        with Record(torn) as record:
            assert len(record.events) == expected
            record.append("session", host="h", process=3)
        assert len(read_record(torn)) == expected + 1


def test_damage_before_the_end_is_an_error(tmp_path):
    path = write_search(tmp_path / "record.jsonl")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged at byte"):
        read_record(path)
    with pytest.raises(StorageError, match="damaged at byte"):
        Record(path)


def test_record_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "record.jsonl"
    with Record(path) as record:
        record.append("search", version=99)
    with pytest.raises(StorageError, match="newer version"):
        read_record(path)


def test_reader_follows_and_waits_for_whole_lines(tmp_path):
    path = tmp_path / "record.jsonl"
    with Record(path) as record:
        record.append("session", host="h", process=1)
        reader = RecordReader(path)
        assert [event["kind"] for event in reader.new_events()] == ["session"]
        assert reader.new_events() == []
        record.append("started", trial="t0000")
        line = path.read_bytes()
        path.write_bytes(line[:-5])
        assert reader.new_events() == []
        path.write_bytes(line)
        assert [event["kind"] for event in reader.new_events()] == ["started"]


def test_record_is_plain_text(tmp_path):
    for line in write_search(tmp_path / "record.jsonl").read_text().splitlines():
        assert json.loads(line.partition(" ")[2])["kind"]


def test_values_that_json_cannot_hold_are_refused_before_writing(tmp_path):
    path = tmp_path / "record.jsonl"
    with Record(path) as record:
        with pytest.raises(ValueError, match="JSON"):
            record.append("result", trial="t", epoch=1, metrics={"loss": float("nan")}, end=None)
        record.append("session", host="h", process=1)
    assert [event["n"] for event in read_record(path)] == [1]
