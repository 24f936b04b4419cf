"""Pictures of detections: tiles with the true boxes and the detected ones."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH_COLOUR = "#56B4E9"
DETECTION_COLOUR = "#E69F00"
"""Sky blue and orange of Okabe and Ito 2008, which every kind of colour vision tells apart, on grey and on black."""
_COLUMNS = 4
_WIDTH_INCHES = 12.0
_DPI = 100
_MARGIN_INCHES = 0.45
_STRETCH_SIGMA = (-1.5, 8.0)
_TRUTH_POINTS, _DETECTION_POINTS = 2.6, 1.2
_SCORES_SHOWN = 25
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
    """

    image: npt.NDArray[Any]
    truth: npt.NDArray[Any]
    detections: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    title: str


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    assert tiles, "nothing to draw"
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    figure = _figure(columns, rows)
    for position, tile in enumerate(tiles):
        _draw_tile(figure.add_subplot(rows, columns, position + 1), tile)
    _add_legend(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, pil_kwargs={"compress_level": 0})
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def _figure(columns: int, rows: int) -> "Figure":
    from matplotlib.figure import Figure

    width = _WIDTH_INCHES if columns > 1 else _WIDTH_INCHES / 2
    height = rows * (width / columns + 0.2) + _MARGIN_INCHES
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    bottom = _MARGIN_INCHES / height
    figure.subplots_adjust(left=0.01, right=0.99, bottom=bottom, top=1 - 0.3 / height, wspace=0.03, hspace=0.09)
    return figure


def _draw_tile(axes: "Axes", tile: TilePicture) -> None:
    height, width = tile.image.shape
    extent = (0, width, 0, height)  # edge coordinates: the first pixel covers 0 … 1
    axes.imshow(
        _stretch(tile.image), cmap="gray", vmin=0, vmax=1, origin="lower", extent=extent, interpolation="nearest"
    )
    _draw_boxes(axes, tile.truth, TRUTH_COLOUR, _TRUTH_POINTS)
    _draw_boxes(axes, tile.detections, DETECTION_COLOUR, _DETECTION_POINTS)
    if len(tile.detections) <= _SCORES_SHOWN:
        _draw_scores(axes, tile)
    axes.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[])
    axes.set_title(tile.title, fontsize=9, pad=3)


def _stretch(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Grey between 0 (black) and 1; a pixel that is not a number is black."""
    low, high = _STRETCH_SIGMA
    grey: npt.NDArray[np.float32] = np.clip(np.nan_to_num(image.astype(np.float32), nan=low), low, high)
    return (grey - low) / (high - low)


def _draw_boxes(axes: "Axes", boxes: npt.NDArray[Any], colour: str, points: float) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    patches = [
        Rectangle((x1, y1), x2 - x1, y2 - y1) for x1, y1, x2, y2 in np.asarray(boxes, dtype=float).reshape(-1, 4)
    ]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=colour, linewidth=points))


def _draw_scores(axes: "Axes", tile: TilePicture) -> None:
    for box, score in zip(tile.detections, tile.scores, strict=True):
        axes.text(
            float(box[0]), float(box[3]), f"{float(score):.2f}", color=DETECTION_COLOUR, fontsize=7,
            va="bottom", clip_on=True,
        )  # fmt: skip


def _add_legend(figure: "Figure") -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="none", edgecolor=TRUTH_COLOUR, linewidth=_TRUTH_POINTS, label="catalogue"),
        Patch(facecolor="none", edgecolor=DETECTION_COLOUR, linewidth=_DETECTION_POINTS, label="detected, with score"),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, fontsize=9, frameon=False)
