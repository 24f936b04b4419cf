"""``python -m satdet.curation``: a contact sheet of a folder of frames, with labels suggested by measurement."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from satdet._cli import progress_bar, run_command
from satdet.errors import StorageError

if TYPE_CHECKING:
    from satdet.curation.review import Review

_SHEET, _TABLE = "contact-sheet.html", "suggestions.csv"
_LABEL_FILE = "labels.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` (default: the process's own), review, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _review(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m satdet.curation",
        description="Measure every frame of a folder and suggest labels, on one HTML page with pictures. "
        "The frames are only read, and nothing is excluded by a suggestion.",
    )
    parser.add_argument("source", type=Path, metavar="DIR", help="folder with frames and catalogues")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"for {_SHEET} and {_TABLE}")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="labels given so far (default: DIR/labels.csv)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a processor)")
    parser.add_argument("--json", action="store_true", help="the suggestions as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _review(options: argparse.Namespace) -> None:
    from satdet._parallel import available_cpus
    from satdet.curation.review import review_folder
    from satdet.curation.sheet import contact_sheet, suggestion_table
    from satdet.data.labels import read_curation

    label_file = options.labels or options.source / _LABEL_FILE
    given = read_curation(label_file) if options.labels or label_file.exists() else {}
    with progress_bar("looking at frames") as progress:
        reviews = review_folder(options.source, given, workers=options.workers or available_cpus(), progress=progress)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / _SHEET).write_text(contact_sheet(f"Frames of {options.source.name}", reviews))
        (options.out / _TABLE).write_text(suggestion_table(reviews))
    except OSError as error:
        raise StorageError(f"{options.out}: cannot be written ({error})") from error
    sys.stdout.write(_as_json(reviews) if options.json else _summary(reviews, options.out))


def _as_json(reviews: "Sequence[Review]") -> str:
    entries = [
        {
            "frame": review.name,
            "labels": list(review.given.labels),
            "suggestions": [{"label": each.label, "reason": each.reason} for each in review.suggestions],
            "error": review.error,
        }
        for review in reviews
    ]
    return json.dumps(entries, indent=1) + "\n"


def _summary(reviews: "Sequence[Review]", out: Path) -> str:
    counts = Counter(label for review in reviews for label in {each.label for each in review.suggestions})
    unreadable = sum(review.error is not None for review in reviews)
    clear = sum(review.error is None and not review.suggestions for review in reviews)
    lines = [f"{len(reviews)} frames, nothing suggested for {clear}"]
    lines += [f"  {label:<10} suggested for {count}" for label, count in sorted(counts.items())]
    lines += [f"  {unreadable} cannot be read"] if unreadable else []
    lines.append(f"look at {out / _SHEET}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
