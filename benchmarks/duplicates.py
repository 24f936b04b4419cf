"""How well does the noise tell one exposure processed twice from two exposures of one field?

    python -m benchmarks.duplicates [--fields 24] [--size 512] [--out docs/tables/duplicates.md]

Simulates exposures of fields whose stars do not move by a fraction of a pixel, the hardest case, and correlates their
fingerprints with those of the same exposures processed again, and of others.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from satdet.config import TilesConfig
from satdet.data.duplicates import fingerprint
from satdet.data.frames import Frame, to_noise_units
from tests.exposures import PROCESSINGS, Counts, expose_field


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicates", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fields", type=int, default=24, metavar="N")
    parser.add_argument("--size", type=int, default=512, metavar="PX")
    parser.add_argument("--out", type=Path, default=Path("docs/tables/duplicates.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    found: dict[str, list[float]] = {}
    for field in range(options.fields):
        first = expose_field(field, 1, options.size)
        others = {name: process(first) for name, process in PROCESSINGS.items()}
        others["another exposure"] = expose_field(field, 2, options.size)
        others["another exposure, sky 1.5 times as bright"] = expose_field(field, 3, options.size, sky_factor=1.5)
        others["another field"] = expose_field(field + options.fields, 1, options.size)
        for name, counts in others.items():
            found.setdefault(name, []).append(float(_noise(first) @ _noise(counts)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(_table(found, options.fields, options.size))
    sys.stdout.write(f"{options.out}: written\n")
    return 0


def _noise(counts: Counts) -> np.ndarray:
    counts = np.asarray(counts, dtype=np.float32)
    return fingerprint(counts, to_noise_units(Frame(counts, 1e-4), Path("simulated")).pixels).noise


def _table(found: dict[str, list[float]], fields: int, size: int) -> str:
    lines = [
        "# Duplicates by the noise of an exposure",
        "",
        f"`python -m benchmarks.duplicates`: correlation of fingerprints, {fields} simulated fields of {size} px.",
        f"Frames above {TilesConfig().duplicate_correlation:g} (`tiles.duplicate_correlation`) count as one exposure.",
        "",
        "| compared with an exposure | smallest | median | largest |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        low, middle, high = np.percentile(values, [0, 50, 100])
        lines.append(f"| {name} | {low:.2f} | {middle:.2f} | {high:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
