"""How does every kind of malformed frame and catalogue end, and how long does it take?

    python -m benchmarks.malformed_corpus [--out docs/tables/malformed.md]

Makes the corpus that ``tests/test_malformed.py`` tests, and prepares tiles from it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from satdet.config import TilesConfig
from satdet.data.folder import scan_folder
from satdet.data.ingest import prepare
from satdet.data.labels import Curation
from satdet.data.measuring import Task, measure
from satdet.data.store import TileStore
from tests.corpus import Kind, make_corpus


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.malformed_corpus", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("docs/tables/malformed.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    config = TilesConfig(size=64)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "frames")
        kinds = make_corpus(folder)
        store = prepare(folder, config, Path(scratch, "store"), workers=1)
        seconds = _seconds(folder, config)
        table = _table(kinds, store, seconds, str(folder))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table)
    sys.stdout.write(f"{options.out}: {len(kinds)} kinds, the slowest took {1000 * max(seconds.values()):.0f} ms\n")
    return 0


def _seconds(folder: Path, config: TilesConfig) -> dict[str, float]:
    """Processor time to measure each frame, by name; unlike the clock, other programs do not lengthen it."""
    seconds = {}
    for files in scan_folder(folder).frames:
        task = Task(folder, files, Curation(), config, folder.with_name("pixels.npy"), strict=False)
        start = time.process_time()
        measure(task)
        seconds[files.name] = time.process_time() - start
    return seconds


def _table(kinds: Sequence[Kind], store: TileStore, seconds: dict[str, float], folder: str) -> str:
    entries = {entry["name"]: entry for entry in store.manifest["frames"]}
    counts = ", ".join(f"{count} {state}" for state, count in store.manifest["counts"]["frames"].items())
    lines = [
        "# Malformed frames and catalogues",
        "",
        f"`python -m benchmarks.malformed_corpus`: every kind in one folder with good frames, {len(entries)} in all.",
        f"They end as: {counts}. A used frame's reason is what was dropped of its catalogue; ms is processor time.",
        "",
        "| kind | state | reason | ms |",
        "|---|---|---|---|",
    ]
    for kind in kinds:
        entry = entries[kind.name]
        dropped = ", ".join(f"{count} {reason}" for reason, count in entry["dropped"].items())
        reason = str(entry["reason"] or dropped or "nothing").replace(f"{folder}/", "").replace("|", "\\|")
        lines.append(f"| {kind.name} | {entry['state']} | {reason} | {1000 * seconds[kind.name]:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
