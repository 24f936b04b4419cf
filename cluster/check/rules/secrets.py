"""No secret is written down in a file of the project."""

import re

from cluster.check.model import Faults, Place, Rule
from cluster.check.site import Site
from cluster.check.workloads import containers, services

_NAME = r"(?:password|passwd|secret|token|credential|api[_-]?key|access[_-]?key)"
_ASSIGNED = re.compile(rf"""(?i)([\w.-]*{_NAME}[\w.-]*)["']?\s*[:=](?!-)\s*["']?([^\s"'$%{{}}()\[\]<>|,;\\]{{6,}})""")
_SHAPES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), "a private key"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "an access key of AWS"),
    (re.compile(r"://[^/\s:@$]+:[^@\s$/{}]+@"), "a password in an address"),
)
_REFERENCES = re.compile(r"(?i)(name|path|file|ref|mode|uri|token:|automountserviceaccounttoken)$")
"""Endings of keys that say where a secret is, not what it is."""
_PLAIN = {".md", ".lock", ".py", ".in"}


def inline_secrets(site: Site) -> Faults:
    """What looks like a password, a token or a key."""
    for path in site.files:
        if path.suffix in _PLAIN:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if what := _secret_in(line):
                yield Place(site.name(path), number), f"{what}; keep it in a file or a Secret that is not committed"
    for document in site.manifests:
        if document.kind == "Secret":
            yield document.place("kind"), "a Secret with its values; make it with kubectl create secret --from-file"
    for container in containers(site):
        for position, variable in enumerate(container.spec.get("env") or ()):
            if _is_secret(str(variable.get("name")), variable.get("value")):
                yield container.place("env", position), f"{variable['name']} is written down; take it from a Secret"
    for service in services(site):
        environment = service.spec.get("environment") or {}
        for name, value in environment.items() if isinstance(environment, dict) else ():
            if _is_secret(name, value):
                yield service.place("environment", name), f"{name} is written down; take it from a file in secrets"


def _secret_in(line: str) -> str | None:
    if line.lstrip().startswith(("#", "//", "-- ")):
        return None
    for shape, what in _SHAPES:
        if shape.search(line):
            return what
    for name, value in _ASSIGNED.findall(line):
        if _is_secret(name, value):
            return f"{name} is written down"
    return None


def _is_secret(name: str, value: object) -> bool:
    if not isinstance(value, str) or not re.search(_NAME, name, re.IGNORECASE) or _REFERENCES.search(name):
        return False
    return len(value) >= 6 and not value.startswith(("/", "$", "./", "~")) and value.lower() not in ("false", "true")


RULES = (Rule("inline-secret", "no secret is written down", inline_secrets),)
