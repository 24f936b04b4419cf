"""What guards the supply of packages and the MLflow page: the commands of the Makefile as they stand there."""

import json
import os
import re
import shlex
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest
import requests
from packaging.requirements import Requirement
from packaging.version import Version

from benchmarks.audit import main as audit
from tests.mlflow_server import answers, free_port, until
from tests.ports import listeners
from tests.site import ROOT

LOCKED = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)", re.MULTILINE)


VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))
"""


def made(target: str, *settings: str) -> str:
    """The command of a target, on one line, as make would run it."""
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=env", target, *settings]
    plain = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return re.sub(r"\s+", " ", lines[-1])


def locked() -> dict[str, set[str]]:
    """Versions by package; a package may have one for each platform."""
    found: dict[str, set[str]] = {}
    for name, version in LOCKED.findall((ROOT / "requirements.lock").read_text()):
        found.setdefault(name, set()).add(version)
    return found


def test_every_locked_package_has_a_hash():
    blocks = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    assert [block.partition(" ")[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_mlflow_is_of_a_version_with_its_guards():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (declared,) = [each for each in map(Requirement, project["dependencies"]) if each.name == "mlflow"]
    assert not declared.specifier.contains("3.17.1")
    assert all(Version(version) >= Version("3.17.2") for version in locked()["mlflow"])


def test_the_bill_of_materials_is_valid_and_names_all_that_is_locked(tmp_path):
    ready = ["make", "--no-print-directory", "--old-file=.venv/.ready", ".venv-sbom/.ready"]
    subprocess.run(ready, cwd=ROOT, check=True, capture_output=True)
    command = shlex.split(made("sbom"))
    target = command.index("--output-file") + 1
    assert command[target] == "build/sbom.json"
    command[target] = str(tmp_path / "sbom.json")
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    text = (tmp_path / "sbom.json").read_text()
    said = subprocess.run([".venv-sbom/bin/python", "-c", VALIDATE], cwd=ROOT, check=True, input=text, text=True,
                          capture_output=True)  # fmt: skip
    assert said.stdout == "None\n"
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "satdet"
    listed: dict[str, set[str]] = {}
    for each in bill["components"]:
        listed.setdefault(each["name"], set()).add(each["version"])
        assert each["purl"].startswith(f"pkg:pypi/{each['name']}@{each['version']}".replace("+", "%2B"))
        assert each["externalReferences"][0]["hashes"]
    assert listed == locked()


LOCK = f"""attrs==25.1.0 \\
    --hash=sha256:{"0" * 64}
six==1.10.0 \\
    --hash=sha256:{"1" * 64}
"""


class _Advisories(BaseHTTPRequestHandler):
    """As much of OSV as is asked: it knows of one vulnerability, in six."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [] if asked["package"]["name"] != "six" else [
            {"id": "PYSEC-0000-1", "modified": "2026-01-01T00:00:00Z", "summary": "made up", "affected": [
                {"package": {"name": "six", "ecosystem": "PyPI"},
                 "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.11.0"}]}]}]}
        ]  # fmt: skip
        content = json.dumps({"vulns": known} if known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def advisories() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("lock", "status", "said"),
    [
        (LOCK, 1, "six 1.10.0: PYSEC-0000-1, mended in 1.11.0\n2 packages checked, 1 vulnerabilities known\n"),
        (LOCK.partition("six")[0], 0, "1 packages checked, 0 vulnerabilities known\n"),
    ],
)
def test_an_audit_names_what_is_vulnerable(tmp_path, capsys, lock, status, said):
    (tmp_path / "requirements.lock").write_text(lock)
    with advisories() as url:
        assert audit(["--lock", str(tmp_path / "requirements.lock"), "--osv-url", url]) == status
    assert capsys.readouterr().out == said


def test_an_audit_that_cannot_ask_does_not_pass(tmp_path, capsys):
    (tmp_path / "requirements.lock").write_text(LOCK)
    url = f"http://127.0.0.1:{free_port()}/v1/query"
    assert audit(["--lock", str(tmp_path / "requirements.lock"), "--osv-url", url]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.match(rf"error: {re.escape(url)} could not be asked \(.*refused.*\); nothing was checked\n", said.err)


def test_an_audit_of_nothing_does_not_pass(tmp_path, capsys):
    (tmp_path / "requirements.lock").write_text("")
    with advisories() as url:
        assert audit(["--lock", str(tmp_path / "requirements.lock"), "--osv-url", url]) == 2
    assert "not checked" in capsys.readouterr().err
    assert shlex.split(made("audit"))[1:] == ["-m", "benchmarks.audit"]


def test_the_mlflow_page_is_for_this_machine_alone(tmp_path):
    port = free_port()
    command = made("ui", f"UI_PORT={port}", f"STORAGE={tmp_path}")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, shell=True, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"HOME": str(tmp_path)}
        )
    try:
        until(lambda: answers(port) or server.poll() is not None)
        assert server.poll() is None, (tmp_path / "log").read_text()
        page = f"http://127.0.0.1:{port}/health"
        until(lambda: requests.get(page, timeout=5).status_code == 200)
        assert requests.get(page.replace("127.0.0.1", "localhost"), timeout=5).status_code == 200
        api = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        assert requests.get(api, timeout=5).status_code == 200
        for stranger in ("evil.example", f"evil.example:{port}", f"10.0.0.1:{port}", "192.168.0.7"):
            assert requests.get(api, headers={"Host": stranger}, timeout=5).status_code == 403, stranger
        made_by_a_page = requests.post(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/create",
            json={"name": "planted"}, headers={"Origin": "https://evil.example"}, timeout=5,
        )  # fmt: skip
        assert made_by_a_page.status_code == 403
        assert {address for address, used in listeners(server.pid) if used == port} == {"127.0.0.1"}
        assert not (ROOT / "mlruns").exists()
    finally:
        tree = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for each in tree:
            each.terminate()
        psutil.wait_procs(tree, 30)
        server.wait(30)


def test_the_claims_of_the_security_page_name_what_shows_them():
    text = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`((?:tests|experiments|satdet|cluster|benchmarks)/[\w/.-]+)`", text))
    assert len(named) >= 8
    assert [path for path in named if not (ROOT / path).exists()] == []
    tests = set(re.findall(r"`(test_\w+)`", text))
    sources = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert tests
    assert [name for name in tests if f"def {name}(" not in sources] == []
