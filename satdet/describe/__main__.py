"""``python -m satdet.describe``: the data of a tile store, or of a folder of frames, as tables and pictures."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from satdet._cli import run_command
from satdet.errors import StorageError

_TABLE, _FIGURES = "statistics.md", "statistics.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` (default: the process's own), describe, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _describe(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m satdet.describe",
        description="Objects, boxes, magnitudes, sky and labels of a tile store as tables and pictures.",
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="a tile store, as python -m satdet.prepare names it")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the tables and pictures")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _describe(options: argparse.Namespace) -> None:
    from satdet.data.store import TileStore
    from satdet.describe import collect, draw_figures, summarise, table

    data = collect(TileStore.open(options.store))
    summaries = summarise(data)
    figures = {
        "summaries": [dataclasses.asdict(summary) for summary in summaries],
        "labels": data.labels,
        "states": data.states,
    }
    text = table(summaries) + _counts("states of frames", data.states) + _counts("labels of frames", data.labels)
    try:
        pictures = draw_figures(data, options.out)
        (options.out / _TABLE).write_text(text)
        (options.out / _FIGURES).write_text(json.dumps(figures, indent=1))
    except OSError as error:
        raise StorageError(f"{options.out}: cannot be written ({error})") from error
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    else:
        sys.stdout.write(f"{text}\n{options.out}: {', '.join(path.name for path in pictures)}\n")


def _counts(title: str, counts: dict[str, int]) -> str:
    return f"\n{title}: " + ", ".join(f"{count} {name}" for name, count in counts.items()) + "\n"


if __name__ == "__main__":
    sys.exit(main())
