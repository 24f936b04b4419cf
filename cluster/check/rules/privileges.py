"""Nothing has more rights than it needs."""

import re
from typing import Any

from cluster.check.documents import Document
from cluster.check.model import Faults, Rule
from cluster.check.site import Site
from cluster.check.workloads import Container, Pod, Service, containers, pods, services

_WIDE_ROLE = re.compile(r"roles/(owner|editor|[\w.]*[aA]dmin|iam\.serviceAccountUser)\b")
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def wide_scopes(site: Site) -> Faults:
    """Accounts that may do more in a cloud or a cluster than their work takes."""
    for document in site.ray_files:
        yield from _wide_machines(document)
    for script in site.scripts:
        for place, command in script.commands():
            if role := _WIDE_ROLE.search(command):
                yield place, f"{role[0]} is more than is needed; list the permissions in a role of its own"
            if "cloud-platform" in command:
                yield place, "the scope cloud-platform is everything; name the scopes that are needed"
    for document in site.manifests:
        for position, rule in enumerate(document.get("rules") or ()):
            if document.kind in ("Role", "ClusterRole") and any("*" in (rule.get(key) or ()) for key in rule):
                yield document.place("rules", position), "a wildcard; list groups, resources and verbs"
        if document.kind in ("ClusterRole", "ClusterRoleBinding"):
            yield document.place("kind"), f"a {document.kind} holds in all namespaces; use a Role in this one"


def _wide_machines(document: Document) -> Faults:
    if document.get("provider", "type") == "gcp":
        what = "Ray gives itself compute.admin with this type; use cluster.gcp.node_provider by the type external"
        yield document.place("provider", "type"), what
    for name, node in (document.get("available_node_types") or {}).items():
        keys = ("available_node_types", name, "node_config")
        accounts: list[dict[str, Any]] | None = (node.get("node_config") or {}).get("serviceAccounts")
        if accounts is None:
            yield document.place(*keys), f"{name}: say serviceAccounts: [] or which; by default it is a wide one"
        for position, account in enumerate(accounts or ()):
            if any(scope.endswith("cloud-platform") for scope in account.get("scopes") or ["cloud-platform"]):
                where = document.place(*keys, "serviceAccounts", position)
                yield where, f"{name}: the scope cloud-platform is everything; name the scopes that are needed"


def privileged(site: Site) -> Faults:
    """Pods and services that reach into their machine."""
    for pod in pods(site):
        for key in _HOST:
            if pod.spec.get(key):
                yield pod.place(key), f"remove {key}"
        for position, volume in enumerate(pod.spec.get("volumes") or ()):
            if "hostPath" in volume:
                yield pod.place("volumes", position), "hostPath is a folder of the machine; use a volume claim"
        for container in pod.containers():
            security = container.spec.get("securityContext") or {}
            if security.get("privileged"):
                yield container.place("securityContext", "privileged"), f"{container.name}: remove privileged"
            if (security.get("capabilities") or {}).get("add"):
                yield container.place("securityContext", "capabilities"), f"{container.name}: add no capability"
    for service in services(site):
        yield from _privileged_service(service)


def _privileged_service(service: Service) -> Faults:
    if service.spec.get("privileged") or service.spec.get("cap_add"):
        yield service.place(), f"{service.name}: remove privileged and cap_add"
    for key in ("network_mode", "pid", "ipc"):
        if service.spec.get(key) == "host":
            yield service.place(key), f"{service.name}: {key} is the machine's; remove it"
    for position, volume in enumerate(service.spec.get("volumes") or ()):
        if "docker.sock" in str(volume):
            yield service.place("volumes", position), f"{service.name}: Docker's socket is root's power; remove it"


def rooted(site: Site) -> Faults:
    """Containers that could be root, or become it."""
    for pod in pods(site):
        needs_token = pod.role == "ray-head" and pod.spec.get("serviceAccountName")
        if pod.spec.get("automountServiceAccountToken") is not False and not needs_token:
            yield pod.place(), "say automountServiceAccountToken: false; nothing here talks with the Kubernetes API"
    for container in containers(site):
        for what in _root_faults(container.pod, container):
            yield container.place("securityContext"), f"{container.name}: {what}"
    for service in services(site):
        user = str(service.spec.get("user", "root"))
        if user.partition(":")[0] in ("root", "0", ""):
            yield service.place("user"), f"{service.name}: say as which user it runs, not root"
        if service.spec.get("cap_drop") != ["ALL"]:
            yield service.place(), f"{service.name}: say cap_drop: [ALL]"
        if "no-new-privileges:true" not in (service.spec.get("security_opt") or ()):
            yield service.place(), f"{service.name}: say security_opt: [no-new-privileges:true]"


def _root_faults(pod: Pod, container: Container) -> list[str]:
    own: dict[str, Any] = container.spec.get("securityContext") or {}
    both: dict[str, Any] = (pod.spec.get("securityContext") or {}) | own
    faults = []
    if both.get("runAsNonRoot") is not True or both.get("runAsUser", 0) == 0:
        faults.append("say runAsNonRoot: true and a runAsUser that is not 0")
    if own.get("allowPrivilegeEscalation") is not False:
        faults.append("say allowPrivilegeEscalation: false")
    if (own.get("capabilities") or {}).get("drop") != ["ALL"]:
        faults.append("say capabilities: {drop: [ALL]}")
    if (both.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        faults.append("say seccompProfile: {type: RuntimeDefault}")
    return faults


RULES = (
    Rule("wide-scope", "no account may do more than its work takes", wide_scopes),
    Rule("privileged", "no container reaches into its machine", privileged),
    Rule("non-root", "no container is root or can become it", rooted),
)
