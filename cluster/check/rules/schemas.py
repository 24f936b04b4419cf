"""Files have the form that their readers expect: YAML or JSON, Ray's schema of cluster files, KubeRay's of its own."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from cluster.check.documents import Document, Keys
from cluster.check.model import Faults, Rule
from cluster.check.site import Site, ray_schema
from cluster.check.workloads import pods
from satdet.errors import UsageError


def unreadable(site: Site) -> Faults:
    """Files that cannot be read, and keys that are said twice."""
    _ = site.documents, site.dashboards
    yield from site.unreadable


def ray_schema_faults(site: Site) -> Faults:
    """What Ray would refuse in its cluster files."""
    validator = Draft7Validator(ray_schema())
    for document in site.ray_files:
        yield from _violations(validator, document, ())
        types = document.get("available_node_types")
        head = document.get("head_node_type")
        if types is not None and head not in types:
            yield document.place("head_node_type"), f"head_node_type is {head}; name one of {', '.join(types)}"
        elif types is not None:
            least = sum(each.get("min_workers", 0) for each in types.values() if isinstance(each, dict))
            if least > (document.get("max_workers") or 0):
                yield document.place("max_workers"), f"max_workers is less than the {least} that the types keep"


def crd_faults(site: Site) -> Faults:
    """What the Kubernetes API would refuse, or silently drop, of KubeRay's resources and of the pods of others."""
    if site.crds is None:
        return
    schemas = _custom_resources(site.crds)
    for document in site.manifests:
        if document.get("apiVersion").startswith("ray.io/"):
            known = schemas.get((str(document.kind), document.get("apiVersion").partition("/")[2]))
            if known is None:
                yield document.place("kind"), f"{site.crds} defines no {document.get('apiVersion')} {document.kind}"
                continue
            yield from _violations(Draft7Validator(known), document, ())
    cluster = schemas.get(("RayCluster", "v1"))
    if cluster is None:
        raise UsageError(f"--crds {site.crds}: ray.io/v1 RayCluster is not defined there")
    pod = Draft7Validator(cluster["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"])
    for each in pods(site):
        if each.role == "service":
            yield from _violations(pod, each.document, each.keys)


def _violations(validator: Any, document: Document, keys: Keys) -> Faults:
    for error in validator.iter_errors(document.get(*keys)):
        where = (*keys, *error.absolute_path)
        at = ".".join(str(key) for key in where) or "the document"
        yield document.place(*where), f"{at}: {error.message[:200]}; see the schema"


@cache
def _custom_resources(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """JSON schemas by kind and version."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        definition = loader(path.read_text(encoding="utf-8")).get_single_data()
        if not isinstance(definition, dict) or definition.get("kind") != "CustomResourceDefinition":
            continue
        for version in definition["spec"]["versions"]:
            kind = definition["spec"]["names"]["kind"]
            found[kind, version["name"]] = _closed(version["schema"]["openAPIV3Schema"])
    return found


def _closed(schema: Any) -> Any:
    """A structural schema as JSON schema: the API drops fields that it does not know, so here they are an error."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    properties = schema.get("properties")
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and isinstance(properties, dict) and not open_ended:
        closed["additionalProperties"] = False
    return closed


RULES = (
    Rule("readable", "every YAML and JSON file can be read, and says nothing twice", unreadable),
    Rule("ray-schema", "Ray accepts the cluster files", ray_schema_faults),
    Rule("crd-schema", "KubeRay accepts its resources (with --crds)", crd_faults),
)
