"""Nobody reaches from outside what is not meant for them."""

from typing import Any

from cluster.check.documents import Document
from cluster.check.model import Faults, Rule
from cluster.check.site import Site
from cluster.check.workloads import Pod, pods, ray_specs, services

_EVERYWHERE = ("0.0.0.0/0", "::/0")
_LOOPBACK = ("127.0.0.1:", "[::1]:")


def public_addresses(site: Site) -> Faults:
    """Machines, services and ports that the internet could reach."""
    for document in site.ray_files:
        yield from _public_machines(document)
    for document in site.manifests:
        if document.kind in ("Ingress", "HTTPRoute", "Gateway"):
            yield document.place("kind"), f"a {document.kind} leads here from outside; remove it"
        kind = document.get("spec", "type") if document.kind == "Service" else None
        if kind in ("LoadBalancer", "NodePort"):
            yield document.place("spec", "type"), f"the service is a {kind}; use ClusterIP and kubectl port-forward"
    for document, keys in ray_specs(site):
        head = (*keys, "headGroupSpec")
        if document.get(*head, "enableIngress"):
            yield document.place(*head, "enableIngress"), "remove enableIngress"
        if document.get(*head, "serviceType") != "ClusterIP":
            yield document.place(*head, "serviceType"), "say serviceType: ClusterIP"
    for pod in pods(site):
        for container in pod.containers():
            for position, port in enumerate(container.spec.get("ports") or ()):
                if "hostPort" in port:
                    yield container.place("ports", position), "remove hostPort; a Service is how pods are reached"
    for service in services(site):
        for position, port in enumerate(service.spec.get("ports") or ()):
            if not str(port).startswith(_LOOPBACK):
                yield service.place("ports", position), f"{port} is published on all addresses; write 127.0.0.1:{port}"


def _public_machines(document: Document) -> Faults:
    if document.get("provider", "type") == "local":
        return
    if document.get("provider", "use_internal_ips") is not True:
        yield document.place("provider"), "say use_internal_ips: true"
    for name in document.get("available_node_types") or ():
        keys = ("available_node_types", name, "node_config")
        interfaces: list[dict[str, Any]] = document.get(*keys, "networkInterfaces") or []
        if not interfaces:
            yield (
                document.place(*keys),
                f"{name}: name its subnetwork in networkInterfaces, or it gets a public address",
            )
        for position, interface in enumerate(interfaces):
            if interface.get("accessConfigs"):
                where = document.place(*keys, "networkInterfaces", position, "accessConfigs")
                yield where, f"{name}: remove accessConfigs, which are public addresses"


def unguarded_pods(site: Site) -> Faults:
    """Pods that no network policy of their folder selects, and policies that let everybody in."""
    policies = [each for each in site.manifests if each.kind == "NetworkPolicy"]
    for policy in policies:
        for position, rule in enumerate(policy.get("spec", "ingress") or ()):
            yield from _open_to_all(policy, position, rule)
    for pod in pods(site):
        folder = pod.document.file.rpartition("/")[0]
        if not any(_guards(policy, pod) for policy in policies if policy.file.rpartition("/")[0] == folder):
            labels = ", ".join(f"{key}={value}" for key, value in pod.labels.items())
            yield pod.place(), f"no NetworkPolicy with Ingress in {folder} selects this pod ({labels or 'no labels'})"


def _open_to_all(policy: Document, position: int, rule: dict[str, Any]) -> Faults:
    place = policy.place("spec", "ingress", position)
    if not rule.get("from"):
        yield place, "this lets everybody in; say from whom"
    for peer in rule.get("from") or ():
        if (peer.get("ipBlock") or {}).get("cidr") in _EVERYWHERE or any(value == {} for value in peer.values()):
            yield place, f"{peer} is everybody; name pods or namespaces by their labels"


def _guards(policy: Document, pod: Pod) -> bool:
    selector = policy.get("spec", "podSelector") or {}
    labels = pod.labels
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    listed = all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions") or ()
    )
    return equal and listed and "Ingress" in (policy.get("spec", "policyTypes") or ())


RULES = (
    Rule("public-address", "no machine, service or port can be reached from the internet", public_addresses),
    Rule("network-policy", "a network policy guards every pod and names who may reach it", unguarded_pods),
)
