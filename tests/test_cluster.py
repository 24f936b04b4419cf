"""A cluster of our own start script: what the README says about it, and a worker process that is lost on it."""

import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from experiments.record import read_record
from tests.ports import answered, listeners_with
from tests.site import ROOT, Site
from tests.test_search import DECLARATION

SERVED = {
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetSystemConfig",
    "ObjectManagerService/Push",
    "HTTP 200",
}
"""What a node of a cluster answers to who has the token."""


@pytest.fixture
def cluster(tmp_path):
    """A head started by the script; yields its address and what a driver needs in its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = tmp_path / "secrets" / "ray-token"
    environment = {"PORT": str(port), "CPUS": "2", "RAY_AUTH_TOKEN_PATH": str(token)}
    head = subprocess.Popen(
        [str(ROOT / "cluster" / "local" / "start.sh"), "--block"],
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert head.stdout is not None
    said = ""
    while "Ray runtime started" not in said:
        line = head.stdout.readline()
        assert line, said
        said += line
    yield f"127.0.0.1:{port}", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}, said
    head.send_signal(signal.SIGTERM)
    head.communicate(timeout=60)


def workers_of(address: str) -> list[int]:
    """Processes that train a trial on the cluster at `address`."""
    port = address.rpartition(":")[2]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            raylet = Path("/proc", parent, "cmdline").read_text()
        except OSError:
            continue
        if name.startswith(b"ray::TrialTrainable") and f":{port}" in raylet:
            found.append(int(folder.name))
    return found


def test_search_on_a_cluster_survives_a_lost_worker(cluster, tmp_path):
    address, access, said = cluster
    assert f"--address {address}" in said
    token = Path(access["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() not in said
    sockets = listeners_with("RAY_AUTH_TOKEN_PATH", str(token))
    assert {method for at in sockets for method in answered(at, token.read_text())} >= SERVED
    assert [(at, found) for at in sockets if (found := answered(at))] == []

    site = Site(tmp_path, DECLARATION)
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    wrong.chmod(0o600)
    flags = ("--smoke", "--trials", "1", "--wandb", "off", "--address", address)
    refused = subprocess.run(
        site.command(*flags), cwd=ROOT, env=site.environment() | access | {"RAY_AUTH_TOKEN_PATH": str(wrong)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert f"error: --address {address}: cannot connect" in refused.stderr.splitlines()[-1]
    assert not site.search.exists()

    process = subprocess.Popen(
        site.command(*flags, "--json"), cwd=ROOT, env=site.environment() | access,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    site.wait_for_results(process, 1)
    time.sleep(0.5)
    (worker,) = workers_of(address)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    (trial,) = json.loads(out)["trials"]
    assert (trial["status"], trial["epochs"]) == ("finished", 3)
    kinds = [event["kind"] for event in read_record(site.search / "record.jsonl")]
    assert kinds.count("retried") == 1
    assert kinds.count("result") == 3
    assert "beginning again from its checkpoint" in err
