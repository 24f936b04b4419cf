"""A survey: numbered frames, their catalogues, and the labels a curator would have given them."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

from satdet._parallel import map_in_processes
from satdet._storage import write_whole
from satdet.errors import StorageError, UsageError

Progress = Callable[[int, int], None]

_IDENTITY = "survey.json"
_MIN_SIZE = 64
_PIXELS_A_WORKER = 16 * 1024**2
"""Fewer pixels to draw are not worth another process's start."""


def simulate_survey(
    out: Path,
    *,
    frames: int,
    seed: int,
    size: int = 1024,
    workers: int = 1,
    progress: Progress | None = None,
    truth: bool = False,
) -> list[Path]:
    """Write `frames` frames with their catalogues and ``labels.csv`` to folder `out`.

    Frame number i depends on (seed, i, size) alone. What an earlier call with the same seed and size has left in `out`
    is kept, so a larger number of frames extends a survey, and an interrupted call is taken up where it stopped.

    Parameters
    ----------
    out : Path
        Made if it is missing.
    frames : int
        Number of frames.
    seed : int
        Not negative.
    size : int
        Side of a frame [px], at 0.722 arcsec/px for any size.
    workers : int
        Most processes to draw with; few frames are drawn in this one.
    progress : callable, optional
        Called with (frames done, frames in all).
    truth : bool
        Also write the stars' true positions, ``<name>_truth.csv``.

    Returns
    -------
    list of Path
        The frames, in order.

    Raises
    ------
    UsageError
        For a number out of range, or if `out` holds another survey.
    StorageError
        If `out` cannot be written.
    """
    limits = ("frames", frames, 1), ("seed", seed, 0), ("size", size, _MIN_SIZE), ("workers", workers, 1)
    for name, value, least in limits:
        if value < least:
            raise UsageError(f"{name} = {value} is below its minimum {least}")
    from satdet.simulate.conditions import draw_conditions

    endings = (".fits.gz", "_trl.dat", "_truth.csv") if truth else (".fits.gz", "_trl.dat")
    names = [draw_conditions(seed, number, size).name for number in range(frames)]
    try:
        total = _claim(out, seed, size, frames)
        present = [all((out / f"{name}{ending}").exists() for ending in endings) for name in names]
        missing = [number for number, done in enumerate(present) if not done]
        draw = functools.partial(_simulate_frame, out=out, seed=seed, size=size, truth=truth)
        worth = 1 + len(missing) * size**2 // _PIXELS_A_WORKER
        for done, _ in enumerate(map_in_processes(draw, missing, min(workers, worth)), 1):
            if progress is not None:
                progress(frames - len(missing) + done, frames)
        _write_labels(out, seed, size, total)
    except OSError as error:
        raise StorageError(f"{out}: the survey cannot be written ({error})") from error
    return [out / f"{name}{endings[0]}" for name in names]


def _claim(out: Path, seed: int, size: int, frames: int) -> int:
    """Say whose survey `out` holds; return how many frames it will hold, those of earlier calls included."""
    identity = {"seed": seed, "size": size}
    known = {}
    if (out / _IDENTITY).exists():
        try:
            known = json.loads((out / _IDENTITY).read_text())
            total = max(frames, int(known.pop("frames")))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{out / _IDENTITY}: damaged; remove the folder, or choose another") from None
        if known != identity:
            raise UsageError(f"{out}: holds another survey ({known}, not {identity}); choose another folder")
    else:
        total = frames
    out.mkdir(parents=True, exist_ok=True)
    _write(out / _IDENTITY, json.dumps(identity | {"frames": total}).encode())
    return total


def _simulate_frame(number: int, *, out: Path, seed: int, size: int, truth: bool) -> None:
    """Draw and write one frame."""
    import numpy as np

    from satdet.simulate import files
    from satdet.simulate.camera import expose
    from satdet.simulate.conditions import draw_conditions
    from satdet.simulate.extraction import extract_catalogue
    from satdet.simulate.scene import draw_scene

    sky = draw_conditions(seed, number, size)
    rng = np.random.default_rng([seed, number, size, 1])
    scene = np.zeros((size, size), dtype=np.float32)
    stars = draw_scene(scene, sky, rng)
    counts, header = expose(scene, sky, rng), files.frame_header(sky)
    columns = extract_catalogue(counts, sky, files.world_coordinates(header))
    if not sky.catalogued:
        columns = {name: values[:0] for name, values in columns.items()}
    _write(out / f"{sky.name}.fits.gz", files.frame_bytes(counts, header))
    _write(out / f"{sky.name}_trl.dat", files.catalogue_bytes(columns))
    if truth:
        _write(out / f"{sky.name}_truth.csv", files.truth_bytes(stars, sky))


def _write_labels(out: Path, seed: int, size: int, frames: int) -> None:
    from satdet.simulate.conditions import NOTES, draw_conditions

    lines = ["frame,labels,note"]
    for number in range(frames):
        sky = draw_conditions(seed, number, size)
        notes = [NOTES[label] for label in sky.labels if label in NOTES]
        notes += [] if sky.catalogued else ["no ground truth"]
        lines.append(f"{sky.name},{';'.join(sky.labels)},{'; '.join(notes)}")
    _write(out / "labels.csv", ("\n".join(lines) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """Write `path`, unless it is right, so that a reader or a call after an interruption finds all of it or nothing."""
    if path.exists() and path.read_bytes() == content:
        return
    write_whole(path, content)
