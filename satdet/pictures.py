"""Pictures of detections: tiles and whole frames with the true boxes and the detected ones."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH_COLOUR = "#56B4E9"
DETECTION_COLOUR = "#E69F00"
IGNORED_COLOUR = "#CC79A7"
FOCUS_COLOUR = "#FFFFFF"
"""Sky blue, orange and purple of Okabe and Ito 2008, which every kind of colour vision tells apart, on grey and black.
"""
_LineStyle = Literal["-", "--", ":"]
_Entry = tuple[str, str, float, _LineStyle]
_COLUMNS = 4
_WIDTH_INCHES = 12.0
_DPI = 100
_MARGIN_INCHES, _LINE_INCHES = 0.45, 0.16
_STRETCH_SIGMA = (-1.5, 8.0)
_TRUTH_POINTS, _DETECTION_POINTS, _IGNORED_POINTS = 2.6, 1.2, 1.6
_SCORES_SHOWN = 25
_FOCUS_GAP = 1.5  # px between the box that a picture is about and the line around it
_IGNORED_STYLE: _LineStyle = ":"
_SMALLEST_FRAME, _LARGEST_FRAME = 900, 2400
"""Longest side of a drawn frame [px of the picture]."""
_NARROWEST, _STRIP, _TEXT_WIDTH, _LEGEND_POINTS = 400, 40, 1100, 9
"""Width that title and legend need, and height of each [px]; they grow with pictures wider than the third."""
_COLOURS = 64  # of the file's palette: noise of all greys would take megabytes


@dataclass(frozen=True)
class TilePicture:
    """One tile to draw.

    Attributes
    ----------
    image : ndarray
        (H, W) pixels in noise units.
    truth : ndarray
        (n, 4) true boxes x1, y1, x2, y2 [px, edge coordinates].
    detections : ndarray
        (m, 4) detected boxes.
    scores : ndarray
        (m,) their scores.
    title : str
        Written above the tile.
    ignored : ndarray, optional
        (k, 4) regions that are neither object nor background.
    focus : ndarray, optional
        (4,) the box that the picture is about.
    """

    image: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    detections: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    title: str
    ignored: npt.NDArray[Any] | None = None
    focus: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class FramePicture:
    """One whole frame to draw.

    Attributes
    ----------
    image : ndarray
        (H, W) pixels.
    limits : (float, float)
        Pixel values that are black and white.
    truth : ndarray or None
        (n, 4) boxes of the catalogue; None for a frame without one.
    detections : ndarray
        (m, 4) detected boxes.
    title : str
        Written above the frame.
    ignored : ndarray, optional
        (k, 4) boxes of catalogue rows that are neither object nor background.
    """

    image: npt.NDArray[Any]
    limits: tuple[float, float]
    truth: npt.NDArray[Any] | None
    detections: npt.NDArray[Any]
    title: str
    ignored: npt.NDArray[Any] | None = None


def draw_detections(path: Path, tiles: Sequence[TilePicture]) -> None:
    """Draw tiles into a PNG file of 1200 px width: a grid of up to four columns, row 0 of each tile at the bottom.

    True boxes are thick and blue, detections on them thin and orange with their score, which is left out in a tile
    of more than 25 detections, where they could not be read. Grey is linear between -1.5 and 8 sigma.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.
    tiles : sequence of TilePicture
        At least one.
    """
    assert tiles, "nothing to draw"
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    figure = _figure(columns, rows, title_lines=max(tile.title.count("\n") + 1 for tile in tiles))
    for position, tile in enumerate(tiles):
        _draw_tile(figure.add_subplot(rows, columns, position + 1), tile)
    _add_legend(figure, ignored=any(tile.ignored is not None and len(tile.ignored) for tile in tiles))
    save_figure(path, figure)


def draw_frame(path: Path, picture: FramePicture) -> None:
    """Draw a frame into a PNG file, one pixel of it on one of the picture, or on as many or few as make it readable.

    The boxes of the catalogue are thick and blue, detections on them thin and orange, ignored rows dotted. Row 0 of
    the frame is at the bottom.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.
    picture : FramePicture
    """
    from matplotlib.figure import Figure

    height, width = picture.image.shape
    zoom = min(max(1, math.ceil(_SMALLEST_FRAME / max(height, width))), _LARGEST_FRAME / max(height, width))
    across, up = max(_NARROWEST, width * zoom), height * zoom
    larger = max(1.0, across / _TEXT_WIDTH)
    strip = round(_STRIP * larger)
    total = up + 2 * strip
    figure = Figure(figsize=(across / _DPI, total / _DPI), dpi=_DPI, facecolor="white")
    share = width * zoom / across
    axes = figure.add_axes(((1 - share) / 2, strip / total, share, up / total))
    low, high = picture.limits
    grey = np.clip((np.nan_to_num(picture.image.astype(np.float32), nan=low) - low) / ((high - low) or 1.0), 0, 1)
    _show(axes, grey)
    layers = list(_frame_layers(picture, fine=zoom < 2))
    for boxes, (_, colour, points, style) in layers:
        _draw_boxes(axes, boxes, colour, points, style=style)
    figure.text(0.5, 1 - strip / total / 2, picture.title, ha="center", va="center", fontsize=11 * larger)
    _legend(figure, [entry for _, entry in layers], fontsize=_LEGEND_POINTS * larger)
    save_figure(path, figure)


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a figure into a PNG file of few colours; its folder is made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, pil_kwargs={"compress_level": 0})
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def _figure(columns: int, rows: int, *, title_lines: int) -> "Figure":
    from matplotlib.figure import Figure

    width = _WIDTH_INCHES if columns > 1 else _WIDTH_INCHES / 2
    side, title = width / columns, 0.06 + _LINE_INCHES * title_lines
    height = rows * (side + title) + _MARGIN_INCHES
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        bottom=_MARGIN_INCHES / height,
        top=1 - (title + 0.02) / height,
        wspace=0.03,
        hspace=title / side,
    )
    return figure


def _draw_tile(axes: "Axes", tile: TilePicture) -> None:
    _show(axes, _stretch(tile.image))
    if tile.ignored is not None:
        _draw_boxes(axes, tile.ignored, IGNORED_COLOUR, _IGNORED_POINTS, style=_IGNORED_STYLE)
    _draw_boxes(axes, tile.truth, TRUTH_COLOUR, _TRUTH_POINTS)
    _draw_boxes(axes, tile.detections, DETECTION_COLOUR, _DETECTION_POINTS)
    if tile.focus is not None:
        around = np.array([-_FOCUS_GAP, -_FOCUS_GAP, _FOCUS_GAP, _FOCUS_GAP])
        _draw_boxes(axes, tile.focus + around, FOCUS_COLOUR, _DETECTION_POINTS, style="--")
    if len(tile.detections) <= _SCORES_SHOWN:
        _draw_scores(axes, tile)
    axes.set_title(tile.title, fontsize=9, pad=3)


def _show(axes: "Axes", grey: npt.NDArray[np.float32]) -> None:
    """Show grey values between 0 and 1 in edge coordinates: the first pixel covers 0 … 1."""
    height, width = grey.shape
    extent = (0, width, 0, height)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, origin="lower", extent=extent, interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[])


def _stretch(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Grey between 0 (black) and 1; a pixel that is not a number is black."""
    low, high = _STRETCH_SIGMA
    grey: npt.NDArray[np.float32] = np.clip(np.nan_to_num(image.astype(np.float32), nan=low), low, high)
    return (grey - low) / (high - low)


