"""Report searches: the question, the answer with its intervals, figures, protocol; one HTML page, and LaTeX.

python -m experiments.report SEARCH [SEARCH …] | --all [--out DIR] [--baseline CELL] [--storage DIR]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.commands import no_search
from experiments.copies import bring_record
from experiments.paths import StoragePaths, storage_paths
from satdet._cli import run_command
from satdet.errors import StorageError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("searches", metavar="SEARCH", nargs="*")
    parser.add_argument("--all", action="store_true", help="every declared experiment that the storage has")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write (default: report)")
    parser.add_argument("--baseline", metavar="CELL", help="the cell that others are compared with (default: the best)")
    parser.add_argument("--storage", default="runs", help="folder or address of the searches (default: runs)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)

    def command() -> None:
        storage = storage_paths(options.storage)
        if options.all == bool(options.searches):
            raise UsageError("which searches? name them, or say --all")
        if options.baseline is not None and len(options.searches) != 1:
            raise UsageError("--baseline names a cell of one search")
        names = _declared(storage) if options.all else options.searches
        for path in write_report(storage, names, options.out, options.baseline):
            sys.stdout.write(f"{path}\n")

    return run_command(command, debug=options.debug)


def write_report(storage: StoragePaths, names: Sequence[str], out: Path, baseline: str | None = None) -> list[Path]:
    """Write ``report.html`` and ``report.tex`` of searches, with what the latter needs; returns both paths.

    Raises
    ------
    UsageError
        If there is no such search.
    StorageError
        If a record cannot be read, or `out` not be written.
    """
    from experiments.reporting.evidence import Evidence
    from experiments.reporting.figures import draw_all
    from experiments.reporting.page import Chapter, write_page
    from experiments.reporting.paper import write_paper

    chapters = []
    for name in names:
        search = storage.search(name)
        bring_record(search)
        if not search.record.is_file():
            raise no_search(search)
        evidence = Evidence(search, baseline)
        chapters.append(Chapter(evidence, draw_all(evidence)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        title = names[0] if len(names) == 1 else "Searches"
        write_page(out / "report.html", chapters, title)
        write_paper(out, chapters)
    except OSError as error:
        raise StorageError(f"{error.filename or out}: cannot be written ({error.strerror})") from None
    return [out / "report.html", out / "report.tex"]


def _declared(storage: StoragePaths) -> list[str]:
    """The declared experiments that there is a search of, in the order of the observatory's report."""
    from experiments.reporting.published import CHAPTERS

    there = set(storage.searches())
    names = [name for name in CHAPTERS if name in there]
    if not names:
        known = ", ".join(sorted(there)) or "none"
        raise UsageError(f"--all: no declared experiment has a search in {storage}; there are {known}")
    return names


if __name__ == "__main__":
    sys.exit(main())
