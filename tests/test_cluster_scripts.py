"""The scripts of `cluster`, run: tokens, nodes, unattended searches; Google Cloud nodes as declared."""

import os
import stat
import subprocess

import pytest
import yaml

from cluster.gcp.declared import as_declared
from satdet.errors import UsageError
from tests.site import ROOT, Site
from tests.test_search import DECLARATION


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "cluster" / script), *arguments],
        env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_token_is_its_owners_alone_and_is_kept(tmp_path):
    token = tmp_path / "secrets" / "ray-token"
    made = run("token.sh", str(token))
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    secret = token.read_text()
    assert len(secret) == 64
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert run("token.sh", str(token)).returncode == 0
    assert token.read_text() == secret
    assert list(token.parent.iterdir()) == [token]


@pytest.mark.parametrize("arguments", [["head"], ["worker", "127.0.0.1:6379"]])
def test_no_node_starts_without_a_token_of_its_own(tmp_path, arguments):
    token = tmp_path / "ray-token"
    missing = run("node.sh", *arguments, RAY_AUTH_TOKEN_PATH=str(token))
    assert missing.returncode == 2
    assert missing.stderr.startswith(f"error: {token} is missing")
    token.write_text("0" * 64)
    token.chmod(0o644)
    readable = run("node.sh", *arguments, RAY_AUTH_TOKEN_PATH=str(token))
    assert readable.returncode == 2
    assert readable.stderr.startswith(f"error: {token} can be read by others")


def test_scripts_say_how_they_are_used(tmp_path):
    token = tmp_path / "ray-token"
    run("token.sh", str(token))
    for script, arguments in (("node.sh", []), ("node.sh", ["heads"]), ("node.sh", ["worker"]), ("search.sh", [])):
        done = run(script, *arguments, RAY_AUTH_TOKEN_PATH=str(token))
        assert done.returncode != 0
        assert script in done.stderr


def test_unattended_search_says_itself_whether_to_resume(tmp_path):
    site = Site(tmp_path, DECLARATION, "another-name.py")
    common = (str(site.declaration), "--storage", str(site.storage), "--smoke", "--plan")
    begun = run("search.sh", *common)
    assert begun.returncode == 0, begun.stderr
    refused = run("search.sh", *common, "--resume")
    assert refused.returncode == 2
    assert "says itself whether to resume" in refused.stderr


def test_tracking_server_does_not_start_without_its_secrets(tmp_path):
    done = run("tracking/serve.sh", SECRETS=str(tmp_path), ALLOWED_HOSTS="localhost:5000")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the secret {tmp_path}/postgres-password is missing")
    unnamed = run("tracking/serve.sh", SECRETS=str(tmp_path), ALLOWED_HOSTS="")
    assert unnamed.returncode != 0
    assert "by which names" in unnamed.stderr


@pytest.fixture
def declared(tmp_path):
    """The cluster file for Google Cloud, with a key that is there."""
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA someone\n")
    config = yaml.safe_load((ROOT / "cluster" / "gcp" / "cluster.yaml").read_text())
    config["auth"]["ssh_private_key"] = str(tmp_path / "key")
    return config


def test_nodes_of_google_cloud_get_the_key_and_nothing_else(declared):
    started = as_declared(declared)
    for name, node_type in started["available_node_types"].items():
        node = node_type["node_config"]
        assert node.pop("metadata") == {
            "items": [
                {"key": "ssh-keys", "value": "satdet:ssh-ed25519 AAAA someone"},
                {"key": "block-project-ssh-keys", "value": "true"},
            ]
        }
        assert node == declared["available_node_types"][name]["node_config"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda node: node.pop("networkInterfaces"), "name its subnetwork"),
        (lambda node: node["networkInterfaces"][0].update(accessConfigs=[{"type": "ONE_TO_ONE_NAT"}]), "accessConfigs"),
        (lambda node: node.pop("serviceAccounts"), "serviceAccounts: []"),
    ],
)
def test_nodes_of_google_cloud_that_would_have_more_are_refused(declared, change, said):
    change(declared["available_node_types"]["spot_gpu"]["node_config"])
    with pytest.raises(UsageError, match="node type spot_gpu") as error:
        as_declared(declared)
    assert said in str(error.value)


def test_a_missing_key_of_google_cloud_is_named(declared, tmp_path):
    (tmp_path / "key.pub").unlink()
    with pytest.raises(UsageError, match=r"key\.pub is missing"):
        as_declared(declared)
