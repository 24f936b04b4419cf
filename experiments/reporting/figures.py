"""The figures of a report; each is None where a search has nothing for it.

Colours are those of Okabe and Ito 2008, which every kind of colour vision tells apart; where there are more cells than
colours, all but the best are grey.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.compare import Row
from experiments.reporting.evidence import Curve, Evidence
from experiments.reporting.importance import LEAST_TRIALS, importances
from experiments.state import TrialState
from experiments.wording import short_names, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "#B0B0B0"
_WIDTH = 6.3
"""Inches of text between the margins of A4."""
_LINE = 0.28
_RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "satdet",
    "pdf.fonttype": 42,
}
_LOSSES = ("loss", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")


@dataclass(frozen=True)
class Drawing:
    """A figure and what is said of it."""

    name: str
    title: str
    caption: str
    figure: "Figure"


def style() -> "AbstractContextManager[None]":
    """How figures look, and that the same one has the same bytes, while they are drawn and written."""
    import matplotlib as mpl

    return mpl.rc_context(_RC)


def draw_all(evidence: Evidence) -> list[Drawing]:
    """All figures that the search has something for, in the order of a report."""
    with style():
        made = [draw(evidence) for draw in _DRAWN]
    return [drawing for drawing in made if drawing is not None]


def _cells(evidence: Evidence) -> Drawing | None:
    rows = [row for row in evidence.rows if row.mean is not None]
    if not rows:
        return None
    shown = rows[:_MOST_CELLS]
    figure, axes = _new(height=0.9 + _LINE * len(shown))
    for place, row in enumerate(reversed(shown)):
        values = [
            trial.best(evidence.state.metric, evidence.state.mode)[evidence.state.metric]
            for trial in evidence.trials[row.label]
            if trial.epochs and trial.status != "failed"
        ]
        axes.plot(values, [place] * len(values), "o", color=_GREY, markersize=4, zorder=1)
        if row.interval is not None:
            axes.plot([row.interval.low, row.interval.high], [place, place], color=COLOURS[0], linewidth=2, zorder=2)
        axes.plot([row.mean or 0.0], [place], "D", color=COLOURS[1 if row.reference else 0], markersize=5, zorder=3)
    names = [_short(row) for row in reversed(shown)]
    axes.set_yticks(range(len(shown)), names, fontsize=8 if max(map(len, names)) > _LONG else 9)
    paths = list(dict.fromkeys(path for row in shown for path in row.values))
    if len(paths) > 1:
        axes.set_title(", ".join(short_names(paths)), fontsize=8, loc="left", color="#444444")
    axes.set_xlabel(evidence.state.metric)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    more = "" if len(rows) == len(shown) else f" The best {len(shown)} of {len(rows)}."
    known = any(row.interval for row in shown)
    bars = " Bars: 95 % intervals of the mean." if known else " One seed each: no intervals."
    return Drawing(
        "cells",
        "The cells",
        f"Means (diamonds; orange: the one that others are compared with) and single runs (dots).{bars}{more}",
        figure,
    )


def _learning(evidence: Evidence) -> Drawing | None:
    metric = evidence.state.metric
    curves = evidence.curves(metric)
    if not any(len(curve.epochs) > 1 for curve in curves):
        return None
    figure, axes = _new(height=3.2)
    _draw_curves(axes, curves)
    _epochs_below(axes)
    axes.set_ylabel(metric)
    caption = "Means over seeds; bands from lowest to highest. A line ends where the last trial of its cell did."
    return Drawing("learning_curves", "Learning curves", caption, figure)


def _losses(evidence: Evidence) -> Drawing | None:
    found = {name: evidence.curves(name) for name in _LOSSES}
    found = {name: curves for name, curves in found.items() if any(len(curve.epochs) > 1 for curve in curves)}
    if not found:
        return None
    rows = math.ceil(len(found) / 2)
    figure, all_axes = _grid(rows, 2, height=2.1 * rows)
    for axes, (name, curves) in zip(all_axes, found.items(), strict=False):
        _draw_curves(axes, curves, legend=False)
        axes.set_title(name, fontsize=9)
        _epochs_below(axes)
    for axes in all_axes[len(found) :]:
        axes.set_visible(False)
    caption = "Of the training tiles; colours and bands are those of the learning curves."
    return Drawing("losses", "Losses", caption, figure)


def _progress(evidence: Evidence) -> Drawing | None:
    hours, epochs, best = evidence.best_so_far()
    if len(best) < 2:
        return None
    figure, (by_time, by_epochs) = _grid(1, 2, height=2.3)
    unit, name = (60.0, "minutes") if hours[-1] < 2 else (1.0, "hours")
    for axes, along, label in (
        (by_time, [each * unit for each in hours], f"{name} of search"),
        (by_epochs, [float(each) for each in epochs], "epochs of all trials"),
    ):
        axes.step(along, best, where="post", color=COLOURS[0])
        axes.set_xlabel(label)
        axes.set_ylabel(f"best {evidence.state.metric}")
    return Drawing(
        "best_so_far", "Best so far", "Against the wall clock of all sessions, and against the epochs.", figure
    )


def _parallel(evidence: Evidence) -> Drawing | None:
    trials = _scored(evidence)
    paths = _varied(trials)
    if len(paths) < 2 or len(trials) < 3:
        return None
    metric, mode = evidence.state.metric, evidence.state.mode
    results = np.array([trial.best(metric, mode)[metric] for trial in trials])
    axes_of = [_Scale([trial.values.get(path) for trial in trials]) for path in paths]
    axes_of.append(_Scale(list(results)))
    figure, axes = _new(height=3.0)
    colours = _colours_of(results)
    for number in np.argsort(results if mode == "max" else -results):
        points = [(place, scale.at[number]) for place, scale in enumerate(axes_of) if scale.at[number] is not None]
        axes.plot(*zip(*points, strict=True), color=colours(results[number]), linewidth=1.2, alpha=0.85)
    for place, scale in enumerate(axes_of):
        axes.axvline(place, color="black", linewidth=0.6)
        for at, text in scale.ticks:
            axes.text(
                place + 0.03, at, text, fontsize=7, va="center", bbox={"color": "white", "alpha": 0.7, "pad": 0.5}
            )
    axes.set_xticks(range(len(axes_of)), [*short_names(paths), metric], rotation=12)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    caption = "A line a trial, the brighter the better; a line has a gap where a value does not count for its trial."
    return Drawing("parallel", "All trials at a glance", caption, figure)


def _importance(evidence: Evidence) -> Drawing | None:
    found = importances(evidence.state)
    if not found:
        return None
    figure, axes = _new(height=0.8 + _LINE * len(found))
    names = short_names([each.path for each in found])
    for place, each in enumerate(reversed(found)):
        axes.barh(place, each.mean, color=COLOURS[5])
        axes.plot([each.low, each.high], [place, place], color="black", linewidth=1.5)
    axes.set_yticks(range(len(found)), names[::-1])
    axes.set_xlabel(f"share of the variance of {evidence.state.metric}")
    caption = (
        f"fANOVA over {len(_scored(evidence))} trials; lines reach over five forests. It ranks what was tried, where it"
        f" was tried; below some dozens of trials it is a hint (it is left out below {LEAST_TRIALS})."
    )
    return Drawing("importance", "Which hyperparameter mattered", caption, figure)


def _slices(evidence: Evidence) -> Drawing | None:
    trials = _scored(evidence)
    paths = _varied(trials)
    if not paths or len(trials) < 3 or (len(paths) == 1 and len(evidence.rows) <= _MOST_CELLS):
        return None
    metric, mode = evidence.state.metric, evidence.state.mode
    rows = math.ceil(len(paths) / 3)
    figure, all_axes = _grid(rows, 3, height=1.9 * rows)
    for axes, path, name in zip(all_axes, paths, short_names(paths), strict=False):
        having = [trial for trial in trials if path in trial.values]
        scale = _Scale([trial.values[path] for trial in having])
        results = [trial.best(metric, mode)[metric] for trial in having]
        axes.plot([at or 0.0 for at in scale.at], results, "o", color=COLOURS[0], markersize=4, alpha=0.7)
        axes.set_xticks([at for at, _ in scale.ticks], [text for _, text in scale.ticks], fontsize=7, rotation=20)
        axes.set_xlim(-0.08, 1.08)
        axes.set_title(name, fontsize=9)
    for axes in all_axes[len(paths) :]:
        axes.set_visible(False)
    all_axes[0].set_ylabel(metric)
    return Drawing("slices", "Slices", f"Best {metric} of each trial against each searched value.", figure)


def _rungs(evidence: Evidence) -> Drawing | None:
    judged = [
        (epoch, decision, trial)
        for trial in evidence.state.trials.values()
        for epoch, decision in trial.decisions
        if "rank" in decision and decision.get("compared", 0) > 0
    ]
    metric = evidence.state.metric
    points: dict[bool, list[tuple[int, float]]] = {True: [], False: []}
    for epoch, decision, trial in judged:
        value = next((metrics[metric] for at, _, metrics in trial.results if at == epoch), None)
        if value is not None:
            points[decision["action"] != "stop"].append((epoch, value))
    if not points[False]:
        return None
    figure, axes = _new(height=2.8)
    for goes_on, marker, colour, label in ((True, "^", COLOURS[0], "goes on"), (False, "v", COLOURS[1], "stopped")):
        if points[goes_on]:
            axes.plot(*zip(*points[goes_on], strict=True), marker, color=colour, label=label, markersize=6, alpha=0.8)
    _epochs_below(axes)
    axes.set_ylabel(metric)
    axes.legend(frameon=False, fontsize=8)
    scheduler = evidence.declaration["scheduler"]["kind"]
    return Drawing("rungs", f"Decisions of {scheduler}", "Each trial where it was compared with the others.", figure)


def _time(evidence: Evidence) -> Drawing | None:
    spent = evidence.spending()
    parts = {
        "training": spent.training,
        "evaluation": spent.evaluation,
        "starting trials": spent.starting,
        "else in trials": spent.other,
        "no trial": spent.waiting,
    }
    whole = sum(parts.values())
    if not whole:
        return None
    figure, axes = _new(height=1.1)
    left = 0.0
    for (name, seconds), colour in zip(parts.items(), (*COLOURS[:4], _GREY), strict=True):
        if seconds:
            axes.barh(0, seconds / whole, left=left, color=colour, label=f"{name} {seconds / whole:.0%}")
            left += seconds / whole
    axes.set_xlim(0, 1)
    axes.set_axis_off()
    figure.legend(ncols=5, frameon=False, fontsize=8, loc="outside lower center", columnspacing=1.0)
    caption = (
        f"{whole / 3600:.2g} hours of {max(1, evidence.state.concurrency)} trials at a time, all sessions;"
        " “no trial” is the starting of Ray, the data, and places that were empty."
    )
    return Drawing("time", "Where the time went", caption, figure)


def _cost(evidence: Evidence) -> Drawing | None:
    rows = [row for row in evidence.rows if row.mean is not None]
    if len(rows) < 2:
        return None
    on_gpus = any(row.gpu_hours for row in rows)
    figure, axes = _new(height=2.8)
    for number, row in enumerate(rows):
        cost = (row.gpu_hours if on_gpus else row.seconds / 60) / row.seeds
        few = len(rows) <= len(COLOURS)
        axes.plot([cost], [row.mean or 0.0], "o", color=COLOURS[number if few else 0], label=row.label if few else None)
    if len(rows) <= len(COLOURS):
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel(f"{'GPU hours' if on_gpus else 'minutes'} a trial")
    axes.set_ylabel(evidence.state.metric)
    return Drawing("cost", "What it cost", "Mean of each cell against the time that a trial of it took.", figure)


_MOST_CELLS = 20
_MOST_CURVES = 100
"""Those of the best cells; more would be a grey area, and a large file."""
_LONG = 24
"""Characters of a label."""
_DRAWN: tuple[Callable[[Evidence], Drawing | None], ...] = (
    _cells, _learning, _losses, _progress, _parallel, _importance, _slices, _rungs, _time, _cost,
)  # fmt: skip


def _short(row: Row) -> str:
    """A cell's values alone, numbers with three digits."""
    values = [f"{value:.3g}" if isinstance(value, float) else value_text(value) for value in row.values.values()]
    return ", ".join(values) or "base"


