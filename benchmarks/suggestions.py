"""How often are labels suggested for frames that have them, and for frames that have not?

    python -m benchmarks.suggestions [--out docs/tables/suggestions.md]

Reviews a simulated survey whose labels are known, of another seed than the thresholds were chosen on.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from satdet._parallel import available_cpus
from satdet.curation.review import Review, review_folder
from satdet.data.labels import read_curation
from satdet.simulate import simulate_survey

FRAMES, SEED = 300, 7
MEASURABLE = ("ESO", "TRACE", "AMPLIFIER", "GRADIENT", "LIGHT")
BACKGROUND = {"GRADIENT", "LIGHT"}
"""A steep slope and stray light at an edge look alike; either suggestion leads the curator to the frame."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write its table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suggestions", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where the survey is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/tables/suggestions.md"))
    options = parser.parse_args(arguments)
    source = options.data / f"simulated-1024px-{FRAMES}-seed{SEED}"
    simulate_survey(source, frames=FRAMES, seed=SEED, workers=available_cpus())
    reviews = review_folder(source, read_curation(source / "labels.csv"), workers=available_cpus())
    text = "\n".join(_lines(reviews)) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)
    return 0


def _lines(reviews: Sequence[Review]) -> Iterator[str]:
    yield f"Suggested labels on {len(reviews)} simulated frames (seed {SEED}), by `python -m benchmarks.suggestions`."
    yield ""
    yield "| label | frames with it | suggested for | frames without it | suggested for |"
    yield "|---|---:|---:|---:|---:|"
    for label in MEASURABLE:
        meant = BACKGROUND if label in BACKGROUND else {label}
        have = [review for review in reviews if label in review.given.labels]
        others = [review for review in reviews if not meant & set(review.given.labels)]
        hits, false = (sum(bool(meant & _suggested(each)) for each in group) for group in (have, others))
        yield f"| {label} | {len(have)} | {hits} | {len(others)} | {false} |"
    empty = [review for review in reviews if review.measures is not None and review.measures.objects == 0]
    told = sum("CATALOGUE" in _suggested(review) for review in empty)
    rest = [review for review in reviews if review not in empty]
    yield f"| CATALOGUE (without rows) | {len(empty)} | {told} | {len(rest)} | " + (
        f"{sum('CATALOGUE' in _suggested(review) for review in rest)} |"
    )
    clear = sum(not _suggested(review) for review in reviews if set(review.given.labels) <= {"OK", "GALAXY", "BINARY"})
    sound = sum(set(review.given.labels) <= {"OK", "GALAXY", "BINARY"} for review in reviews)
    yield ""
    yield f"Nothing at all is suggested for {clear} of the {sound} frames that are labelled OK, GALAXY or BINARY alone."
    yield "GRADIENT and LIGHT count for each other. Frames labelled OK may hold a few bleeding stars in this"
    yield "simulation, which is what most of the suggestions of ESO for them are."


def _suggested(review: Review) -> set[str]:
    return {each.label for each in review.suggestions}


if __name__ == "__main__":
    sys.exit(main())
