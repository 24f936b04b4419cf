"""The room a search takes: the worst trials' checkpoints go first, never what a resume needs; a full disk is told."""

import pytest

from experiments import keeping
from experiments.keeping import CheckpointCap, SpaceWatch
from experiments.paths import storage_paths
from experiments.state import SearchState
from satdet.training import files
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest

MB = 10**6
SIZE = 2 * MB


@pytest.fixture
def search(tmp_path):
    """Trials by score: t0001 (0.6), t0000 (0.5), t0003 (0.4, running), t0002 (0.2), t0004 (0.1, failed)."""
    paths = storage_paths(tmp_path).search("backbone_ablation")
    ends = ((0.5, BY_ASHA), (0.6, COMPLETED), (0.2, COMPLETED), (0.4, None), (0.1, FAILED))
    with begin(paths.record) as record:
        for number, (value, end) in enumerate(ends):
            trial = suggest(record, number)
            report(record, trial, 1, value - 0.1)
            report(record, trial, 2, value, end)
            folder = paths.trial(trial)
            folder.mkdir(parents=True)
            for epoch in (1, 2):
                (folder / f"epoch-{epoch:04d}-{epoch:016x}.pt").write_bytes(bytes(SIZE))
            files.link_best(folder / f"epoch-0001-{1:016x}.pt")
            (folder / files.MODEL).write_bytes(b"model")
    return paths, SearchState.of(record.events)


def left(paths):
    return {path.name: len(list(path.glob("epoch-*.pt"))) for path in sorted(paths.trials.iterdir())}


@pytest.mark.parametrize(
    ("cap", "kept"),
    [
        (20 * MB, {"t0000": 2, "t0001": 2, "t0002": 2, "t0003": 2, "t0004": 2}),
        (18 * MB, {"t0000": 2, "t0001": 2, "t0002": 2, "t0003": 2, "t0004": 1}),
        (16 * MB, {"t0000": 2, "t0001": 2, "t0002": 2, "t0003": 2, "t0004": 0}),
        (9 * MB, {"t0000": 0, "t0001": 2, "t0002": 0, "t0003": 2, "t0004": 0}),
        (4 * MB, {"t0000": 0, "t0001": 0, "t0002": 0, "t0003": 2, "t0004": 0}),
    ],
)
def test_the_worst_trials_go_first(search, cap, kept):
    paths, state = search
    said = []
    freed = CheckpointCap(paths, cap, said.append).enforce(state)
    assert left(paths) == kept
    assert freed == 20 * MB - SIZE * sum(kept.values())
    assert all((folder / files.MODEL).exists() for folder in paths.trials.iterdir())
    assert said == []


def test_what_a_resume_needs_is_kept_and_that_is_said_once(search):
    paths, state = search
    said = []
    cap = CheckpointCap(paths, MB, said.append)
    cap.enforce(state)
    cap.enforce(state)
    assert left(paths)["t0003"] == 2
    assert len(said) == 1 and "are 3 MB more than 1 MB" in said[0]


def test_a_model_that_is_still_to_be_made_keeps_its_checkpoint(search):
    paths, state = search
    (paths.trial("t0002") / files.MODEL).unlink()
    CheckpointCap(paths, MB, lambda text: None).enforce(state)
    assert left(paths)["t0002"] == 2


def test_without_a_cap_nothing_is_removed(search):
    paths, state = search
    assert CheckpointCap(paths, None, pytest.fail).enforce(state) == 0
    assert set(left(paths).values()) == {2}


def test_a_storage_about_to_be_full_is_told_once_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 0.0)
    free = iter([5 * 10**9, 63 * MB, 62 * MB, 5 * 10**9, 900 * MB])
    monkeypatch.setattr(keeping.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": next(free)}))
    said = []
    watch = SpaceWatch(tmp_path, said.append)
    for _ in range(5):
        watch.look()
    assert [text.partition(" are free")[0] for text in said] == ["only 63 MB", "only 900 MB"]
