"""The command line: what is wrong is said in one line with its exit status, and nothing is started or lost."""

import json
import shutil
from pathlib import Path

import pytest

from experiments.keeping import Keep, parse_keep
from experiments.options import RunOptions, build_parser, options_of
from experiments.paths import storage_paths
from experiments.record import Record
from experiments.run import main
from experiments.stoppers import Budget, parse_budget
from experiments.tracking import wandb_mode
from satdet.config import ConfigError
from satdet.errors import UsageError
from satdet.simulate import simulate_survey


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    simulate_survey(folder, frames=4, seed=3, size=256)
    return folder


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """Run the command in process with a storage of its own; returns status and what it said."""
    monkeypatch.setattr("experiments.search.ray_cluster", lambda *_: pytest.fail("Ray was started"))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, "--storage", str(tmp_path / "runs")])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def only_error(err: str) -> str:
    """The one line of the error, without what was told of the data before."""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in err
    return errors[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["no_such"], "unknown experiment 'no_such'; known: augmentation, backbone_ablation"),
        ([], "which experiment? --list"),
        (["backbone_ablation", "--set", "optimizer.weigth_decay=0"], "did you mean 'optimizer.weight_decay'"),
        (["backbone_ablation", "--set", "training.epochs"], "is not key=value"),
        (["backbone_ablation", "--set", "training.epochs=0"], "below its minimum 1"),
        (["backbone_ablation", "--set", "training.batch_size=many"], "not of type int"),
        (["backbone_ablation", "--set", "detector.backbone=resnet18"], "is searched by backbone_ablation"),
        (["backbone_ablation", "--seeds", "0"], "--seeds 0 is not positive"),
        (["backbone_ablation", "--nodes", "4x16cpu1gpu"], "of which cluster?"),
        (["backbone_ablation", "--keep", "2GB,3"], "--keep '2GB,3' is not like 3"),
        (["backbone_ablation", "--keep", "0"], "is not like 3"),
        (["backbone_ablation", "--keep", ""], "is not like 3"),
        (["backbone_ablation", "--tracking-uri", "mlruns"], "--tracking-uri mlruns: runs are not kept in a folder"),
        (["backbone_ablation", "--tracking-uri", "file:///mlruns"], "runs are not kept in a folder"),
        (["backbone_ablation", "--storage-patience", "-1"], "--storage-patience -1 is negative"),
        (["backbone_ablation", "--epochs", "+3"], "of which trial? name it with --continue"),
        (["backbone_ablation", "--continue", "t0000", "--epochs", "3"], "--epochs 3 is not like +20"),
        (["backbone_ablation", "--continue", "t0000", "--epochs", "+3"], "there is no search to resume"),
        (["backbone_ablation", "--resume", "--continue", "t0000"], "there is no search to resume"),
        (
            ["backbone_ablation", "--fresh", "--continue", "t0000"],
            "--continue goes on with a search, --fresh begins anew",
        ),
        (["backbone_ablation", "--budget", "12 weeks"], "unknown unit 'weeks'"),
        (["backbone_ablation", "--budget", "soon"], "is not like 12h"),
        (["backbone_ablation", "--resume"], "there is no search to resume"),
        (["backbone_ablation", "--smoke", "--cpus-per-trial", "4096"], "a trial asks for 4096 CPUs"),
        (["missing.py"], "missing.py: no such file"),
    ],
)
def test_usage_errors(command, arguments, expected):
    status, _, err = command(*arguments)
    assert status == 2
    assert expected in only_error(err)


