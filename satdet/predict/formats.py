"""Detections as files: a SExtractor catalogue, DS9 regions, CSV, a picture."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from satdet.data.boxes import FrameObjects
from satdet.pictures import FramePicture, draw_frame
from satdet.predict.detections import Detections
from satdet.training.files import write_text

_AT_EDGE = 8
"""SExtractor's flag of an object that is cut by the frame's edge."""
_EDGE = 0.5
"""A box that comes so near to the frame's edge [px] is cut by it."""


@dataclass(frozen=True)
class _Column:
    name: str
    form: str
    comment: str
    unit: str
    values: npt.NDArray[np.float64]


def write_catalogue(path: Path, detections: Detections) -> None:
    """Write a catalogue in SExtractor's ASCII_HEAD, which `astropy.io.ascii` reads as ``sextractor``.

    X_IMAGE and Y_IMAGE are the centre of the box, XMIN_IMAGE … YMAX_IMAGE its edges, the first pixel reaching from 0.5
    to 1.5. FWHM_IMAGE is what the box implies by the rule of training (half side = k FWHM; `Detections.fwhm`), and
    FLAGS is 8 for a box that the frame's edge cuts, else 0. ALPHA_J2000, DELTA_J2000 and FWHM_WORLD are left out for a
    frame whose header gives no coordinate system or no pixel scale.
    """
    columns = list(_columns(detections))
    header = [
        f"# {number:3d} {column.name:<15} {column.comment:<50}" + (f" [{column.unit}]" if column.unit else "")
        for number, column in enumerate(columns, 1)
    ]
    lines = [line.rstrip() for line in header] + [" ".join(row) for row in _rows(columns)]
    write_text(path, "\n".join(lines) + "\n")


def write_csv(path: Path, detections: Detections) -> None:
    """Write the columns of `write_catalogue` as CSV with a header."""
    columns = list(_columns(detections))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows([cell.strip() for cell in row] for row in _rows(columns))
    write_text(path, buffer.getvalue())


def write_regions(path: Path, detections: Detections, *, sky: bool = False) -> None:
    """Write the boxes as DS9 regions with their scores.

    Parameters
    ----------
    path : Path
    detections : Detections
    sky : bool
        The corners of each box in FK5, for any image of the same field, instead of boxes in the frame's pixels
        (counted from 1). The frame needs a WCS.
    """
    lines = ["# Region file format: DS9 version 4.1", "global color=orange width=1 select=1 move=0 edit=0"]
    lines += ["fk5", *_sky_regions(detections)] if sky else ["image", *_image_regions(detections)]
    write_text(path, "\n".join(lines) + "\n")


def write_picture(path: Path, detections: Detections, catalogue: FrameObjects | None = None) -> None:
    """Draw the frame between its zscale limits with the detections, and the boxes of a catalogue if there is one."""
    frame = detections.noise_units
    truth, ignored = (catalogue.boxes, catalogue.ignored) if catalogue is not None else (None, None)
    draw_frame(path, FramePicture(frame.pixels, frame.zscale, truth, detections.boxes, detections.name, ignored))


def _columns(detections: Detections) -> Iterator[_Column]:
    x, y = detections.centres.T
    yield _Column("NUMBER", "%6d", "Running number, best score first", "", np.arange(1.0, len(detections) + 1))
    yield _Column("X_IMAGE", "%11.4f", "Centre of the box along x", "pixel", x)
    yield _Column("Y_IMAGE", "%11.4f", "Centre of the box along y", "pixel", y)
    for name, edge, values in zip(
        ("XMIN_IMAGE", "YMIN_IMAGE", "XMAX_IMAGE", "YMAX_IMAGE"),
        ("Left", "Lower", "Right", "Upper"),
        detections.limits.T,
        strict=True,
    ):
        yield _Column(name, "%11.4f", f"{edge} edge of the box", "pixel", values)
    sky = detections.sky
    if sky is not None:
        yield _Column("ALPHA_J2000", "%12.7f", "Right ascension of the centre (J2000)", "deg", sky[:, 0])
        yield _Column("DELTA_J2000", "%+12.7f", "Declination of the centre (J2000)", "deg", sky[:, 1])
    yield _Column("FWHM_IMAGE", "%8.3f", "FWHM that the box implies", "pixel", detections.fwhm)
    if np.isfinite(detections.pixel_scale):
        world = detections.fwhm * detections.pixel_scale
        yield _Column("FWHM_WORLD", "%12.7f", "FWHM that the box implies", "deg", world)
    yield _Column("FLAGS", "%3d", "8: cut by the edge of the frame", "", _flags(detections))
    yield _Column("SCORE", "%8.6f", "Score of the detector", "", detections.scores.astype(np.float64))


def _rows(columns: list[_Column]) -> Iterator[list[str]]:
    for values in zip(*(column.values.tolist() for column in columns), strict=True):
        yield [column.form % value for column, value in zip(columns, values, strict=True)]


def _flags(detections: Detections) -> npt.NDArray[np.float64]:
    height, width = detections.shape
    x1, y1, x2, y2 = detections.boxes.T
    cut = (x1 < _EDGE) | (y1 < _EDGE) | (x2 > width - _EDGE) | (y2 > height - _EDGE)
    return np.where(cut, float(_AT_EDGE), 0.0)


def _image_regions(detections: Detections) -> Iterator[str]:
    sides = detections.limits[:, 2:] - detections.limits[:, :2]
    for (x, y), (width, height), score in zip(detections.centres, sides, detections.scores, strict=True):
        yield f"box({x:.3f},{y:.3f},{width:.3f},{height:.3f},0) # text={{{score:.2f}}}"


def _sky_regions(detections: Detections) -> Iterator[str]:
    corners = detections.limits[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    sky = detections.to_sky(corners)
    assert sky is not None, "sky regions need a WCS"
    for corner, score in zip(sky.reshape(-1, 8), detections.scores, strict=True):
        yield f"polygon({','.join(f'{value:.7f}' for value in corner)}) # text={{{score:.2f}}}"