def _draw_boxes(axes: "Axes", boxes: npt.NDArray[Any], colour: str, points: float, *, style: _LineStyle = "-") -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    patches = [
        Rectangle((x1, y1), x2 - x1, y2 - y1) for x1, y1, x2, y2 in np.asarray(boxes, dtype=float).reshape(-1, 4)
    ]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=colour, linewidth=points, linestyle=style))


def _draw_scores(axes: "Axes", tile: TilePicture) -> None:
    for box, score in zip(tile.detections, tile.scores, strict=True):
        axes.text(
            float(box[0]), float(box[3]), f"{float(score):.2f}", color=DETECTION_COLOUR, fontsize=7,
            va="bottom", clip_on=True,
        )  # fmt: skip


def _add_legend(figure: "Figure", *, ignored: bool) -> None:
    entries: list[_Entry] = [("catalogue", TRUTH_COLOUR, _TRUTH_POINTS, "-")]
    entries += [("ignored region", IGNORED_COLOUR, _IGNORED_POINTS, _IGNORED_STYLE)] if ignored else []
    _legend(figure, [*entries, ("detected, with score", DETECTION_COLOUR, _DETECTION_POINTS, "-")])


def _frame_layers(picture: FramePicture, *, fine: bool) -> Iterator[tuple[npt.NDArray[Any], _Entry]]:
    """The boxes to draw one upon the other; with fine lines where an object has few pixels of the picture."""
    thinner = 0.6 if fine else 1.0
    if picture.ignored is not None and len(picture.ignored):
        label = f"{len(picture.ignored)} ignored"
        yield picture.ignored, (label, IGNORED_COLOUR, _IGNORED_POINTS, _IGNORED_STYLE)
    if picture.truth is not None:
        label = f"{len(picture.truth)} in the catalogue"
        yield picture.truth, (label, TRUTH_COLOUR, _TRUTH_POINTS * thinner, "-")
    label = f"{len(picture.detections)} detected"
    yield picture.detections, (label, DETECTION_COLOUR, _DETECTION_POINTS * thinner, "-")


def _legend(figure: "Figure", entries: Sequence[_Entry], *, fontsize: float = _LEGEND_POINTS) -> None:
    """Text, colour, line width and style of each kind of box, on one line at the bottom."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="none", edgecolor=colour, linewidth=points, linestyle=style, label=label)
        for label, colour, points, style in entries
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=fontsize, frameon=False)
