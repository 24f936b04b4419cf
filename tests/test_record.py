"""The record: nothing written is lost, torn ends are dropped, damage is never passed over in silence."""

import errno
import json
import os
import time

import pytest

from experiments import record as module
from experiments.record import Record, RecordReader, read_record
from experiments.state import SearchState
from satdet.errors import StorageError, StorageLostError

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


class Refusing:
    """A storage that takes `part` bytes of a line and then refuses, so many times."""

    def __init__(self, number, times, part=0):
        self.error = OSError(number, os.strerror(number))
        self.times = times
        self.part = part
        self.write = os.write

    def __call__(self, file, data):
        if self.times == 0:
            return self.write(file, data)
        if self.part:
            part, self.part = self.part, 0
            return self.write(file, bytes(data[:part]) if part > 0 else bytes(-part))
        self.times -= 1
        raise self.error


@pytest.mark.parametrize("part", [0, 1, 40, -40])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_a_refusing_storage_is_waited_for_and_the_line_is_there_once(tmp_path, monkeypatch, number, part):
    waited = []
    path = write_search(tmp_path / "record.jsonl")
    with Record(path, pause=lambda seconds, error: waited.append(error.errno)) as record:
        before = list(record.events)
        monkeypatch.setattr(module.os, "write", Refusing(number, times=3, part=part))
        record.append("session", host="h", process=2)
        record.append("started", trial="t0002")
        events = list(record.events)
    assert waited == [number] * 2  # the handle was opened anew at once
    assert read_record(path) == events
    assert [event["kind"] for event in events[len(before) :]] == ["session", "started"]


def test_a_storage_that_stays_away_ends_the_search_and_what_was_written_is_whole(tmp_path, monkeypatch):
    path = write_search(tmp_path / "record.jsonl")
    before = read_record(path)
    with Record(path, patience=0.0) as record:
        monkeypatch.setattr(module.os, "write", Refusing(errno.ENOSPC, times=10, part=10))
        with pytest.raises(StorageLostError, match="No space left on device; free some space and resume") as lost:
            record.append("session", host="h", process=2)
        monkeypatch.undo()
        with pytest.raises(StorageLostError) as again:
            record.append("session", host="h", process=2)
        assert again.value is lost.value is record.lost
    assert read_record(path) == before
    with Record(path) as record:
        assert record.dropped == 0
        assert record.events == before


def test_who_waits_can_be_told_to_leave(tmp_path, monkeypatch):
    with Record(tmp_path / "record.jsonl", pause=lambda seconds, error: True) as record:
        monkeypatch.setattr(module.os, "write", Refusing(errno.EROFS, times=10))
        with pytest.raises(StorageLostError, match="make it writable and resume"):
            record.append("session", host="h", process=2)


def test_an_error_that_waiting_does_not_help_is_not_waited_for(tmp_path, monkeypatch):
    with Record(tmp_path / "record.jsonl", pause=lambda *_: pytest.fail("waited")) as record:
        monkeypatch.setattr(module.os, "write", Refusing(errno.EBADF, times=10))
        with pytest.raises(OSError, match="Bad file descriptor"):
            record.append("session", host="h", process=2)


class BreakingOff:
    """A storage that fails once, and comes back as `content`, not as what it had said was on disk."""

    def __init__(self, path, content):
        self._path, self._content = path, content
        self._fsync = os.fsync

    def __call__(self, file):
        if self._content is None:
            return self._fsync(file)
        self._path.write_bytes(self._content)
        self._content = None
        raise OSError(errno.EIO, "EIO")


@pytest.mark.parametrize("rest", [b"", b"deadbeef {torn", bytes(100)])
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_lines_that_a_storage_has_lost_against_its_word_are_written_again(tmp_path, monkeypatch, kept, rest):
    path = tmp_path / "record.jsonl"
    with Record(path, pause=lambda seconds, error: False) as record:
        for process in range(4):
            record.append("session", host="h", process=process)
        whole = path.read_bytes()
        content = b"".join(whole.splitlines(keepends=True)[:kept]) + rest
        monkeypatch.setattr(module.os, "fsync", BreakingOff(path, content))
        record.append("session", host="h", process=4)
        record.append("session", host="h", process=5)
        assert path.read_bytes().startswith(whole)
        assert [event["process"] for event in read_record(path)] == list(range(6))
        assert read_record(path) == record.events


def test_what_another_driver_has_written_in_place_of_lost_lines_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "record.jsonl"
    with Record(path, pause=lambda seconds, error: False) as record:
        record.append("session", host="h", process=1)
        first = path.read_bytes()
        record.append("session", host="of a long name", process=2)
        (tmp_path / "copy.jsonl").write_bytes(first)
        with Record(tmp_path / "copy.jsonl") as other:
            other.append("session", host="x", process=3)
        theirs = (tmp_path / "copy.jsonl").read_bytes()
        assert len(theirs) < len(path.read_bytes())
        monkeypatch.setattr(module.os, "fsync", BreakingOff(path, theirs))
        with pytest.raises(StorageError, match="another process has changed it"):
            record.append("session", host="h", process=4)
        assert path.read_bytes() == theirs


@pytest.mark.parametrize("refused_before", [False, True])
def test_two_drivers_cannot_both_write(tmp_path, monkeypatch, refused_before):
    path = write_search(tmp_path / "record.jsonl")
    with Record(path, pause=lambda seconds, error: False) as one, Record(path) as other:
        other.append("session", host="other", process=2)
        expected = path.read_bytes()
        if refused_before:
            fstat, refusals = os.fstat, [OSError(errno.EIO, "EIO")]

            def refusing_once(file):
                if refusals:
                    raise refusals.pop()
                return fstat(file)

            monkeypatch.setattr(module.os, "fstat", refusing_once)
        with pytest.raises(StorageError, match="another process has changed it"):
            one.append("session", host="one", process=1)
    assert path.read_bytes() == expected


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_jumps_changes_no_order_and_no_duration(tmp_path, monkeypatch, jump):
    path = tmp_path / "record.jsonl"
    with Record(path) as record:
        record.append("search", version=1, search_id="abc", declaration=DECLARATION, digest="d", data={})
        record.append("session", host="h", process=1)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        record.append("suggested", trial="t0000", values={"training.epochs": 2}, seed=0)
        record.append("started", trial="t0000")
    with Record(path) as record:
        record.append("session", host="h", process=2)
        record.append("result", trial="t0000", epoch=1, metrics={"map_50": 0.5, "seconds": 2.0}, end=DONE)
    events = read_record(path)
    assert [event["n"] for event in events] == [1, 2, 3, 4, 5, 6]
    state = SearchState.of(events)
    assert 0 <= state.seconds < 10
    assert state.trials["t0000"].status == "finished"


def test_a_record_of_before_the_monotonic_clock_is_understood(tmp_path):
    events = [
        {key: value for key, value in event.items() if key != "t"} | {"time": 1000.0 + 10 * place}
        for place, event in enumerate(read_record(write_search(tmp_path / "record.jsonl")))
    ]
    assert SearchState.of(events).seconds == 10.0 * (len(events) - 2)


def test_a_line_that_is_missing_in_the_middle_is_an_error(tmp_path):
    path = write_search(tmp_path / "record.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4] + lines[5:]))
    with pytest.raises(StorageError, match="event 5 is missing"):
        read_record(path)
