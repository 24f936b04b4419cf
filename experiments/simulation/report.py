"""A comparison as text, as a table in Markdown, as plain data and as a plot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.simulation.comparison import FRACTIONS, TARGET_RATIO, Comparison, Interval
from experiments.simulation.recordings import Recordings

_PLOTTED = 100
_JUDGED = ("random_asha", "tpe_asha", "bohb")
# Okabe and Ito's colours, told apart in every kind of colour blindness; styles repeat what colours say.
_STYLES = {
    "random": ("#000000", "-"),
    "quasi_random": ("#999999", "-"),
    "tpe": ("#56B4E9", "-"),
    "gp": ("#009E73", "-"),
    "random_median": ("#F0E442", "--"),
    "random_asha": ("#E69F00", "--"),
    "tpe_asha": ("#D55E00", "--"),
    "random_hyperband": ("#CC79A7", ":"),
    "bohb": ("#0072B2", ":"),
}


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
    """Draw the best value against epochs spent, with bands where they can be told apart, to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots()
    marks = _marks(comparison)
    for name, standing in comparison.standings.items():
        colour, style = _STYLES[name]
        middle, low, high = np.array([_values(standing.at(mark)) for mark in marks]).T
        axes.plot(marks, middle, color=colour, linestyle=style, linewidth=1.8, label=standing.title)
        axes.fill_between(marks, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(comparison.target, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
    axes.axvline(comparison.epochs * TARGET_RATIO, color="black", linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set(xlabel="epochs spent, all trials together", ylabel=f"best {metric} so far", xlim=(0, comparison.epochs))
    axes.set_title(
        f"Median of {comparison.settings.seeds} replayed searches and its 95 % interval; dotted: the best of "
        f"{comparison.settings.trials} random trials, and 1/3 of their epochs",
        fontsize=10,
    )
    axes.legend(loc="lower right", fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Software": None})


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
