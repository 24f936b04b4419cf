"""Pictures of a tile store's data, one PNG a subject."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satdet.describe.statistics import DataStatistics, Values, whiskers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE = "#0072B2", "#E69F00"  # of Okabe and Ito 2008
_BINS = 40
_DPI = 110
_MANY_DECADES = 3


def draw_figures(data: DataStatistics, out: Path) -> list[Path]:
    """Draw objects, box areas, magnitudes, sky levels and labels into folder `out`; returns the files."""
    drawings = {
        "objects.png": _objects(data),
        "box_areas.png": _with_and_without_outliers(data.box_areas, "box area [px²]", "objects"),
        "magnitudes.png": _one("magnitude", data.magnitudes, "objects"),
        "sky.png": _sky(data),
        "labels.png": _labels(data.labels),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in drawings.items():
        figure.savefig(out / name, dpi=_DPI)
    return [out / name for name in drawings]


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _objects(data: DataStatistics) -> "Figure":
    figure = _figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    _histogram(left, data.frame_objects, "objects a frame", "frames")
    _histogram(right, data.tile_objects, "objects a tile", "tiles")
    return figure


def _with_and_without_outliers(values: Values, name: str, of: str) -> "Figure":
    """Histograms above box plots: all values on logarithmic axes, and only those within the whiskers."""
    low, high = whiskers(values) if len(values) else (0.0, 0.0)
    inside = values[(values >= low) & (values <= high)]
    figure = _figure(9, 5)
    axes = figure.subplots(2, 2, height_ratios=(3, 1), sharex="col")
    for column, (chosen, title) in enumerate(
        ((values, f"all {len(values)}"), (inside, f"without {len(values) - len(inside)} outliers"))
    ):
        _box_plot(axes[1, column], chosen)
        _histogram(axes[0, column], chosen, "", of, logarithmic=column == 0)
        axes[0, column].set_title(title, fontsize=10)
        if column == 0 and len(chosen):
            axes[0, column].set_yscale("log")
        axes[1, column].set_xlabel(name)
    return figure


def _one(name: str, values: Values, of: str) -> "Figure":
    figure = _figure(9, 3.4)
    _histogram(figure.subplots(), values, f"{name} [mag]", of)
    return figure


def _sky(data: DataStatistics) -> "Figure":
    figure = _figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    _histogram(left, data.sky_levels, "sky level [counts]", "frames", logarithmic=True)
    _histogram(right, data.noise_levels, "sky noise [counts]", "frames", logarithmic=True)
    return figure


def _labels(counts: dict[str, int]) -> "Figure":
    figure = _figure(9, 0.8 + 0.32 * max(1, len(counts)))
    axes = figure.subplots()
    names, numbers = list(counts)[::-1], list(counts.values())[::-1]
    bars = axes.barh(names, numbers, color=_BLUE)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.margins(x=0.1)
    axes.set_xlabel("frames")
    return figure


def _histogram(axes: "Axes", values: Values, name: str, of: str, *, logarithmic: bool = False) -> None:
    logarithmic = logarithmic and len(values) > 0 and bool((values > 0).all())
    axes.hist(values, bins=_edges(values, logarithmic=logarithmic), color=_BLUE)
    if logarithmic:
        _logarithmic(axes, decades=float(np.log10(values.max() / values.min())))
    if len(values):
        axes.axvline(float(values.mean()), color=_ORANGE, label=f"mean {values.mean():.4g}")
        axes.axvline(float(np.median(values)), color=_ORANGE, ls="--", label=f"median {np.median(values):.4g}")
        axes.legend(fontsize=8, frameon=False)
    axes.set(xlabel=name, ylabel=of)


def _logarithmic(axes: "Axes", decades: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades < _MANY_DECADES else (1.0,), numticks=9))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _edges(values: Values, *, logarithmic: bool) -> Sequence[float]:
    if not len(values) or values.min() == values.max():
        middle = float(values[0]) if len(values) else 0.0
        return [middle - 0.5, middle + 0.5]
    space = np.geomspace if logarithmic else np.linspace
    edges: list[float] = space(values.min(), values.max(), min(_BINS, max(5, len(values))) + 1).tolist()
    return edges


def _box_plot(axes: "Axes", values: Values) -> None:
    axes.boxplot(
        values, orientation="horizontal", widths=0.6, patch_artist=True,
        boxprops={"facecolor": _BLUE, "alpha": 0.5}, medianprops={"color": "black"},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _ORANGE},
    )  # fmt: skip
    axes.set_yticks([])
