"""Scripts and recipes of images do what they say, or stop."""

import os
import re
import subprocess

from cluster.check.model import Faults, Place, Rule
from cluster.check.rules.containers import is_pinned
from cluster.check.site import Site, joined_lines

_STRICT = re.compile(r"^set -euo pipefail$", re.MULTILINE)
_INSTALLS = re.compile(r"\bpip\s+(install|sync)\b")


def unparsable(site: Site) -> Faults:
    """Scripts that bash cannot read."""
    for script in site.scripts:
        done = subprocess.run(["bash", "-n", str(script.path)], capture_output=True, text=True, check=False)
        if done.returncode:
            line = re.search(r"line (\d+): (.*)", done.stderr)
            yield Place(script.file, int(line[1]) if line else None), line[2] if line else done.stderr


def careless(site: Site) -> Faults:
    """Scripts that go on after an error, or cannot be run."""
    for script in site.scripts:
        if script.sourced:
            if "# shellcheck shell=" not in script.text:
                yield Place(script.file, 1), "neither run (#!) nor sourced (# shellcheck shell=bash)"
            continue
        if not _STRICT.search(script.text):
            yield Place(script.file, 1), "say set -euo pipefail before the first command"
        if not os.access(script.path, os.X_OK) and script.path.suffix == ".sh":
            yield Place(script.file), "cannot be run: chmod +x"


def loose_recipes(site: Site) -> Faults:
    """Dockerfiles that build something else tomorrow, or an image that runs as root."""
    for path in site.dockerfiles:
        file = site.name(path)
        arguments: dict[str, str] = {}
        user: tuple[Place, str] = (Place(file), "")
        for number, line in joined_lines(path.read_text(encoding="utf-8")):
            place = Place(file, number)
            instruction, _, rest = line.partition(" ")
            if instruction == "FROM":
                user = (place, "")
            elif instruction == "ARG" and "=" in rest:
                name, _, value = rest.partition("=")
                arguments[name.strip()] = value.strip()
            elif instruction == "USER":
                user = (place, rest.strip())
            for message in _line_faults(instruction, rest, arguments):
                yield place, message
        if user[1].partition(":")[0] in ("", "root", "0"):
            yield user[0], "say USER with the number of a user that is not root, last"


def _line_faults(instruction: str, rest: str, arguments: dict[str, str]) -> list[str]:
    faults = []
    if instruction == "FROM":
        base = re.sub(r"\$\{?(\w+)\}?", lambda name: arguments.get(name[1], ""), rest.split()[0])
        if not is_pinned(base):
            faults.append(f"{base}: name an exact version of the base, or a digest")
    if instruction == "ADD":
        faults.append("use COPY, and packages with hashes; ADD takes what an address serves that day")
    if re.search(r"\b(curl|wget)\b.*\|\s*(ba)?sh\b", rest):
        faults.append("runs what an address serves that day")
    for command in re.split(r"&&|;", rest) if instruction == "RUN" else ():
        ours = "--no-deps" in command and "-e ." in command
        if _INSTALLS.search(command) and "--require-hashes" not in command and not ours:
            faults.append("install from a lock, with --require-hashes")
    return faults


RULES = (
    Rule("shell-syntax", "bash can read every script", unparsable),
    Rule("shell-strict", "every script stops at its first error", careless),
    Rule("dockerfile", "images are built from exact versions, hashes checked, and do not run as root", loose_recipes),
)
