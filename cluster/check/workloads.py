"""Pods and containers, wherever manifests and compose files hold them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster.check.documents import Document, Keys
from cluster.check.model import Place
from cluster.check.site import Site

_TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod template of a manifest.

    Attributes
    ----------
    document : Document
    keys : tuple
        The way to the template.
    role : str
        "ray-head", "ray-worker", "submitter" or "service".
    """

    document: Document
    keys: Keys
    role: str

    @property
    def spec(self) -> dict[str, Any]:
        """Of the pod."""
        return self.document.get(*self.keys, "spec") or {}

    @property
    def labels(self) -> dict[str, str]:
        """What policies and services select it by, those that KubeRay adds included."""
        own = self.document.get(*self.keys, "metadata", "labels") or {}
        kind = {"ray-head": "head", "ray-worker": "worker"}.get(self.role)
        return own | ({"ray.io/node-type": kind} if kind else {})

    def place(self, *keys: str | int) -> Place:
        """Where something in the pod's specification is."""
        return self.document.place(*self.keys, "spec", *keys)

    def containers(self) -> Iterator["Container"]:
        """All of its containers."""
        for group in ("initContainers", "containers"):
            for position, spec in enumerate(self.spec.get(group) or ()):
                yield Container(self, (*self.keys, "spec", group, position), spec, group)


@dataclass(frozen=True)
class Container:
    """A container of a pod."""

    pod: Pod
    keys: Keys
    spec: dict[str, Any]
    group: str

    def place(self, *keys: str | int) -> Place:
        """Where something of it is."""
        return self.pod.document.place(*self.keys, *keys)

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.spec.get("name"))

    @property
    def environment(self) -> dict[str, Any]:
        """Variables with a literal value."""
        return {
            str(each.get("name")): each.get("value") for each in self.spec.get("env") or () if isinstance(each, dict)
        }


@dataclass(frozen=True)
class Service:
    """A service of a compose file."""

    document: Document
    name: str

    @property
    def spec(self) -> dict[str, Any]:
        """All that is said of it."""
        return self.document.get("services", self.name) or {}

    def place(self, *keys: str | int) -> Place:
        """Where something of it is."""
        return self.document.place("services", self.name, *keys)


def ray_specs(site: Site) -> Iterator[tuple[Document, Keys]]:
    """The Ray clusters of all manifests: documents, and the way to the cluster's specification."""
    for document in site.manifests:
        if document.kind == "RayCluster":
            yield document, ("spec",)
        elif document.kind == "RayJob":
            yield document, ("spec", "rayClusterSpec")


def pods(site: Site) -> Iterator[Pod]:
    """Every pod template of all manifests."""
    for document in site.manifests:
        if document.kind in _TEMPLATED:
            yield Pod(document, ("spec", "template"), "service")
        if document.kind == "RayJob" and document.get("spec", "submitterPodTemplate"):
            yield Pod(document, ("spec", "submitterPodTemplate"), "submitter")
    for document, keys in ray_specs(site):
        yield Pod(document, (*keys, "headGroupSpec", "template"), "ray-head")
        for position in range(len(document.get(*keys, "workerGroupSpecs") or ())):
            yield Pod(document, (*keys, "workerGroupSpecs", position, "template"), "ray-worker")


def containers(site: Site) -> Iterator[Container]:
    """Every container of all manifests."""
    for pod in pods(site):
        yield from pod.containers()


def services(site: Site) -> Iterator[Service]:
    """Every service of all compose files."""
    for document in site.compose_files:
        for name in document.get("services") or ():
            yield Service(document, name)
