"""Check the files of ``cluster``, offline.

    python -m cluster.check [--crds DIR]

One line a finding: file, line, rule, what to do. Exit status: 0 nothing found, 2 findings or usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.check.rules import RULES, schemas
from cluster.check.site import Site
from satdet._cli import run_command
from satdet.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.check",
        description="Check the files of cluster/, offline: one line a finding.",
        epilog="exit status: 0 nothing found; 2 findings, or usage",
    )
    parser.add_argument(
        "--crds", metavar="DIR", type=Path, help="KubeRay's CustomResourceDefinitions, for its manifests"
    )
    parser.add_argument("--root", metavar="DIR", type=Path, default=Path(), help="the project (default: this folder)")
    parser.add_argument("--list", action="store_true", help="the rules, and what each promises")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        if parsed.list:
            for rule in RULES:
                sys.stdout.write(f"{rule.name:20s} {rule.promise}\n")
            return
        _check(Site(parsed.root.resolve(), parsed.crds))

    return run_command(command, debug=parsed.debug)


def _check(site: Site) -> None:
    # What has not the form that its readers expect is mended before it is held against the other rules.
    form = [finding for rule in schemas.RULES for finding in rule.check(site)]
    findings = form or [finding for rule in RULES for finding in rule.check(site)]
    findings.sort(key=lambda finding: (finding.place.file, finding.place.line or 0, finding.rule))
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    if site.crds is None:
        sys.stderr.write("KubeRay's manifests were not held against its schemas: name their folder with --crds\n")
    if findings:
        raise UsageError(f"{len(findings)} finding{'s' if len(findings) > 1 else ''}")
    sys.stdout.write(f"{len(site.files)} files, {len(RULES)} rules: nothing found\n")


if __name__ == "__main__":
    sys.exit(main())
