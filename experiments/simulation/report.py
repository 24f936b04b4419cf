"""A comparison as text, as a table in Markdown, as plain data and as a plot."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from experiments.simulation.comparison import FRACTIONS, TARGET_RATIO, Comparison, Interval
from experiments.simulation.recordings import Recordings
from experiments.simulation.strategies import REFERENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLOTTED = 100
_JUDGED = ("random_asha", "tpe_asha", "bohb")
_BLUE, _GREY = "#0072B2", "#555555"
_COLUMNS = 4


def rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table."""
    marks = [round(share * comparison.epochs) for share in FRACTIONS]
    heading = ["strategy", "trials", *(f"best after {mark}" for mark in marks)]
    heading += [f"epochs to {comparison.target:.3f} / {comparison.epochs}", "reach it in 1/3"]
    lines = [
        [
            standing.title,
            f"{standing.trials:g}",
            *(_figures(standing.at(mark)) for mark in marks),
            _share(standing.ratio),
            f"{standing.reached:.0%}",
        ]
        for standing in comparison.standings.values()
    ]
    return heading, lines


def verdicts(comparison: Comparison) -> Iterator[str]:
    """For ASHA and BOHB: whether they reach what random search finds in a third of its epochs."""
    trials, target = comparison.settings.trials, f"{comparison.target:.3f}"
    for name in _JUDGED:
        standing = comparison.standings.get(name)
        if standing is not None:
            yield (
                f"{standing.title}: the best of {trials} random trials, {target}, in 1/3 of their epochs?"
                f" {standing.verdict.capitalize()} ({_share(standing.ratio)})."
            )


def method(comparison: Comparison, recordings: Recordings) -> str:
    """What was done, in a paragraph."""
    settings, experiment = comparison.settings, recordings.experiment
    points = recordings.points
    trainings = sum(map(len, points))
    clock = "their recorded time" if settings.clock == "recorded" else "equal time"
    return (
        f"Medians over {settings.seeds} seeds with 95 % bootstrap intervals. Nothing was trained: each trial has the"
        f" curve of the nearest of {len(points)} recorded points ({trainings} trainings of"
        f" {experiment.base.training.epochs} epochs) in the unit cube of the space, so a point can be tried more than"
        f" once. {settings.workers} trials at a time, epochs take {clock}; schedulers end no trial before epoch"
        f" {settings.first_rung}. Strategies without a scheduler run {settings.trials} trials to the end, the others as"
        f" many as {comparison.epochs} epochs allow. The target is the median of the best that random search finds."
    )


def aligned(comparison: Comparison) -> str:
    """The table for a terminal."""
    heading, lines = rows(comparison)
    widths = [max(len(line[column]) for line in (heading, *lines)) for column in range(len(heading))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (heading, *lines))
    return "\n".join("  ".join(line).rstrip() for line in padded) + "\n"


def markdown(comparison: Comparison) -> str:
    """The table as Markdown."""
    heading, lines = rows(comparison)
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (heading, rule, *lines))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Plain data: settings, target, and each strategy's figures and curve."""
    marks = _marks(comparison)
    return {
        "settings": vars(comparison.settings),
        "epochs": comparison.epochs,
        "target": comparison.target,
        "target_ratio": TARGET_RATIO,
        "strategies": {
            name: {
                "title": standing.title,
                "trials": standing.trials,
                "ratio": standing.ratio.to_json(),
                "reached_in_target_ratio": standing.reached,
                "verdict": standing.verdict,
                "curve": {str(mark): [round(value, 4) for value in _values(standing.at(mark))] for mark in marks[::3]},
            }
            for name, standing in comparison.standings.items()
        },
    }


def draw(path: Path, comparison: Comparison, metric: str) -> None:
    """Draw the best value against epochs spent to a PNG file: a panel a strategy, each beside the reference."""
    from matplotlib.figure import Figure

    others = [name for name in comparison.standings if name != REFERENCE] or [REFERENCE]
    columns = min(_COLUMNS, len(others))
    lines = -(-len(others) // columns)
    figure = Figure(figsize=(1 + 2.6 * columns, 0.8 + 2.6 * lines), dpi=100, facecolor="white", layout="constrained")
    panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    for name, axes in zip(others, panels, strict=False):
        _draw_band(axes, comparison, REFERENCE, _GREY, "--")
        _draw_band(axes, comparison, name, _BLUE, "-")
        for line, at in ((axes.axhline, comparison.target), (axes.axvline, comparison.epochs * TARGET_RATIO)):
            line(at, color="black", linewidth=0.8, linestyle=":")
        axes.set_title(comparison.standings[name].title, fontsize=10, color=_BLUE)
        axes.set(xlim=(0, comparison.epochs))
        axes.grid(alpha=0.3)
    for axes in panels[len(others) :]:
        axes.set_axis_off()
    settings = comparison.settings
    figure.suptitle(
        f"Median of {settings.seeds} replayed searches and its 95 % interval, beside random search (dashed)\n"
        f"dotted: the best of {settings.trials} random trials, and 1/3 of their epochs",
        fontsize=10,
    )
    figure.supxlabel("epochs spent, all trials together", fontsize=10)
    figure.supylabel(f"best {metric} so far", fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _draw_band(axes: "Axes", comparison: Comparison, name: str, colour: str, style: Literal["-", "--"]) -> None:
    marks = _marks(comparison)
    middle, low, high = np.array([_values(comparison.standings[name].at(mark)) for mark in marks]).T
    axes.plot(marks, middle, color=colour, linestyle=style, linewidth=1.6)
    axes.fill_between(marks, low, high, color=colour, alpha=0.2, linewidth=0)


def _marks(comparison: Comparison) -> list[int]:
    return sorted({max(1, round(share * comparison.epochs)) for share in np.linspace(0, 1, _PLOTTED)})


def _values(interval: Interval) -> list[float]:
    return [interval.middle, interval.low, interval.high]


def _figures(interval: Interval) -> str:
    return f"{interval.middle:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _share(interval: Interval) -> str:
    low, high = (f"{value:.2f}" if np.isfinite(value) else "never" for value in (interval.low, interval.high))
    middle = f"{interval.middle:.2f}" if np.isfinite(interval.middle) else "never"
    return f"{middle} [{low}, {high}]"