def test_misspelt_key_in_a_file_names_file_and_key(command, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text("from search_spaces.declare import *\nSearchSpace({'optimizer.learning_rat': Choice(1.0)})\n")
    status, _, err = command(str(file))
    assert status == 2
    assert "wrong.py" in only_error(err)
    assert "'optimizer.learning_rat' (did you mean 'optimizer.learning_rate'?)" in err


def test_folder_without_frames_is_bad_data(command, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        status, _, err = command("backbone_ablation", "--smoke", "--data", str(tmp_path / folder))
        assert status == 4
        assert folder in only_error(err)


def test_frames_that_cannot_be_used_are_bad_data_with_the_reason(command, frames, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    image = sorted(frames.glob("*.fits.gz"))[0]
    shutil.copy(image, alone)
    status, _, err = command("backbone_ablation", "--smoke", "--data", str(alone))
    assert status == 4
    assert "catalogue" in only_error(err)


def test_unreadable_frame_and_frame_without_catalogue_are_told_and_left_out(command, frames, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(frames, mixed)
    first, second = sorted(mixed.glob("*.fits.gz"))[:2]
    (mixed / "labels.csv").unlink()
    first.write_bytes(first.read_bytes()[:5000])
    (mixed / second.name.replace(".fits.gz", "_trl.dat")).unlink()
    status, _, err = command("backbone_ablation", "--smoke", "--data", str(mixed), "--set", "training.batch_size=4096")
    assert status == 2
    assert "2 rejected" in err
    assert first.name in err and second.name in err


def test_batch_larger_than_the_data_names_both_numbers(command, frames):
    values = ["--set", "training.batch_size=2000", "--set", "training.tiles_per_epoch=null"]
    status, _, err = command("backbone_ablation", "--smoke", "--data", str(frames), *values)
    assert status == 2
    assert "training.batch_size = 2000 is larger than an epoch of " in only_error(err)


def test_missing_weights_offline_name_the_file_and_its_place(command, frames, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    weights = ["--set", "detector.weights=backbone", "--weights-dir", str(tmp_path), "--set", "training.batch_size=2"]
    status, _, err = command("backbone_ablation", "--smoke", "--data", str(frames), *weights)
    assert status == 2
    assert "resnet18-f37072fd.pth" in only_error(err)
    assert str(tmp_path) in err


def test_storage_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["backbone_ablation", "--smoke", "--storage", str(tmp_path / "file" / "runs")]) == 2
    assert "cannot be written" in only_error(capsys.readouterr().err)


def test_unfinished_search_needs_resume_or_fresh(command, tmp_path):
    with Record(tmp_path / "runs" / "backbone_ablation" / "record.jsonl") as record:
        record.append("search", version=1, search_id="abc", declaration={"objective": {"metric": "map_50"}}, digest="d")
        record.append("session", host="h", process=1)
    content = record.path.read_bytes()
    status, _, err = command("backbone_ablation", "--smoke")
    assert status == 2
    assert "--resume" in only_error(err) and "--fresh" in err
    assert record.path.read_bytes() == content


def test_damaged_record_is_an_error_not_a_restart(command, tmp_path):
    with Record(tmp_path / "runs" / "backbone_ablation" / "record.jsonl") as record:
        for _ in range(3):
            record.append("session", host="h", process=1)
    content = bytearray(record.path.read_bytes())
    content[20] ^= 1
    record.path.write_bytes(content)
    status, _, err = command("backbone_ablation", "--resume")
    assert status == 2
    assert "damaged at byte 0" in only_error(err)


def test_list_and_plan_start_nothing(command, tmp_path):
    status, out, _ = command("--list")
    assert status == 0 and "Does a smaller ResNet lose map_50?" in out
    status, out, _ = command("backbone_ablation", "--plan")
    assert status == 0
    assert out.count("detector.backbone=resnet18") == 3
    assert "trials      12" in out and "cost        about" in out
    status, out, _ = command("backbone_ablation", "--plan", "--smoke", "--trials", "2", "--concurrency", "1")
    assert "trials      2, 1 at a time, at most" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("12h", Budget(seconds=43200)),
        ("90m", Budget(seconds=5400)),
        ("1.5gpuh", Budget(gpu_seconds=5400)),
        ("500epochs", Budget(epochs=500)),
    ],
)
def test_budgets_are_read(text, budget):
    assert parse_budget(text) == budget


def test_budget_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="is not like"):
        parse_budget("0h")


def test_a_resume_asks_only_for_what_changes():
    options = options_of(build_parser().parse_args(["backbone_ablation", "--resume"]))
    assert set(options.recorded().values()) == {None}
    flags = ["x", "--smoke", "--set", "training.epochs=3", "--data", ".", "--budget", "2h"]
    begun = options_of(build_parser().parse_args(flags))
    recorded = json.loads(json.dumps(begun.recorded()))
    resumed = options.resumed(recorded)
    assert resumed.recorded() == recorded
    assert (resumed.smoke, resumed.values, resumed.data) == (True, {"training.epochs": 3}, str(Path.cwd()))
    assert resumed.budget == Budget(seconds=7200)
    assert options_of(build_parser().parse_args(["x", "--resume", "--budget", "3h"])).resumed(
        recorded
    ).budget == Budget(seconds=10800)


def test_wandb_is_online_only_with_a_key_or_when_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_mode(RunOptions(experiment="x")) == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    (tmp_path / "netrc").chmod(0o600)
    assert wandb_mode(RunOptions(experiment="x")) == "online"
    assert wandb_mode(RunOptions(experiment="x", wandb="off")) == "off"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert wandb_mode(RunOptions(experiment="x")) == "online"


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_search_names_stay_inside_the_storage(name, tmp_path):
    with pytest.raises(UsageError, match="not the name of a search"):
        storage_paths(tmp_path).search(name)


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("3", Keep(3)),
        ("20GB", Keep(2, 20 * 10**9)),
        ("1,500MB", Keep(1, 5 * 10**8)),
        ("4, 1.5TB", Keep(4, 15 * 10**11)),
    ],
)
def test_keep(text, keep):
    assert parse_keep(text) == keep


def test_a_resume_takes_what_the_last_session_said():
    first = RunOptions(experiment="x", trials=30, keep=Keep(3, 10**9), budget=Budget(epochs=9.0))
    recorded = json.loads(json.dumps(first.recorded()))
    resumed = RunOptions(experiment="x", resume=True, trials=50).resumed(recorded)
    assert (resumed.trials, resumed.keep, resumed.budget) == (50, Keep(3, 10**9), Budget(epochs=9.0))


def test_an_error_of_the_operating_system_is_a_line_too(tmp_path, command):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "data").symlink_to(tmp_path / "nowhere")
    status, _, err = command("backbone_ablation", "--smoke")
    assert status == 2
    assert only_error(err).startswith(f"error: {tmp_path / 'runs' / 'data'}: ")
