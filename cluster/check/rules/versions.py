"""The same versions everywhere: of the locks, of Ray, of the images that are built from them."""

import re
import tomllib
from collections.abc import Iterator

from cluster.check.model import Faults, Place, Rule
from cluster.check.site import Site, joined_lines
from cluster.check.workloads import containers, ray_specs, services

_LOCK = "requirements.lock"
_NODES = "cluster/requirements.lock"
_TRACKING = "cluster/tracking/requirements.lock"


def other_locks(site: Site) -> Faults:
    """Packages that a node or the tracking server would have in another version than the command."""
    ours = site.pins(_LOCK)
    if not ours:
        yield Place(_LOCK), "is missing or pins nothing; make lock"
    for name, (version, place) in site.pins(_NODES).items():
        if name in ours and ours[name][0] != version:
            yield place, f"{name} {version} is {ours[name][0]} in {_LOCK}; resolve it again, as {_NODES[:-5]}.in says"
    for name, (version, place) in site.pins(_TRACKING).items():
        if name.startswith("mlflow") and ours.get(name, (version,))[0] != version:
            yield place, f"{name} {version} is {ours[name][0]} in {_LOCK}; resolve it again, as requirements.in says"
    for path in site.dockerfiles:
        file = site.name(path)
        lines = joined_lines(path.read_text(encoding="utf-8"))
        copied = {word for _, line in lines if line.startswith("COPY") for word in line.split()}
        installed = {word for _, line in lines if line.startswith("RUN") for word in line.split()}
        wanted = {_TRACKING: _LOCK} if "tracking" in file else {_LOCK: _LOCK, _NODES: _NODES}
        for lock, inside in wanted.items():
            if lock not in copied or inside not in installed:
                yield Place(file), f"copy {lock} and install it"


def other_versions(site: Site) -> Faults:
    """Clusters and images whose names say another version than the locks."""
    pins = site.pins(_LOCK)
    ray = pins.get("ray", ("",))[0]
    mlflow = pins.get("mlflow", ("",))[0]
    project = tomllib.loads((site.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for document, keys in ray_specs(site):
        said = document.get(*keys, "rayVersion")
        if said != ray:
            yield document.place(*keys, "rayVersion"), f"rayVersion is {said}; {_LOCK} has {ray}"
    wanted = {"satdet": f"{project}-ray{ray}", "satdet-tracking": f"{project}-mlflow{mlflow}"}
    for place, image in _images(site):
        name, _, tag = image.rpartition("/")[2].partition(":")
        if name in wanted and "@" not in image and tag != wanted[name]:
            yield place, f"{image}: the tag of this version is {wanted[name]}"
    machine = f"satdet-{project}-ray-{ray}".replace(".", "-")
    for document in site.ray_files:
        for name, node in (document.get("available_node_types") or {}).items():
            for position, disk in enumerate((node.get("node_config") or {}).get("disks") or ()):
                source = str((disk.get("initializeParams") or {}).get("sourceImage", ""))
                if not re.search(rf"/{re.escape(machine)}$", source):
                    where = ("available_node_types", name, "node_config", "disks", position, "initializeParams")
                    yield document.place(*where, "sourceImage"), f"{source}: the image of this version is {machine}"


def _images(site: Site) -> Iterator[tuple[Place, str]]:
    for container in containers(site):
        yield container.place("image"), str(container.spec.get("image", ""))
    for service in services(site):
        yield service.place("image"), str(service.spec.get("image", ""))


RULES = (
    Rule("same-lock", "nodes and servers have the versions of requirements.lock", other_locks),
    Rule("same-version", "clusters and images say the version that they are of", other_versions),
)
