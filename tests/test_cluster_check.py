"""The files of `cluster`: that they are in order, and that every rule sees its fault in a copy of the real files."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.check.__main__ import main
from cluster.check.metric_names import RAY_METRICS
from cluster.check.rules import RULES
from cluster.check.site import Site, ray_folder
from tests.site import ROOT

CRDS = ROOT.parent / "shared" / "schemas" / "kuberay"
SECRET = "hunter2-" + "hunter2"


@dataclass(frozen=True)
class Fault:
    """A change to a copy of a real file, and the line of it that a finding has to name (None: any)."""

    rule: str
    file: str
    old: str
    new: str
    named: str | None = None

    def __str__(self) -> str:
        first = (self.new.strip().splitlines() or ["gone"])[0]
        return f"{self.rule}-{Path(self.file).name}-{first[:40]}"


GCP, ONPREM = "cluster/gcp/cluster.yaml", "cluster/onprem/cluster.yaml"
CLUSTER, JOB = "cluster/kubernetes/raycluster.yaml", "cluster/kubernetes/rayjob.yaml"
POLICY, VALKEY = "cluster/kubernetes/network-policy.yaml", "cluster/kubernetes/valkey.yaml"
COMPOSE, MANIFEST, SERVE = (
    "cluster/tracking/compose.yaml",
    "cluster/tracking/manifest.yaml",
    "cluster/tracking/serve.sh",
)
RULES_FILE, DASHBOARD = "cluster/monitoring/satdet.rules.yml", "cluster/monitoring/dashboard.json"
NODE, ENVIRONMENT = "cluster/node.sh", "cluster/environment.sh"

FAULTS = (
    Fault("readable", GCP, "max_workers: 4\nup", "max_workers: 4\nmax_workers: 5\nup", "max_workers: 5"),
    Fault("readable", CLUSTER, "  rayVersion: 2.60.0", "  rayVersion: [2.60.0", None),
    Fault("readable", DASHBOARD, '"refresh": "30s",', '"refresh": 30s,', "30s"),
    Fault("ray-schema", GCP, "idle_timeout_minutes: 10", "idle_timeout_minute: 10"),
    Fault("ray-schema", GCP, "upscaling_speed: 1.0", "upscaling_speed: fast", "upscaling_speed: fast"),
    Fault("ray-schema", GCP, "head_node_type: head", "head_node_type: haed", "head_node_type: haed"),
    Fault("ray-schema", GCP, "max_workers: 4\nup", "max_workers: -1\nup", "max_workers: -1"),
    Fault("ray-schema", GCP, "  spot_gpu:\n    min_workers: 0", "  spot_gpu:\n    min_workers: 5", "max_workers: 4"),
    Fault("crd-schema", CLUSTER, "      maxReplicas: 4", "      maxReplicas: four", "maxReplicas: four"),
    Fault("crd-schema", CLUSTER, "idleTimeoutSeconds: 600", "idleTimeoutSecond: 600"),
    Fault("crd-schema", CLUSTER, "authOptions: {mode: token}", "authOptions: {mode: tokens}", "authOptions"),
    Fault("crd-schema", JOB, "submissionMode:", "submitMode:"),
    Fault("crd-schema", VALKEY, "containerPort: 6379", "containerPorts: 6379"),
    Fault("crd-schema", CLUSTER, "apiVersion: ray.io/v1\n", "apiVersion: ray.io/v2\n"),
    Fault("public-address", GCP, "use_internal_ips: true", "use_internal_ips: false"),
    Fault(
        "public-address", GCP, "      networkInterfaces:\n        - subnetwork:"
        " projects/my-project/regions/us-central1/subnetworks/satdet\n", "",
    ),
    Fault(
        "public-address", GCP, "subnetworks/satdet\n",
        "subnetworks/satdet\n          accessConfigs: [{type: ONE_TO_ONE_NAT}]\n", "accessConfigs",
    ),
    Fault("public-address", VALKEY, "type: ClusterIP", "type: LoadBalancer", "type: LoadBalancer"),
    Fault("public-address", CLUSTER, "serviceType: ClusterIP", "serviceType: NodePort", "serviceType: NodePort"),
    Fault("public-address", CLUSTER, "    serviceType:", "    enableIngress: true\n    serviceType:", "enableIngress"),
    Fault("public-address", VALKEY, "containerPort: 6379}", "containerPort: 6379, hostPort: 6379}", "hostPort"),
    Fault("public-address", COMPOSE, "127.0.0.1:5000:5000", "5000:5000", "5000:5000"),
    Fault(
        "public-address", COMPOSE, "    healthcheck:\n      test: [CMD, pg",
        '    ports: ["5432:5432"]\n    healthcheck:\n      test: [CMD, pg', "5432:5432",
    ),
    Fault("public-address", MANIFEST, "kind: ConfigMap", "kind: Ingress", "kind: Ingress"),
    Fault("network-policy", POLICY, "name: satdet}\n  policyTypes", "name: other}\n  policyTypes"),
    Fault("network-policy", POLICY, "  policyTypes: [Ingress]\n", "  policyTypes: [Egress]\n"),
    Fault(
        "network-policy", POLICY, "        - podSelector: {matchLabels: {app.kubernetes.io/name: satdet}}\n",
        "        - podSelector: {}\n",
    ),
    Fault(
        "network-policy", POLICY,
        "    - from:\n        - podSelector: {matchLabels: {app.kubernetes.io/name: satdet}}",
        "    - from:\n        - ipBlock: {cidr: 0.0.0.0/0}",
    ),
    Fault("network-policy", MANIFEST, "values: [satdet-postgres, satdet-s3]", "values: [satdet-s3]"),
    Fault(
        "network-policy", MANIFEST,
        "    - from: [{podSelector: {matchLabels: {app.kubernetes.io/name: satdet}}}]\n      ports", "    - ports",
    ),
    Fault("dashboard-address", NODE, "--include-dashboard=false", "--dashboard-host=0.0.0.0", "--dashboard-host"),
    Fault("dashboard-address", NODE, " --include-dashboard=false", "", "start --head"),
    Fault("dashboard-address", CLUSTER, "      dashboard-host: 127.0.0.1\n", ""),
    Fault("dashboard-address", CLUSTER, "dashboard-host: 127.0.0.1", "dashboard-host: 0.0.0.0", "dashboard-host"),
    Fault("dashboard-address", JOB, "dashboard-host: $(POD_IP)", "dashboard-host: 0.0.0.0", "dashboard-host"),
    Fault(
        "dashboard-address", POLICY,
        "          podSelector: {matchLabels: {app.kubernetes.io/name: kuberay-operator}}\n", "",
    ),
    Fault(
        "dashboard-address", ONPREM, "cluster/node.sh head --autoscaling",
        ".venv/bin/ray start --head --dashboard-host 0.0.0.0 --autoscaling", "ray start --head",
    ),
    # Without commands of its own a cluster file has those of Ray's defaults.
    Fault("token-auth", ONPREM, "worker_start_ray_commands:\n", "worker_setup:\n"),
    Fault("token-auth", GCP, "worker_start_ray_commands:\n", "metadata:\n"),
    Fault("token-auth", ENVIRONMENT, "export RAY_AUTH_MODE=token\n", ""),
    Fault("token-auth", ENVIRONMENT, "export RAY_AUTH_TOKEN_PATH=", "export TOKEN_PATH="),
    Fault("token-auth", NODE, ". cluster/environment.sh\n", ""),
    Fault("token-auth", CLUSTER, "  authOptions: {mode: token}\n", "  authOptions: {mode: disabled}\n", "authOptions"),
    Fault("token-auth", JOB, "    authOptions: {mode: token}\n", ""),
    Fault(
        "token-auth", GCP, "cluster/node.sh worker $RAY_HEAD_IP:6379", "ray start --address=$RAY_HEAD_IP:6379",
        "ray start --address",
    ),
    Fault(
        "usage-statistics", ONPREM, "cluster/node.sh worker $RAY_HEAD_IP:6379",
        "ray start --address=$RAY_HEAD_IP:6379", "ray start --address",
    ),
    Fault(
        "usage-statistics", CLUSTER, '{name: RAY_USAGE_STATS_ENABLED, value: "0"}',
        '{name: RAY_USAGE_STATS_ENABLED, value: "1"}',
    ),
    Fault("health-check", ENVIRONMENT, "RAY_health_check_period_ms:-1000", "RAY_health_check_period_ms:-9000"),
    Fault("health-check", CLUSTER, '              - {name: RAY_health_check_failure_threshold, value: "4"}\n', ""),
    Fault("idle-head", GCP, "resources: {CPU: 0}", "resources: {CPU: 4}", "resources: {CPU: 4}"),
    Fault("idle-head", GCP, " --num-cpus=0", ""),
    Fault("idle-head", CLUSTER, 'num-cpus: "0"', 'num-cpus: "2"', "num-cpus"),
    Fault("wide-scope", GCP, "auth/compute]", "auth/cloud-platform]", "email: satdet-head"),
    Fault("wide-scope", GCP, "type: external", "type: gcp", "type: gcp"),
    Fault("wide-scope", GCP, "      serviceAccounts: []\n", ""),
    Fault(
        "wide-scope", "cluster/gcp/setup.sh", 'role="projects/$project/roles/satdetHead"', "role=roles/compute.admin",
        "google projects add-iam-policy-binding",
    ),
    Fault(
        "wide-scope", "cluster/gcp/image.sh", "--no-scopes", "--scopes=cloud-platform",
        "google compute instances create",
    ),
    Fault(
        "wide-scope", "cluster/kubernetes/service-accounts.yaml", "apiVersion: v1\nkind: ServiceAccount",
        "apiVersion: rbac.authorization.k8s.io/v1\n"
        'kind: Role\nmetadata: {name: x}\nrules:\n  - {apiGroups: ["*"], resources: [pods], verbs: [get]}\n'
        "---\napiVersion: v1\nkind: ServiceAccount", "apiGroups",
    ),
    Fault(
        "wide-scope", "cluster/kubernetes/service-accounts.yaml", "kind: ServiceAccount", "kind: ClusterRoleBinding",
        "kind: ClusterRoleBinding",
    ),
    Fault(
        "privileged", CLUSTER, "          automountServiceAccountToken: false\n",
        "          automountServiceAccountToken: false\n          hostNetwork: true\n", "hostNetwork",
    ),
    Fault(
        "privileged", VALKEY, "            readOnlyRootFilesystem: true", "            privileged: true",
        "privileged",
    ),
    Fault(
        "privileged", VALKEY, "capabilities: {drop: [ALL]}", "capabilities: {drop: [ALL], add: [NET_ADMIN]}",
        "capabilities",
    ),
    Fault(
        "privileged", CLUSTER, "persistentVolumeClaim: {claimName: satdet-storage}", "hostPath: {path: /srv}",
        "hostPath",
    ),
    Fault(
        "privileged", COMPOSE, "    cap_drop: [ALL]\n", "    cap_drop: [ALL]\n    network_mode: host\n",
        "network_mode",
    ),
    Fault("privileged", COMPOSE, "    cap_drop: [ALL]\n", "    cap_drop: [ALL]\n    privileged: true\n"),
    Fault("privileged", COMPOSE, '"./data/s3:/data"', '"/var/run/docker.sock:/data"', "docker.sock"),
    Fault("non-root", CLUSTER, "runAsNonRoot: true", "runAsNonRoot: false"),
    Fault("non-root", VALKEY, "runAsUser: 999", "runAsUser: 0"),
    Fault("non-root", VALKEY, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
    Fault("non-root", JOB, "capabilities: {drop: [ALL]}", "capabilities: {drop: [NET_RAW]}"),
    Fault("non-root", MANIFEST, "seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}"),
    Fault("non-root", MANIFEST, "      automountServiceAccountToken: false\n", ""),
    Fault("non-root", COMPOSE, "    user: ${USER_ID:?run cluster/tracking/prepare.sh first}:${GROUP_ID:?}\n", ""),
    Fault("non-root", COMPOSE, "    cap_drop: [ALL]\n", ""),
    Fault("non-root", COMPOSE, "    security_opt: [no-new-privileges:true]\n", ""),
    Fault("pinned-image", CLUSTER, "satdet:0.1.0-ray2.60.0", "satdet:latest", "image: registry"),
    Fault("pinned-image", VALKEY, "valkey/valkey:8.1.4", "valkey/valkey", "image: valkey"),
    Fault("pinned-image", COMPOSE, "postgres:17.6-bookworm", "postgres:17", "image: postgres"),
    Fault("pinned-image", GCP, "images/satdet-0-1-0-ray-2-60-0", "images/family/satdet-ray", "sourceImage"),
    Fault(
        "pinned-image", ONPREM, "cluster_name: satdet\n",
        "cluster_name: satdet\ndocker: {image: rayproject/ray, container_name: ray}\n", "docker",
    ),
    Fault("resources", CLUSTER, "memory: 48Gi, ", ""),
    Fault("resources", VALKEY, "            limits: {cpu: \"1\", memory: 512Mi}\n", ""),
    Fault("resources", CLUSTER, "requests: {cpu: 250m, memory: 512Mi}", "requests: {cpu: 250m}"),
    Fault("resources", COMPOSE, 'limits: {cpus: "2", memory: 4G}', 'limits: {cpus: "2"}'),
    Fault("probes", CLUSTER, "              livenessProbe: *alive\n", ""),
    Fault(
        "probes", VALKEY,
        "          readinessProbe: {tcpSocket: {port: valkey}, periodSeconds: 10, failureThreshold: 3}\n", "",
    ),
    Fault("probes", COMPOSE, "      test: [CMD, wget, -q, -O, /dev/null, http://127.0.0.1:8333/healthz]\n", ""),
    Fault("tracking-access", SERVE, "--app-name basic-auth ", "", "exec mlflow server"),
    Fault("tracking-access", SERVE, '--allowed-hosts "$ALLOWED_HOSTS" ', "", "exec mlflow server"),
    Fault(
        "tracking-access", SERVE, '--backend-store-uri "$server/mlflow"',
        '--backend-store-uri "postgresql://mlflow:$PGPASSWORD@postgres/mlflow"', "exec mlflow server",
    ),
    Fault("tracking-access", MANIFEST, 'ALLOWED_HOSTS, value: "mlflow:5000', 'ALLOWED_HOSTS, value: "*'),
    Fault(
        "inline-secret", COMPOSE, "POSTGRES_DB: mlflow", f"POSTGRES_DB: mlflow\n      POSTGRES_PASSWORD: {SECRET}",
        "POSTGRES_PASSWORD: h",
    ),
    Fault(
        "inline-secret", MANIFEST, "{name: POSTGRES_DB, value: mlflow}",
        f"{{name: POSTGRES_PASSWORD, value: {SECRET}}}", "POSTGRES_PASSWORD",
    ),
    Fault(
        "inline-secret", "cluster/search.sh", "storage=runs\n", f"export MLFLOW_TRACKING_PASSWORD={SECRET}\n",
        "MLFLOW_TRACKING_PASSWORD",
    ),
    Fault("inline-secret", "cluster/token.sh", "umask 077", f"TOKEN='{SECRET}'", "TOKEN="),
    Fault(
        "inline-secret", SERVE, "server=postgresql+psycopg2://mlflow@",
        f"server=postgresql+psycopg2://mlflow:{SECRET}@", "server=",
    ),
    Fault("inline-secret", SERVE, "set -euo pipefail", "set -euo pipefail\nkey=AKIA" + "ABCDEFGHIJKLMNOP", "key="),
    Fault(
        "inline-secret", "cluster/gcp/setup.sh", "cluster/token.sh\n",
        "cat <<END\n-----BEGIN OPENSSH PRIVATE KEY" + "-----\nEND\n", "-----BEGIN",
    ),
    Fault(
        "inline-secret", "cluster/kubernetes/storage.yaml", "kind: PersistentVolumeClaim", "kind: Secret",
        "kind: Secret",
    ),
    Fault("shell-syntax", "cluster/token.sh", 'umask 077', 'if umask 077'),
    Fault("shell-syntax", "cluster/slurm/search.sbatch", "for attempt in {1..60}; do", "for attempt in {1..60}"),
    Fault("shell-strict", NODE, "set -euo pipefail\n", "set -e\n"),
    Fault("shell-strict", ENVIRONMENT, "# shellcheck shell=bash\n", ""),
    Fault("dockerfile", "cluster/Dockerfile", "python:3.11.14-slim-bookworm", "python:latest", "FROM ${BASE} AS"),
    Fault("dockerfile", "cluster/Dockerfile", "USER 1000:1000\n", "USER root\n", "USER root"),
    Fault("dockerfile", "cluster/Dockerfile", "USER 1000:1000\n", ""),
    Fault(
        "dockerfile", "cluster/Dockerfile", " --require-hashes requirements.lock", " requirements.lock",
        "uv pip sync",
    ),
    Fault("dockerfile", "cluster/tracking/Dockerfile", "--require-hashes ", "", "RUN python -m pip"),
    Fault("dockerfile", "cluster/Dockerfile", "COPY . .", "ADD https://example.org/satdet.tar.gz .", "ADD https"),
    Fault(
        "dockerfile", "cluster/Dockerfile", "RUN python -m venv .venv", "RUN curl https://example.org/x | sh", "curl",
    ),
    Fault("same-lock", "cluster/requirements.lock", "ray==2.60.0", "ray==2.59.0", "ray==2.59.0"),
    Fault(
        "same-lock", "cluster/tracking/requirements.lock", "mlflow-skinny==3.17.2", "mlflow-skinny==3.16.0",
        "mlflow-skinny==",
    ),
    Fault(
        "same-lock", "cluster/Dockerfile", "--require-hashes requirements.lock cluster/requirements.lock",
        "--require-hashes requirements.lock cluster/requirements.lck",
    ),
    Fault("same-version", CLUSTER, "rayVersion: 2.60.0", "rayVersion: 2.59.0", "rayVersion"),
    Fault("same-version", JOB, "satdet:0.1.0-ray2.60.0", "satdet:0.1.0-ray2.59.0", "image: registry"),
    Fault("same-version", COMPOSE, "0.1.0-mlflow3.17.2", "0.1.0-mlflow3.16.0", "image: registry"),
    Fault("same-version", GCP, "images/satdet-0-1-0-ray-2-60-0", "images/satdet-0-1-0-ray-2-59-0", "sourceImage"),
    Fault(
        "metric-names", RULES_FILE, "rate(satdet_epochs_total[5m])", "rate(satdet_epoch_total[5m])",
        "expr: sum by (search)",
    ),
    Fault("metric-names", RULES_FILE, 'satdet_trials{status="failed"}', 'satdet_trials{state="failed"}'),
    Fault(
        "metric-names", DASHBOARD, "ray_node_gpus_utilization", "ray_node_gpu_utilization",
        "ray_node_gpu_utilization",
    ),
    Fault(
        "metric-names", DASHBOARD, "label_values(satdet_search_info, search)",
        "label_values(satdet_searches, search)", "satdet_searches",
    ),
)  # fmt: skip
NEEDS_CRDS = {"crd-schema"}


@pytest.fixture
def copy(tmp_path):
    """A copy of what is checked."""
    kept = shutil.ignore_patterns("check", "__pycache__", "secrets", "data", ".env")
    shutil.copytree(ROOT / "cluster", tmp_path / "cluster", ignore=kept)
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def findings(root: Path, rule: str) -> list[str]:
    crds = CRDS if rule in NEEDS_CRDS else None
    (chosen,) = [each for each in RULES if each.name == rule]
    return [str(finding) for finding in chosen.check(Site(root, crds))]


def test_every_rule_has_a_fault_that_it_sees():
    assert {fault.rule for fault in FAULTS} == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_fault_is_found_at_its_line(fault, copy):
    if fault.rule in NEEDS_CRDS and not CRDS.is_dir():
        pytest.skip(f"{CRDS} is not here")
    path = copy / fault.file
    text = path.read_text()
    assert fault.old in text
    assert not findings(copy, fault.rule)
    changed = text.replace(fault.old, fault.new)
    path.write_text(changed)
    found = findings(copy, fault.rule)
    assert found
    for line in found:
        assert re.match(rf"[\w./-]+(:\d+)?: {fault.rule}: \S", line)
    if fault.named is not None:
        lines = changed.splitlines()
        named = [int(match[1]) for line in found if (match := re.match(rf"{re.escape(fault.file)}:(\d+):", line))]
        assert any(fault.named in lines[number - 1] for number in named), found


def test_the_files_are_in_order(capsys):
    crds = ["--crds", str(CRDS)] if CRDS.is_dir() else []
    assert main(["--root", str(ROOT), *crds]) == 0
    said = capsys.readouterr()
    assert "nothing found" in said.out
    assert ("--crds" in said.err) == (not crds)


def test_the_command_says_each_finding_in_a_line_and_leaves_with_2(copy):
    path = copy / CLUSTER
    path.write_text(path.read_text().replace("mode: token", "mode: disabled"))
    done = subprocess.run(
        [sys.executable, "-m", "cluster.check", "--root", str(copy)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == f"{CLUSTER}:10: token-auth: say authOptions: {{mode: token}}\n"
    assert done.stderr.splitlines()[-1] == "error: 1 finding"
    assert "Traceback" not in done.stderr


def test_a_file_of_another_form_is_one_line(copy, capsys):
    path = copy / VALKEY
    pattern = re.compile(r"\n      containers:.*?\n      volumes:", re.DOTALL)
    path.write_text(pattern.sub("\n      containers: none\n      volumes:", path.read_text()))
    assert main(["--root", str(copy)]) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("error: rule ")
    broken = copy / GCP
    broken.write_text(broken.read_text().replace("available_node_types:\n", "available_node_types: []\nmetadata:\n"))
    assert main(["--root", str(copy)]) == 2
    assert all(": ray-schema: " in line for line in capsys.readouterr().out.splitlines())


def test_folders_that_are_not_there_are_said(tmp_path, capsys):
    assert main(["--root", str(tmp_path)]) == 2
    assert str(tmp_path / "cluster") in capsys.readouterr().err
    assert main(["--root", str(ROOT), "--crds", str(tmp_path)]) == 2
    assert f"--crds {tmp_path}" in capsys.readouterr().err


def test_rules_are_listed_with_what_they_promise(capsys):
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [rule.name for rule in RULES]


def test_check_imports_nothing_heavy():
    probe = (
        "import sys; from cluster.check.__main__ import main; main(['--root', sys.argv[1]])\n"
        "heavy = {'torch', 'ray', 'mlflow', 'wandb', 'experiments'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", probe, str(ROOT)], cwd=ROOT, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("file", [ONPREM, GCP])
def test_ray_itself_takes_the_cluster_files(file):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / file).read_text()))
    validate_config(config)
    assert config["max_workers"] >= 2


def test_the_metrics_of_ray_are_those_that_it_shows_itself():
    panels = ray_folder() / "dashboard" / "modules" / "metrics" / "dashboards" / "default_dashboard_panels.py"
    assert set(re.findall(r"ray_\w+", panels.read_text())) >= RAY_METRICS


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not here")
def test_alerts_do_what_they_say(copy):
    folder = copy / "cluster" / "monitoring"
    command = ["promtool", "test", "rules", str(folder / "satdet.rules.test.yml")]
    subprocess.run(["promtool", "check", "config", str(folder / "prometheus.yml")], check=True, capture_output=True)
    subprocess.run(command, check=True, capture_output=True)
    rules = folder / "satdet.rules.yml"
    alerts = set(re.findall(r"alert: (\w+)", rules.read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)", (folder / "satdet.rules.test.yml").read_text()))
    rules.write_text(rules.read_text().replace('status="running"} ) > 0', "").replace("> 1800", "> 180000"))
    assert subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not here")
def test_scripts_are_clean():
    scripts = [str(script.path) for script in Site(ROOT).scripts]
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kustomize_builds_the_cluster():
    command = ["kubectl", "kustomize", str(ROOT / "cluster" / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in built} == {"satdet"}
    assert "RayCluster" in {each["kind"] for each in built}