def _epochs_below(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


class _Scale:
    """Values on a line from 0 to 1: many numbers by size, by their logarithm over decades; else in their order."""

    def __init__(self, values: Sequence[Any]) -> None:
        known = [value for value in values if value is not None]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
        distinct = sorted(set(known)) if numbers else sorted({value_text(value) for value in known})
        if not numbers or len(distinct) <= _FEW:
            texts = [value_text(value) for value in distinct]
            place = {text: (number + 0.5) / len(texts) for number, text in enumerate(texts)}
            self.at = [None if value is None else place[value_text(value)] for value in values]
            self.ticks = [(at, text) for text, at in place.items()]
            return
        low, high = float(distinct[0]), float(distinct[-1])
        logarithmic = low > 0 and math.log10(high / low) > 1
        position = _logarithmic(low, high) if logarithmic else _linear(low, high)
        self.at = [None if value is None else position(float(value)) for value in values]
        middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
        self.ticks = [(position(value), f"{value:.2g}") for value in (low, middle, high)]


_FEW = 6


def _linear(low: float, high: float) -> Callable[[float], float]:
    return lambda value: (value - low) / (high - low)


def _logarithmic(low: float, high: float) -> Callable[[float], float]:
    return lambda value: math.log(value / low) / math.log(high / low)


def _scored(evidence: Evidence) -> list[TrialState]:
    return [trial for trial in evidence.state.trials.values() if trial.epochs and trial.status != "failed"]


def _varied(trials: Sequence[TrialState]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for trial in trials:
        for path, value in trial.values.items():
            seen.setdefault(path, set()).add(value_text(value))
    return [path for path, values in seen.items() if len(values) > 1]


def _colours_of(results: "np.ndarray[Any, Any]") -> Callable[[float], Any]:
    import matplotlib as mpl

    low, high = float(results.min()), float(results.max())
    colours = mpl.colormaps["viridis"]
    return lambda value: colours(0.5 if high == low else 0.95 * (value - low) / (high - low))


def _draw_curves(axes: "Axes", curves: Sequence[Curve], *, legend: bool = True) -> None:
    coloured = len(curves) <= len(COLOURS)
    for number, curve in reversed(list(enumerate(curves[:_MOST_CURVES]))):
        colour = COLOURS[number] if coloured or number == 0 else _GREY
        named = coloured or number == 0
        axes.plot(
            curve.epochs,
            curve.mean,
            color=colour,
            linewidth=1.4 if named else 0.7,
            label=curve.label if named else None,
            marker="." if len(curve.epochs) < _FEW else None,
        )
        if coloured and curve.low != curve.high:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    if legend:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], frameon=False, fontsize=8 if max(map(len, labels)) <= _LONG else 6)


def _new(*, height: float) -> "tuple[Figure, Axes]":
    figure, axes = _grid(1, 1, height=height)
    return figure, axes[0]


def _grid(rows: int, columns: int, *, height: float) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)
