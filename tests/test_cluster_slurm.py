"""A Slurm job on this machine: real Ray, a real search, and stand-ins for Slurm's own commands."""

import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from experiments.record import read_record
from tests.site import ROOT, Site
from tests.test_search import DECLARATION


class Slurm:
    """Stands in for Slurm: `srun` runs its command here, `scontrol` knows one host and notes requeues."""

    def __init__(self, folder: Path) -> None:
        self.requeued = folder / "requeued"
        self.home = folder / "home"
        self.home.mkdir()
        self.jobs: list[subprocess.Popen[str]] = []
        tools = folder / "bin"
        tools.mkdir()
        shims = {
            "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
            "scontrol": f'if [ "$1" = requeue ]; then echo "$2" >>{self.requeued}; else echo localhost; fi',
        }
        for name, body in shims.items():
            (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (tools / name).chmod(0o755)
        self.job = os.getpid()
        allocation = {"JOB_ID": str(self.job), "JOB_NODELIST": "localhost", "JOB_NUM_NODES": "1", "CPUS_PER_TASK": "2"}
        self.environment = {f"SLURM_{name}": value for name, value in allocation.items()}
        self.environment |= {"SLURM_SUBMIT_DIR": str(ROOT), "HOME": str(self.home)}
        self.environment |= {"PATH": f"{tools}:{os.environ['PATH']}"}

    def start(self, site: Site) -> subprocess.Popen[str]:
        script = ROOT / "cluster" / "slurm" / "search.sbatch"
        flags = ["--storage", str(site.storage), "--smoke", "--trials", "1", "--wandb", "off"]
        job = subprocess.Popen(
            ["bash", str(script), str(site.declaration), *flags],
            env=site.environment() | self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.jobs.append(job)
        return job

    @property
    def port(self) -> int:
        """That the script takes for this job."""
        return 20000 + self.job % 10000

    @property
    def token(self) -> Path:
        return self.home / ".config" / "satdet" / f"ray-token-{self.job}"


def processes_of(port: int) -> list[str]:
    """Processes of Ray that name this port."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f":{port}" in line and "ray" in line:
            found.append(line)
    return found


def wait_for_a_result(site: Site, job: subprocess.Popen[str]) -> None:
    """Longer than elsewhere: a head that does not start at once on a busy machine is tried again."""
    deadline = time.monotonic() + 500
    while site.results() < 1:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline, "no result in time"
        time.sleep(0.2)


@pytest.fixture
def slurm(tmp_path):
    """With nothing left of its jobs at the end."""
    slurm = Slurm(tmp_path)
    yield slurm
    for job in slurm.jobs:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGTERM)
            job.communicate(timeout=120)
    shutil.rmtree(f"/tmp/ray-{slurm.job}", ignore_errors=True)


@pytest.mark.slow
def test_slurm_job_that_is_warned_is_queued_again_and_goes_on(slurm, tmp_path):
    site = Site(tmp_path, DECLARATION)
    job = slurm.start(site)
    wait_for_a_result(site, job)
    assert stat.S_IMODE(slurm.token.stat().st_mode) == 0o600
    secret = slurm.token.read_text()
    assert not any(secret in line for line in processes_of(slurm.port))
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 130, said
    assert slurm.requeued.read_text() == f"{slurm.job}\n"
    assert not slurm.token.exists()
    assert secret not in said
    deadline = time.monotonic() + 60
    while processes_of(slurm.port) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not processes_of(slurm.port)

    again = slurm.start(site)
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert slurm.requeued.read_text() == f"{slurm.job}\n"
    events = [event["kind"] for event in read_record(site.search / "record.jsonl")]
    assert events.count("suggested") == 1
    assert events.count("result") == 3
    assert site.summary()["status"] == "finished"
