"""What preparation learns from one frame by itself: its state, its noise, its boxes. Runs in worker processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from satdet.config import TilesConfig
from satdet.data.boxes import FrameObjects, frame_objects
from satdet.data.catalogues import Catalogue, read_catalogue
from satdet.data.duplicates import Fingerprint, fingerprint
from satdet.data.folder import CATALOGUE_ENDINGS, FrameFiles, describe_file
from satdet.data.frames import NoiseUnits, read_frame, to_noise_units
from satdet.data.labels import Curation, unaccepted
from satdet.data.pairing import positions_outside, positions_without_signal
from satdet.errors import CatalogueError, DataError, FrameError

State = Literal["used", "apart", "excluded", "duplicate", "rejected"]
STATES: tuple[State, ...] = ("used", "apart", "excluded", "duplicate", "rejected")
"""Used: in the tiles. Apart: no ground truth, left for inference. Excluded: by a label, or to keep the splits apart.
Duplicate: another frame repeats it, which is used or apart. Rejected: unusable."""


@dataclass(frozen=True)
class Task:
    """One frame to measure.

    Attributes
    ----------
    folder : Path
        Of the survey.
    files : FrameFiles
    curation : Curation
        Labels and note.
    config : TilesConfig
    pixels : Path
        Where the frame's pixels in noise units go, if it is used.
    strict : bool
        Raise what is wrong instead of returning it.
    """

    folder: Path
    files: FrameFiles
    curation: Curation
    config: TilesConfig
    pixels: Path
    strict: bool


@dataclass
class Measured:
    """What came out of one frame; `about` holds the measurements that go into the manifest."""

    files: FrameFiles
    curation: Curation
    state: State
    reason: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    objects: FrameObjects | None = None
    fingerprint: Fingerprint | None = None

    def leave_out(self, state: State, reason: str) -> None:
        """Take the frame out of those that are used."""
        self.state, self.reason, self.objects = state, reason, None


def measure(task: Task) -> Measured:
    """Read one frame and its catalogue, and write its pixels in noise units to ``task.pixels`` if it is used.

    Raises
    ------
    DataError
        If the frame is unusable and the task is strict.
    """
    result = Measured(task.files, task.curation, "used")
    excluding = unaccepted(task.curation.labels, task.config.accepted_labels)
    try:
        result.about["files"] = _describe_files(task)
        if excluding:
            result.leave_out("excluded", f"labelled {', '.join(excluding)}")
        else:
            _measure_frame(task, result)
    except DataError as error:
        if task.strict:
            raise
        result.leave_out("rejected", str(error))
    return result


def _describe_files(task: Task) -> list[dict[str, Any]]:
    kinds = FrameError, CatalogueError
    paths = task.files.paths
    return [describe_file(task.folder / path, path, kind) for path, kind in zip(paths, kinds, strict=False)]


def _measure_frame(task: Task, result: Measured) -> None:
    path = task.folder / task.files.frame
    if task.files.catalogue is None:
        endings = ", ".join(CATALOGUE_ENDINGS[1:])
        raise CatalogueError(
            f"{path}: no catalogue {task.files.name}{CATALOGUE_ENDINGS[0]} beside it, nor one in {endings}"
        )
    frame = read_frame(path)
    height, width = frame.pixels.shape
    result.about |= {"width": width, "height": height, "pixel_scale": frame.pixel_scale, "wcs": dict(frame.cards)}
    result.about |= {"julian_date": frame.julian_date, "exposure": frame.exposure, "saturation": frame.saturation}
    if min(width, height) < task.config.size:
        raise FrameError(f"{path}: {width} x {height} px is smaller than a tile of {task.config.size} px")
    catalogue = read_catalogue(task.folder / task.files.catalogue)
    noise_units = to_noise_units(frame, path)
    result.about |= {"background": noise_units.background, "rms": noise_units.rms, "zscale": noise_units.zscale}
    if len(catalogue) == 0:
        result.leave_out("apart", "a catalogue without rows")
    else:
        _check_pairing(catalogue, noise_units, task.folder / task.files.catalogue)
        found = frame_objects(catalogue, frame.pixel_scale, (height, width), task.config.box)
        if len(found.boxes) or len(found.ignored):
            result.objects = found
            np.save(task.pixels, noise_units.pixels)
        else:
            reasons = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
            result.leave_out("apart", f"no row of the catalogue is an object: {reasons}")
    result.fingerprint = fingerprint(frame.pixels, noise_units.pixels)


def _check_pairing(catalogue: Catalogue, noise_units: NoiseUnits, path: Path) -> None:
    height, width = noise_units.pixels.shape
    outside = positions_outside(catalogue, (height, width))
    if 2 * outside > len(catalogue):
        raise CatalogueError(
            f"{path}: {outside} of {len(catalogue)} positions lie outside the frame of {width} x {height} px; "
            "is it another frame's?"
        )
    silent, judged = positions_without_signal(catalogue, noise_units.pixels)
    if 2 * silent > judged:
        raise CatalogueError(
            f"{path}: no signal at {silent} of the {judged} brightest positions; is it another frame's?"
        )


def manifest_entry(result: Measured, split: str | None, tiles: int) -> dict[str, Any]:
    """The manifest's entry of one frame."""
    objects = result.objects
    return {
        "name": result.files.name,
        "path": result.files.frame,
        "state": result.state,
        "reason": result.reason,
        "labels": list(result.curation.labels),
        "note": result.curation.note,
        "split": split,
        **result.about,
        "objects": len(objects.boxes) if objects else 0,
        "ignored": len(objects.ignored) if objects else 0,
        "dropped": objects.dropped if objects else {},
        "tiles": tiles,
    }


def count_states(results: Sequence[Measured]) -> dict[str, int]:
    """Number of frames in each state; they add up to all frames."""
    return {state: sum(result.state == state for result in results) for state in STATES}
