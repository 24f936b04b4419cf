"""What a stranger can reach: sockets of a real search, asked without its token, and tokens that are not kept well."""

import os
import signal
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from experiments.ray_access import check_token_file, ray_access
from satdet.errors import UsageError
from tests.ports import METHODS, answered, is_loopback, listeners, process_tree
from tests.site import ROOT, Site
from tests.test_search import DECLARATION


def test_a_search_listens_on_loopback_and_tells_nothing_without_its_token(tmp_path):
    site = Site(tmp_path, DECLARATION)
    process = site.start("--smoke", "--trials", "1", "--wandb", "off", "--set", "training.epochs=10000")
    try:
        site.wait_for_results(process, 1)
        (raylet,) = [each for each in process_tree(process.pid) if each.name() == "raylet"]
        environment = raylet.environ()
        token_file = Path(environment["RAY_AUTH_TOKEN_PATH"])
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(token_file.parent.stat().st_mode) == 0o700
        (sockets_at,) = [each for each in raylet.cmdline() if each.startswith("--raylet_socket_name=")]
        assert token_file.parent in Path(sockets_at.partition("=")[2]).parents
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"

        sockets = listeners(process.pid)
        assert {"gcs_server", "raylet"} <= set(sockets.values())
        assert len(sockets) >= 6
        assert [address for address, _ in sockets if not is_loopback(address)] == []
        secret = token_file.read_text()
        known = {at: answered(at, secret) for at in sockets}
        assert {method for methods in known.values() for method in methods} == {*METHODS, "HTTP 200"}
        assert all(known.values()), (known, sockets)
        for token in (None, "0" * len(secret)):
            assert [(at, found) for at in known if (found := answered(at, token))] == [], sockets
        assert process.poll() is None
        assert not any(secret in argument for each in process_tree(process.pid) for argument in each.cmdline())
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert secret not in out + err
    for file in (path for path in site.storage.rglob("*") if path.is_file()):
        assert secret.encode() not in file.read_bytes(), file
    assert not token_file.parent.exists()


def written(path: Path, mode: int = 0o600, content: str = "00") -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_token_that_is_its_owners_alone_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(written(tmp_path / "token")))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before = dict(os.environ)
    with ray_access("head:6379") as settings:
        assert settings == {}
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert dict(os.environ) == before


def make_link(folder: Path) -> Path:
    (folder / "link").symlink_to(written(folder / "token"))
    return folder / "link"


def make_replaceable(folder: Path) -> Path:
    token = written(folder / "token")
    folder.chmod(0o777)
    return token


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: folder / "none", "cannot be read"),
        (lambda folder: written(folder / "token", content=""), "is empty or not a file"),
        (lambda folder: folder, "is empty or not a file"),
        (lambda folder: written(folder / "token", 0o644), r"others can read .* \(mode 644\)"),
        (lambda folder: written(folder / "token", 0o660), r"others can read .* \(mode 660\)"),
        (make_link, "is a symbolic link"),
        (make_replaceable, "others can replace the token"),
    ],
)
def test_a_token_that_is_not_kept_well_is_refused(tmp_path, monkeypatch, make, expected):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(make(folder)))
    with pytest.raises(UsageError, match=expected), ray_access("head:6379"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_token_of_another_user_is_refused(tmp_path):
    token = written(tmp_path / "token")
    os.chown(token, 12345, 12345)
    with pytest.raises(UsageError, match="belongs to another user"):
        check_token_file(token)


def test_a_cluster_without_a_token_has_to_be_asked_for(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    refused = pytest.raises(UsageError, match=r"--address head:6379: no token .* RAY_AUTH_MODE=disabled")
    with refused, ray_access("head:6379"):
        pass
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ray_access("head:6379") as settings:
        assert settings == {}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: written(folder / "token", 0o644), "not a file that only you can read"),
        (make_link, "is a symbolic link"),
        (make_replaceable, "others can replace"),
    ],
)
def test_a_node_does_not_start_with_such_a_token(tmp_path, make, expected):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    done = subprocess.run(
        [str(ROOT / "cluster" / "local" / "start.sh"), "--block"],
        env=os.environ | {"RAY_AUTH_TOKEN_PATH": str(make(folder))},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert not [each for each in psutil.Process().children(recursive=True) if each.name() == "raylet"]
