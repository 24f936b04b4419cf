"""``python -m satdet.predict``: find the objects of whole frames and write them as catalogues, regions and pictures."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satdet._cli import progress_bar, run_command
from satdet.errors import DataError, StorageError, UsageError

if TYPE_CHECKING:
    from satdet.data.boxes import FrameObjects
    from satdet.predict.detections import Detections
    from satdet.predict.predictor import Predictor


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` (default: the process's own), predict, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _predict(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m satdet.predict",
        description="Find the objects of whole frames. For each frame X, DIR gets X_satdet.cat (SExtractor's format), "
        "X_satdet.csv, X_satdet.reg (DS9), X_satdet_fk5.reg (if the header places it on the sky) and X_satdet.png.",
    )
    parser.add_argument("frames", type=Path, nargs="+", metavar="FRAME", help="FITS files of any size")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="model.pt of a trial")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--score", type=float, metavar="S", help="lowest score (default: the checkpoint's best)")
    parser.add_argument("--overlap", type=int, metavar="PX", help="overlap of tiles (default: an eighth of a tile)")
    parser.add_argument("--batch", type=int, metavar="N", help="tiles a forward pass (default: the checkpoint's)")
    parser.add_argument("--device", metavar="D", help="default: cuda if there is one, else cpu")
    parser.add_argument(
        "--catalogue",
        default="auto",
        metavar="FILE",
        help="catalogue to draw beside the detections (default: the one beside the frame, if there is one)",
    )
    parser.add_argument("--json", action="store_true", help="the summary as JSON on standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _predict(options: argparse.Namespace) -> None:
    from satdet.predict.predictor import Predictor

    _check_names(options)
    predictor = Predictor.load(
        options.checkpoint,
        options.device,
        score=options.score,
        overlap=options.overlap,
        batch_size=options.batch,
    )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{options.out}: cannot hold the results ({error.strerror})") from None
    done: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for frame in options.frames:
        try:
            done.append(_predict_frame(frame, predictor, options))
        except DataError as error:
            failed[str(frame)] = str(error)
            sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    summary = {
        "checkpoint": str(options.checkpoint),
        "score": predictor.score,
        "frames": done,
        "failed": failed,
    }
    sys.stdout.write((json.dumps(summary, indent=1) if options.json else "\n".join(_lines(summary))) + "\n")
    if failed:
        raise DataError(f"{len(failed)} of {len(options.frames)} frames could not be used; the others are done")


def _check_names(options: argparse.Namespace) -> None:
    """Results are named by their frame: no two frames may have one name."""
    from satdet.data.labels import frame_name

    if options.catalogue != "auto" and len(options.frames) > 1:
        raise UsageError(f"--catalogue {options.catalogue} is of one frame, not of {len(options.frames)}")
    first: dict[str, Path] = {}
    for frame in options.frames:
        other = first.setdefault(frame_name(frame.name), frame)
        if other is not frame:
            raise UsageError(f"{other} and {frame} have one name, so their results would; predict them one by one")


def _predict_frame(path: Path, predictor: "Predictor", options: argparse.Namespace) -> dict[str, Any]:
    """Predict one frame, write its files, and tell what is in them."""
    started = time.perf_counter()
    with progress_bar(path.name) as progress:
        detections = predictor.predict(path, progress=progress)
    truth = _catalogue(path, detections, predictor, options.catalogue)
    files = [str(file) for file in _write(options.out, detections, truth)]
    entry: dict[str, Any] = {"frame": str(path), "detections": len(detections), "files": files}
    if truth is not None:
        from satdet.predict.catalogue import count_found

        entry |= {"objects": len(truth.boxes), "found": count_found(detections, truth.boxes)}
    return entry | {"seconds": round(time.perf_counter() - started, 3)}


def _catalogue(path: Path, detections: "Detections", predictor: "Predictor", choice: str) -> "FrameObjects | None":
    """What the frame's catalogue says; one that was not asked for and cannot be used is only warned of."""
    from satdet.predict.catalogue import catalogue_objects, find_catalogue

    catalogue = find_catalogue(path) if choice == "auto" else Path(choice)
    if catalogue is None:
        return None
    try:
        return catalogue_objects(catalogue, detections, predictor.model.config.tiles.box)
    except DataError as error:
        if choice != "auto":
            raise
        sys.stderr.write(f"warning: {' '.join(str(error).split())}\n")
        return None


def _write(folder: Path, detections: "Detections", truth: "FrameObjects | None") -> Iterator[Path]:
    from satdet.predict.formats import write_catalogue, write_csv, write_picture, write_regions

    stem = folder / f"{detections.name}_satdet"
    try:
        write_catalogue(catalogue := stem.with_name(f"{stem.name}.cat"), detections)
        write_csv(table := stem.with_name(f"{stem.name}.csv"), detections)
        write_regions(regions := stem.with_name(f"{stem.name}.reg"), detections)
        yield from (catalogue, table, regions)
        if detections.wcs is not None:
            write_regions(sky := stem.with_name(f"{stem.name}_fk5.reg"), detections, sky=True)
            yield sky
        write_picture(picture := stem.with_name(f"{stem.name}.png"), detections, truth)
        yield picture
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror})") from None


def _lines(summary: dict[str, Any]) -> Iterator[str]:
    """The summary for a person."""
    for entry in summary["frames"]:
        known = f", {entry['found']} of {entry['objects']} catalogue objects found" if "objects" in entry else ""
        yield f"{entry['frame']}: {entry['detections']} detections{known}; {entry['files'][0]}"
    yield f"{len(summary['frames'])} frames, score at least {summary['score']:.3f}; {len(summary['failed'])} failed"


if __name__ == "__main__":
    sys.exit(main())
