"""Known vulnerabilities of the locked versions, as the OSV database has them. A check that could not be made fails.

    python -m benchmarks.audit [--lock FILE]

Exit status: 0 all were asked about and none is known; 1 some are; 2 the database did not answer for every package.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOCK = Path(__file__).parent.parent / "requirements.lock"
_OSV = "https://api.osv.dev/v1/query"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--lock", type=Path, default=_LOCK, help="requirements with hashes (default: requirements.lock)"
    )
    parser.add_argument("--osv-url", default=_OSV, help="where to ask (default: %(default)s)")
    options = parser.parse_args(arguments)
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pip_audit",
                "--requirement",
                str(options.lock),
                "--require-hashes",
                "--disable-pip",
            ),
            *("--vulnerability-service", "osv", "--osv-url", options.osv_url),
            *("--format", "json", "--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        sys.stderr.write(f"error: {options.osv_url} could not be asked ({reason}); nothing was checked\n")
        return 2
    passed_over = [f"{each['name']} ({each['skip_reason']})" for each in packages if "skip_reason" in each]
    if passed_over or not packages:
        which = ", ".join(passed_over[:5]) or "no package at all"
        sys.stderr.write(f"error: {len(passed_over)} of {len(packages)} packages were not checked: {which}\n")
        return 2
    found = [(each, known) for each in packages for known in each["vulns"]]
    for each, known in found:
        better = ", ".join(known["fix_versions"]) or "no version yet"
        sys.stdout.write(f"{each['name']} {each['version']}: {known['id']}, mended in {better}\n")
    sys.stdout.write(f"{len(packages)} packages checked, {len(found)} vulnerabilities known\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
