"""Canaries in the place of every credential: after a whole search they are where they were put, and nowhere else."""

import os
import re
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from experiments.credentials import hide, known_secrets, secrets_in
from experiments.paths import SearchPaths, storage_paths
from tests.fake_wandb import FakeWandb
from tests.mlflow_server import mlflow_server
from tests.ports import grpc_answer, listeners, process_tree
from tests.searches import COMPLETED, begin, report, suggest
from tests.site import ROOT, Site
from tests.test_search import DECLARATION

OF_TRACKERS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
OF_CLOUDS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY")


def canaries() -> dict[str, str]:
    """Environment variables that hold credentials; none of the values is found anywhere by chance."""
    made = {name: secrets.token_hex(20) for name in (*OF_TRACKERS, *OF_CLOUDS, "PGPASSWORD")}
    return made | {"DATABASE_URL": f"postgresql://service:{secrets.token_hex(20)}@database/satdet"}


def values_of(variables: dict[str, str]) -> list[bytes]:
    """What must not be found: the values, and of a URI its password."""
    return [secret.encode() for value in variables.values() for secret in (secrets_in(value) or [value])]


def told_in(folder: Path, hidden: list[bytes]) -> list[Path]:
    """The files of a folder, and names in it, that hold any of `hidden`."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(secret in content + os.fsencode(path.name) for secret in hidden):
            found.append(path)
    return found


class Watch(threading.Thread):
    """Reads the command line of every process on the machine, again and again."""

    def __init__(self, hidden: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._hidden = hidden
        self.over = threading.Event()
        self.looks = 0
        self.found: dict[str, str] = {}

    def run(self) -> None:
        while not self.over.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    content = file.read_bytes()
                except OSError:
                    continue
                if any(secret in content for secret in self._hidden):
                    self.found[str(file)] = content.decode(errors="replace")
            self.looks += 1
            time.sleep(0.05)


@pytest.fixture
def wandb():
    server = FakeWandb()
    yield server
    server.close()


def test_no_credential_of_a_whole_search_is_told(tmp_path, wandb):
    given = canaries()
    password = secrets.token_hex(20)
    hidden = [*values_of(given), password.encode()]
    assert len(hidden) == 10
    (home := tmp_path / "home").mkdir()
    (temporary := tmp_path / "tmp").mkdir()
    (folder := tmp_path / "mlflow").mkdir()
    (place := tmp_path / "site").mkdir()
    site = Site(place, DECLARATION)
    environment = site.environment() | given | {"HOME": str(home), "TMPDIR": str(temporary)}
    environment |= {"WANDB_BASE_URL": wandb.proxy.uri, "MLFLOW_TRACKING_USERNAME": "service"}
    watch = Watch(hidden)
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as port:
        uri = f"http://service:{password}@127.0.0.1:{port}"
        process = subprocess.Popen(
            site.command("--smoke", "--trials", "1", "--wandb", "online", "--tracking-uri", uri),
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        own = psutil.Process(process.pid)
        while "experiments.run" not in (line := own.cmdline()) or uri in line:  # it may not have begun
            assert process.poll() is None, process.communicate()
        watch.start()
        site.wait_for_results(process, 1)
        tree = process_tree(process.pid)
        check_ray(process.pid, hidden, given)
        senders = [each for each in tree if "experiments.sync" in each.cmdline()]
        assert [each.environ()["MLFLOW_TRACKING_URI"] for each in senders] == [uri], "it does need it"
        out, err = process.communicate(timeout=240)
    watch.over.set()
    watch.join()
    assert process.returncode == 0, err
    assert watch.found == {}
    assert watch.looks > 20
    assert wandb.summary, "W&B was sent something"
    assert told_in(folder, [b"images_per_second"]), "MLflow was sent something"
    assert [secret for secret in hidden if secret in (out + err).encode()] == []
    for place in (site.folder, folder, home, temporary):
        assert told_in(place, hidden) == []
    assert not any(secret in str(vars(wandb)).encode() for secret in hidden)


def check_ray(driver: int, hidden: list[bytes], given: dict[str, str]) -> None:
    """What Ray has written and knows of the job, and what processes that train have been given."""
    tree = process_tree(driver)
    (raylet,) = [each for each in tree if each.name() == "raylet"]
    token = Path(raylet.environ()["RAY_AUTH_TOKEN_PATH"])
    assert list(token.parent.rglob("raylet.out"))
    assert told_in(token.parent, hidden) == []
    jobs = [
        grpc_answer(at, "/ray.rpc.JobInfoGcsService/GetAllJobInfo", token.read_text())
        for at, owner in listeners(driver).items()
        if owner == "gcs_server"
    ]
    assert [b"experiments.run" in job for job in jobs] == [True]
    assert not any(secret in job for job in jobs for secret in hidden)
    workers = [each for each in tree if "TrialTrainable" in each.name() or each.name() == "raylet"]
    assert len(workers) == 2
    for each in workers:
        environment = each.environ()
        assert [name for name in (*OF_TRACKERS, "MLFLOW_TRACKING_URI") if name in environment] == []
        assert {name: environment[name] for name in OF_CLOUDS} == {name: given[name] for name in OF_CLOUDS}


def finished_search(storage: Path) -> SearchPaths:
    """The record of a search that is still to be sent."""
    search = storage_paths(storage).search("backbone_ablation")
    with begin(search.record) as record:
        report(record, suggest(record, 0), 1, 0.3, COMPLETED)
        record.append("session_end", status="finished")
    return search


def test_files_of_wandb_that_are_sent_later_hold_no_key(tmp_path):
    given = canaries()
    (home := tmp_path / "home").mkdir()
    storage = tmp_path / "runs"
    name = finished_search(storage).name
    done = subprocess.run(
        [sys.executable, "-m", "experiments.sync", name, "--storage", str(storage), "--wandb", "offline"],
        cwd=ROOT, env=os.environ | given | {"HOME": str(home)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (storage / "wandb").glob("offline-run-*")
    assert told_in(run, [b"map_50"])
    assert told_in(tmp_path, values_of(given)) == []
    assert not any(secret in (done.stdout + done.stderr).encode() for secret in values_of(given))


@pytest.mark.parametrize("form", ["--tracking-uri {0}", "--track={0}", "--tracking-uri {0}x --t {0}"])
def test_a_password_on_the_command_line_is_soon_off_the_process_list(tmp_path, form):
    password = secrets.token_hex(20)
    flags = form.format(f"http://anna:{password}@127.0.0.1:9").split()
    storage = tmp_path / "runs"
    search = finished_search(storage)
    command = [sys.executable, "-m", "experiments.sync", search.name, "--storage", str(storage), "--wandb", "off"]
    process = subprocess.Popen(
        [*command, *flags, "--follow"], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    own = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while not (search.trackers / "mlflow.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert own.cmdline() == [*command, "--follow"]
    assert password in own.environ()["MLFLOW_TRACKING_URI"]
    out, err = process.communicate("", timeout=120)
    assert process.returncode == 1
    assert "***@127.0.0.1:9 cannot be reached" in out
    assert password not in out + err
    assert told_in(storage, [password.encode()]) == []


def test_what_is_secret_is_known_by_the_name_of_its_variable_or_by_its_place_in_a_uri(tmp_path):
    (tmp_path / "key").write_text("")
    environment = {
        "WANDB_API_KEY": "canary-1",
        "AWS_SECRET_ACCESS_KEY": "canary-2/" + "x" * 400,
        "DATABASE_URL": "postgresql://service:c%61nary-3@host/db",
        "STORE": "https://host/?password=canary-4&x=1",
        "MLFLOW_TRACKING_URI": "https://canary-5@host",
        "SSH_KEY": str(tmp_path / "key"),
        "PIN_TOKEN": "12",
        "HOST": "service",
    }
    found = known_secrets("http://anna:canary-6@host", environment)
    assert {each[:8] for each in found} == {*(f"canary-{number}" for number in range(1, 7)), "c%61nary"}
    said = " ".join((*environment.values(), "http://anna:canary-6@host", "canary-3"))
    assert not re.search("c.{1,3}nary-", hide(said, found))
    assert str(tmp_path / "key") in hide(said, found)
    assert hide("service 12", found) == "service 12"
