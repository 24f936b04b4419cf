"""Wherever a Ray node is started it asks for the token, hides its dashboard, sends no statistics, notices losses."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.check.documents import Document
from cluster.check.model import Faults, Place, Rule
from cluster.check.site import Site, with_ray_defaults
from cluster.check.workloads import containers, ray_specs

_STARTS_RAY = re.compile(r"""(?:\bray|\$ray"|/ray)\s+start\s""")
_START_KEYS = ("head_start_ray_commands", "worker_start_ray_commands")
_OURS = ("cluster/node.sh", "cluster/local/start.sh")
_ENVIRONMENT = "cluster/environment.sh"
_REFERENCE = "cluster/local/start.sh"
_HEALTH_CHECK = re.compile(r"\b(RAY_health_check_\w+)=(?:\$\{\w+:-)?(\d+)")


@dataclass(frozen=True)
class Start:
    """A command that starts Ray, with all that is set before it."""

    place: Place
    command: str
    settings: str

    @property
    def head(self) -> bool:
        """Whether it starts a head."""
        return "--head" in self.command


def starts(site: Site) -> Iterator[Start]:
    """Commands of scripts and of cluster files, Ray's defaults included, that start Ray themselves."""
    environment = next((each.text for each in site.scripts if each.file == _ENVIRONMENT), "")
    for script in site.scripts:
        settings = script.text + (environment if f". {_ENVIRONMENT}" in script.text else "")
        for place, command in script.commands():
            if _STARTS_RAY.search(command):
                yield Start(place, command, settings)
    for document in site.ray_files:
        for place, command in ray_commands(document):
            if _STARTS_RAY.search(command):
                yield Start(place, command, command)


def ray_commands(document: Document) -> Iterator[tuple[Place, str]]:
    """The commands by which ``ray up`` starts Ray, those of Ray's defaults where the file says none."""
    config = with_ray_defaults(document.data)
    for key in _START_KEYS:
        for position, command in enumerate(config.get(key) or ()):
            yield document.place(key, position), str(command)


def open_dashboards(site: Site) -> Faults:
    """Dashboards that others reach."""
    for start in starts(site):
        local = re.search(r"--dashboard-host[= ](127\.0\.0\.1|localhost)\b", start.command)
        if start.head and not local and "--include-dashboard=false" not in start.command:
            yield (
                start.place,
                "the dashboard is not on loopback; say --include-dashboard=false or --dashboard-host=127.0.0.1",
            )
    for document, keys in ray_specs(site):
        where = (*keys, "headGroupSpec", "rayStartParams", "dashboard-host")
        host = document.get(*where)
        if host in ("127.0.0.1", "localhost"):
            continue
        if host != "$(POD_IP)" or document.kind != "RayJob":
            needs = "$(POD_IP), for the operator asks it" if document.kind == "RayJob" else "127.0.0.1"
            yield (
                document.place(*where),
                f"dashboard-host is {host or 'left to KubeRay, which takes 0.0.0.0'}; say {needs}",
            )
        elif not _only_for_operator(site, document):
            yield document.place(*where), "no NetworkPolicy of its folder gives port 8265 to kuberay-operator alone"


def _only_for_operator(site: Site, document: Document) -> bool:
    folder = document.file.rpartition("/")[0]
    for policy in site.manifests:
        if policy.kind != "NetworkPolicy" or policy.file.rpartition("/")[0] != folder:
            continue
        for rule in policy.get("spec", "ingress") or ():
            if any(port.get("port") == 8265 for port in rule.get("ports") or ()):
                return all(_is_operator(peer) for peer in rule.get("from") or ())
    return False


def _is_operator(peer: Mapping[str, Any]) -> bool:
    labels: dict[str, str] = (peer.get("podSelector") or {}).get("matchLabels") or {}
    return labels.get("app.kubernetes.io/name") == "kuberay-operator" and "namespaceSelector" in peer


def open_clusters(site: Site) -> Faults:
    """Nodes that take orders from anybody."""
    for start in starts(site):
        if not re.search(r"\bRAY_AUTH_MODE=token\b", start.settings):
            yield start.place, f"Ray is started without a token; use {_OURS[0]}, or source {_ENVIRONMENT}"
        elif not re.search(r"\bRAY_AUTH_TOKEN(_PATH)?=", start.settings):
            yield start.place, "RAY_AUTH_TOKEN_PATH is not set; the token would be looked for in ~/.ray"
    for document in site.ray_files:
        config = with_ray_defaults(document.data)
        for key in _START_KEYS:
            if not any(name in str(command) for command in config.get(key) or () for name in (*_OURS, "ray start")):
                yield document.place(key), f"no command of {key} starts Ray; use {_OURS[0]}"
    for document, keys in ray_specs(site):
        if document.get(*keys, "authOptions", "mode") != "token":
            yield document.place(*keys, "authOptions"), "say authOptions: {mode: token}"


def usage_statistics(site: Site) -> Faults:
    """Nodes that report to Ray's makers."""
    for start in starts(site):
        if "--disable-usage-stats" not in start.command and "RAY_USAGE_STATS_ENABLED=0" not in start.settings:
            yield start.place, "say --disable-usage-stats"
    for container in containers(site):
        if container.pod.role.startswith("ray-") and container.environment.get("RAY_USAGE_STATS_ENABLED") != "0":
            yield container.place("env"), f"{container.name}: set RAY_USAGE_STATS_ENABLED to 0"


def health_checks(site: Site) -> Faults:
    """Nodes that notice a loss at another time than those of cluster/local/start.sh."""
    wanted: dict[str, str] = {}
    for script in site.scripts:
        if script.file == _REFERENCE:
            wanted = dict(_HEALTH_CHECK.findall(script.text))
    for start in starts(site):
        yield from _differences(start.place, wanted, dict(_HEALTH_CHECK.findall(start.settings)))
    for container in containers(site):
        if container.pod.role.startswith("ray-"):
            yield from _differences(container.place("env"), wanted, container.environment)


def _differences(place: Place, wanted: Mapping[str, str], said: Mapping[str, Any]) -> Faults:
    for name, value in wanted.items():
        if said.get(name) != value:
            yield place, f"{name} is {said.get(name, 'not set')}; {_REFERENCE} says {value}"


def busy_heads(site: Site) -> Faults:
    """Heads of clusters that grow, on which a trial could be placed: small machines that all others depend on."""
    for document in site.ray_files:
        types = document.get("available_node_types") or {}
        head = document.get("head_node_type")
        if types and document.get("available_node_types", head, "resources", "CPU") != 0:
            yield document.place("available_node_types", head, "resources"), f"{head}: say resources: {{CPU: 0}}"
        if types and not any("--num-cpus=0" in command for _, command in ray_commands(document)):
            yield document.place("head_start_ray_commands"), "start the head with --num-cpus=0"
    for document, keys in ray_specs(site):
        where = (*keys, "headGroupSpec", "rayStartParams", "num-cpus")
        if document.get(*where) != "0":
            yield document.place(*where), 'say num-cpus: "0" in the head\'s rayStartParams'


RULES = (
    Rule("dashboard-address", "Ray's dashboard is on loopback, or for KubeRay's operator alone", open_dashboards),
    Rule("token-auth", "every Ray node asks for a token", open_clusters),
    Rule("usage-statistics", "Ray sends no statistics", usage_statistics),
    Rule("health-check", "a lost node is noticed as soon as in cluster/local", health_checks),
    Rule("idle-head", "no trial runs on the head of a cluster that grows", busy_heads),
)
