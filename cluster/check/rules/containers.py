"""Containers are exactly known, bounded, and asked whether they are well."""

import re
from collections.abc import Mapping
from typing import Any

from cluster.check.model import Faults, Rule
from cluster.check.site import Site
from cluster.check.workloads import containers, pods, ray_specs, services


def is_pinned(image: str) -> bool:
    """Whether an image is named by its digest, or by a tag that says a version."""
    if re.search(r"@sha256:[0-9a-f]{64}$", image):
        return True
    tag = image.rpartition("/")[2].partition(":")[2]
    return bool(re.match(r"v?\d+\.\d+", tag))


def loose_images(site: Site) -> Faults:
    """Images that may be another one tomorrow."""
    for container in containers(site):
        image = str(container.spec.get("image", ""))
        if not is_pinned(image):
            yield container.place("image"), f"{image or 'no image'}: name an exact version, or a digest"
    for service in services(site):
        image = str(service.spec.get("image", ""))
        if not is_pinned(image):
            yield service.place("image"), f"{image or 'no image'}: name an exact version, or a digest"
    for document in site.ray_files:
        image = document.get("docker", "image")
        if image and not is_pinned(image):
            yield document.place("docker", "image"), f"{image}: name an exact version, or a digest"
        for name, node in (document.get("available_node_types") or {}).items():
            for position, disk in enumerate((node.get("node_config") or {}).get("disks") or ()):
                source = str((disk.get("initializeParams") or {}).get("sourceImage", ""))
                if "/family/" in source or "/images/" not in source:
                    where = ("available_node_types", name, "node_config", "disks", position, "initializeParams")
                    yield document.place(*where, "sourceImage"), f"{source or 'no image'}: name one image, not a family"


def unbounded(site: Site) -> Faults:
    """Containers without requests and limits."""
    for container in containers(site):
        for what in _missing_resources(container.spec.get("resources")):
            yield container.place("resources"), f"{container.name}: say resources.{what}"
    for document, keys in ray_specs(site):
        if document.get(*keys, "enableInTreeAutoscaling"):
            for what in _missing_resources(document.get(*keys, "autoscalerOptions", "resources")):
                yield document.place(*keys, "autoscalerOptions"), f"autoscaler: say resources.{what}"
    for service in services(site):
        limits = service.document.get("services", service.name, "deploy", "resources", "limits") or {}
        for kind in ("cpus", "memory"):
            if kind not in limits:
                yield service.place("deploy"), f"{service.name}: say deploy.resources.limits.{kind}"


def _missing_resources(resources: Mapping[str, Any] | None) -> list[str]:
    said = resources or {}
    wanted = [(group, kind) for group in ("requests", "limits") for kind in ("cpu", "memory")]
    return [f"{group}.{kind}" for group, kind in wanted if kind not in (said.get(group) or {})]


def unprobed(site: Site) -> Faults:
    """Containers that stay, and of which nobody asks whether they answer."""
    for pod in pods(site):
        for container in pod.containers():
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                stays = container.group == "containers" and pod.role != "submitter" and pod.document.kind != "Job"
                if stays and probe not in container.spec:
                    yield container.place(), f"{container.name}: say a {probe}"
    for service in services(site):
        if not (service.spec.get("healthcheck") or {}).get("test"):
            yield service.place(), f"{service.name}: say a healthcheck"


def open_tracking(site: Site) -> Faults:
    """MLflow servers that anybody may use, or by any name."""
    for script in site.scripts:
        for place, command in script.commands():
            if not re.search(r"\bmlflow (server|ui)\b", command):
                continue
            if "--app-name basic-auth" not in command:
                yield place, "the server asks for no password; say --app-name basic-auth"
            hosts = re.search(r"--allowed-hosts[= ](\S+)", command)
            if hosts is None or "*" in hosts[1]:
                yield place, "say in --allowed-hosts by which names the server may be called"
            if re.search(r"://[^/\s]*:[^/\s@$]*@|password", command, re.IGNORECASE):
                yield place, "a password on a command line is in the process list; give it by the environment"
    said = [(each.place("env"), each.environment) for each in containers(site)]
    said += [(each.place("environment"), each.spec.get("environment") or {}) for each in services(site)]
    for place, environment in said:
        if "*" in str(environment.get("ALLOWED_HOSTS", "")):
            yield place, "ALLOWED_HOSTS is everything; say which names"


RULES = (
    Rule("pinned-image", "every image is an exact version", loose_images),
    Rule("resources", "every container has requests and limits", unbounded),
    Rule("probes", "every container that stays is asked whether it answers", unprobed),
    Rule("tracking-access", "MLflow asks for a password, and answers to its own names only", open_tracking),
)
