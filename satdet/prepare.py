"""``python -m satdet.prepare``: make the tiles that training reads from a folder of frames and catalogues."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satdet._cli import progress_bar, run_command
from satdet.errors import ConfigError

if TYPE_CHECKING:
    from satdet.config import TilesConfig

_DATA_DIR = Path("runs/data")
_SHOWN = 20
_SPLITS = ("train", "validation", "test")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` (default: the process's own), prepare, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _prepare(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m satdet.prepare",
        description="Make the tiles that training reads from a folder of frames and catalogues, which are only read.",
    )
    parser.add_argument(
        "source", type=Path, metavar="DIR", help="folder with frames X.fits.gz and catalogues X_trl.dat"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="CSV of frame,labels (default: DIR/labels.csv)")
    parser.add_argument(
        "--accept", metavar="LABELS", help="labels of frames to use, such as OK,GALAXY; others are excluded"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"the store's folder (default: {_DATA_DIR}/tiles-DIGEST)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a value of tiles.…, such as tiles.size=256"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read frames (default: by processors)")
    parser.add_argument("--strict", action="store_true", help="stop at the first frame that cannot be used")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _prepare(options: argparse.Namespace) -> None:
    from satdet.data.ingest import prepare, store_path

    config = _tiles_config(options.set, options.accept)
    out = options.out or store_path(_DATA_DIR, options.source, config, options.labels)
    with progress_bar("reading frames") as progress:
        store = prepare(
            options.source,
            config,
            out,
            labels=options.labels,
            workers=options.workers,
            progress=progress,
            strict=options.strict,
        )
    summary = summarise(store.path, store.manifest)
    sys.stdout.write((json.dumps(summary, indent=1) if options.json else "\n".join(_lines(summary))) + "\n")


def _tiles_config(settings: Sequence[str], accept: str | None) -> "TilesConfig":
    from satdet.config import TrialConfig, parse_value, with_values

    values: dict[str, Any] = {}
    if accept is not None:
        values["tiles.accepted_labels"] = [label.strip() for label in accept.split(",") if label.strip()]
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.startswith("tiles."):
            raise ConfigError(f"--set {setting}: expected tiles.KEY=VALUE, such as tiles.size=256")
        values[path] = parse_value(path, text)
    return with_values(TrialConfig(), values).tiles


def summarise(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """What a person or a script wants to know of the store at `path`: counts, and what was left out and why."""
    frames = manifest["frames"]
    dropped: Counter[str] = Counter()
    for entry in frames:
        dropped.update(entry["dropped"])
    return {
        "store": str(path),
        "digest": manifest["digest"],
        "size": manifest["config"]["size"],
        "tiles": manifest["tiles"],
        "frames": manifest["counts"]["frames"],
        "splits": {split: manifest["counts"][split] for split in _SPLITS},
        "excluded": dict(Counter(entry["reason"] for entry in frames if entry["state"] == "excluded")),
        "apart": [entry["path"] for entry in frames if entry["state"] == "apart"],
        "rejected": {entry["path"]: entry["reason"] for entry in frames if entry["state"] == "rejected"},
        "ignored": sum(entry["ignored"] for entry in frames),
        "dropped": dict(dropped),
        "duplicates": {entry["path"]: entry["reason"] for entry in frames if entry["state"] == "duplicate"},
        "warnings": manifest["warnings"],
        "labels_without_frame": manifest["labels_without_frame"],
        "catalogues_without_frame": manifest["catalogues_without_frame"],
    }


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    """The summary for a person."""
    yield f"{summary['store']}: {summary['tiles']} tiles of {summary['size']} px"
    yield f"  {'split':<12}{'frames':>8}{'tiles':>8}{'objects':>9}{'empty':>7}"
    for name, counts in summary["splits"].items():
        yield f"  {name:<12}{counts['frames']:>8}{counts['tiles']:>8}{counts['objects']:>9}{counts['empty_tiles']:>7}"
    states = summary["frames"]
    yield f"  frames: {', '.join(f'{count} {state}' for state, count in states.items())}, {sum(states.values())} in all"
    for reason, count in summary["excluded"].items():
        yield f"  excluded: {count} {reason}"
    if summary["apart"]:
        yield f"  apart, without ground truth: {_shortened(summary['apart'])}"
    yield from _listed("duplicate", [f"{path}: {reason}" for path, reason in summary["duplicates"].items()])
    yield from _listed("rejected", list(summary["rejected"].values()))
    yield from _listed("warning", summary["warnings"])
    rows = [f"{summary['ignored']} with FLAGS other than 0 (ignored regions)"] if summary["ignored"] else []
    rows += [f"{count} {reason}" for reason, count in summary["dropped"].items()]
    if rows:
        yield f"  rows that are not objects: {', '.join(rows)}"
    if summary["labels_without_frame"]:
        yield f"  labels without a frame: {_shortened(summary['labels_without_frame'])}"
    if summary["catalogues_without_frame"]:
        yield f"  catalogues without a frame: {_shortened(summary['catalogues_without_frame'])}"


def _listed(what: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {what}: {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  {what}: and {len(lines) - _SHOWN} more"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


if __name__ == "__main__":
    sys.exit(main())
