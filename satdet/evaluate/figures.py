"""Figures of an evaluation: completeness, precision against recall, predictions minus objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from satdet.evaluate.grid import Cell, CellResult
from satdet.evaluate.results import histogram
from satdet.metrics import Curves
from satdet.pictures import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#BBBBBB"
"""Of Okabe and Ito 2008, which every kind of colour vision tells apart."""
_SIZE = (8.0, 5.0)
_DPI = 100


def draw_completeness(path: Path, result: CellResult) -> None:
    """Draw the share of objects found against magnitude with its 95 % intervals, and the number of objects below.

    Parameters
    ----------
    path : Path
        The PNG file to write.
    result : CellResult
        With at least one object of known magnitude.
    """
    curve, values = result.metrics.curves().completeness, result.metrics.compute()
    figure = _new_figure()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centres, filled = (curve.edges[:-1] + curve.edges[1:]) / 2, curve.objects > 0
    share = curve.share[filled]
    spread = np.stack([share - curve.low[filled], curve.high[filled] - share]).clip(min=0)
    upper.errorbar(centres[filled], 100 * share, 100 * spread, marker="o", capsize=3, color=_BLUE)
    upper.axhline(50, color=_GREY, linewidth=1)
    upper.axvline(values["magnitude_50"], color=_ORANGE, linestyle="--")
    upper.set(ylabel="objects found [%]", ylim=(-3, 103))
    upper.set_title(
        f"Completeness at score {values['best_score']:.2f} and IoU 0.50: "
        f"50 % at magnitude {values['magnitude_50']:.2f} (dashed)",
        fontsize=11,
    )
    lower.bar(centres, curve.objects, width=0.9 * np.diff(curve.edges), color=_GREY)
    lower.set(xlabel="magnitude", ylabel="objects")
    save_figure(path, figure)


def draw_precision_recall(path: Path, results: Sequence[CellResult]) -> None:
    """Draw precision against recall at IoU 0.50, one line a cell, and a dot at its best score.

    Parameters
    ----------
    path : Path
        The PNG file to write.
    results : sequence of CellResult
        With at least one object.
    """
    import matplotlib

    figure = _new_figure()
    axes = figure.subplots()
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.9, len(results)))
    for result, colour in zip(results, colours, strict=True):
        curve, values = result.metrics.curves().precision_recall, result.metrics.compute()
        assert curve is not None
        reached = curve.precision > 0
        label = f"{_name(result.cell, results)}: AP {values['map_50']:.3f}, F1 {values['f1']:.3f}"
        axes.plot(curve.recall[reached], curve.precision[reached], color=colour, label=label)
        axes.plot(values["recall"], values["precision"], "o", color=colour)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    axes.set_title("Precision and recall at IoU 0.50; dots at the score with the best F1", fontsize=11)
    axes.legend(loc="lower left", fontsize=8, title="NMS threshold")
    axes.grid(alpha=0.3)
    save_figure(path, figure)


def draw_excess(path: Path, result: CellResult) -> None:
    """Draw histograms of predictions minus objects of each tile, of all predictions and of those at the best score."""
    curves: Curves = result.metrics.curves()
    score = result.metrics.compute()["best_score"]
    figure = _new_figure()
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_histogram(left, curves.excess, f"all predictions (score > {result.cell.score_threshold:g})")
    _draw_histogram(right, curves.best_excess, f"predictions of the best score (≥ {score:.2f})")
    left.set_ylabel("tiles")
    figure.suptitle(f"Predictions minus objects of {len(curves.excess)} tiles", fontsize=11)
    save_figure(path, figure)


def _draw_histogram(axes: "Axes", values: npt.NDArray[np.intp], title: str) -> None:
    edges, counts = histogram(values)
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=_BLUE, edgecolor="white", linewidth=0.5)
    axes.axvline(0, color="black", linewidth=1)
    axes.axvline(float(values.mean()), color=_ORANGE, linestyle="--")
    axes.set(xlabel="predictions - objects of a tile")
    axes.set_title(f"{title}\nmean {values.mean():.2f} (dashed), standard deviation {values.std():.2f}", fontsize=10)


def _name(cell: Cell, results: Sequence[CellResult]) -> str:
    """What tells a cell from the others."""
    text = f"{cell.nms_threshold:g}"
    if len({result.cell.score_threshold for result in results}) > 1:
        text += f", score > {cell.score_threshold:g}"
    if len({result.cell.max_detections for result in results}) > 1:
        text += f", {cell.max_detections} detections"
    return text


def _new_figure() -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
