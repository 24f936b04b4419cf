"""The numbers of an evaluation: as plain values, and as a table."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from satdet.data.loading import TileDataset
from satdet.data.store import TileSplit
from satdet.evaluate.grid import CellResult
from satdet.metrics import Completeness, Curves
from satdet.training.export import Model

_COLUMNS = {
    "nms": "nms_threshold",
    "score >": "score_threshold",
    "most": "max_detections",
    "map_50": "map_50",
    "map": "map",
    "mar": "mar",
    "IoU/object": "best_iou_per_gt",
    "IoU/pred.": "best_iou_per_prediction",
    "F1": "f1",
    "precision": "precision",
    "recall": "recall",
    "at score": "best_score",
    "false/arcmin²": "false_per_arcmin2",
    "mag 50 %": "magnitude_50",
    "pred.-obj.": "predictions_minus_objects",
}
"""Heading and value of each column; mar is that of all detections."""
_MOST_BINS = 30


def summarise(model: Model, split: TileSplit, split_name: str, results: Sequence[CellResult]) -> dict[str, Any]:
    """All numbers of an evaluation, as plain values for JSON."""
    return {
        "checkpoint": str(model.path),
        "trained_on": model.store,
        "tiles": str(split.store.path),
        "digest": split.store.digest,
        "split": split_name,
        "number_of_tiles": len(split),
        "number_of_objects": sum(len(split.boxes(position)) for position in range(len(split))),
        "cells": [_cell(result) for result in results],
    }


def add_reference(summary: dict[str, Any], tiles: TileDataset, results: Sequence[CellResult]) -> None:
    """Put what torchmetrics makes of the same detections beside the metrics of each cell in `summary`."""
    from satdet.metrics.reference import reference_precision

    targets = [tiles[position][1] for position in range(len(tiles))]
    for cell, result in zip(summary["cells"], results, strict=True):
        found = [(tile.boxes, tile.scores, target) for tile, target in zip(result.detections, targets, strict=True)]
        cell["torchmetrics"] = reference_precision(found, result.metrics.limits)


def table(summary: dict[str, Any]) -> Iterator[str]:
    """The metrics of every cell, one a line."""
    yield (
        f"{summary['checkpoint']} on {summary['number_of_tiles']} {summary['split']} tiles with "
        f"{summary['number_of_objects']} objects of {summary['tiles']}"
    )
    rows = [[_cell_text(row, key) for key in _COLUMNS.values()] for row in map(_row, summary["cells"])]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for cells in ([*_COLUMNS], *rows):
        yield "  " + "  ".join(text.rjust(width) for text, width in zip(cells, widths, strict=True))
    differences = [
        abs(value - cell["metrics"][name])
        for cell in summary["cells"]
        for name, value in cell.get("torchmetrics", {}).items()
    ]
    if differences:
        yield f"  by torchmetrics, map, map_50, map_75 and mar differ by {max(differences):.1g} at most"


def histogram(values: npt.NDArray[np.intp]) -> tuple[list[float], list[int]]:
    """Edges and counts of a histogram of whole numbers; the edges lie halfway between these."""
    low, high = int(values.min()), int(values.max())
    width = max(1, -(-(high - low + 1) // _MOST_BINS))
    edges = np.arange(low, high + width + 1, width) - 0.5
    return edges.tolist(), np.histogram(values, edges)[0].tolist()


def _cell(result: CellResult) -> dict[str, Any]:
    curves = result.metrics.curves()
    return {
        **dataclasses.asdict(result.cell),
        "metrics": result.metrics.compute(),
        "completeness": _completeness(curves.completeness),
        "precision_recall": _precision_recall(curves),
        "predictions_minus_objects": {
            name: dict(zip(("edges", "tiles"), histogram(values), strict=True))
            for name, values in (("all", curves.excess), ("at_best_score", curves.best_excess))
        },
    }


def _completeness(curve: Completeness) -> dict[str, list[float]]:
    names = ("edges", "objects", "found", "low", "high")
    return {name: getattr(curve, name).tolist() for name in names}


def _precision_recall(curves: Curves) -> dict[str, list[float]] | None:
    curve = curves.precision_recall
    return {name: getattr(curve, name).tolist() for name in ("recall", "precision", "scores")} if curve else None


def _row(cell: dict[str, Any]) -> dict[str, Any]:
    return {**cell, **cell["metrics"], "mar": cell["metrics"][f"mar_{cell['max_detections']}"]}


def _cell_text(row: dict[str, Any], key: str) -> str:
    value = row[key]
    if isinstance(value, int):
        return str(value)
    places = {"nms_threshold": 2, "score_threshold": 2, "magnitude_50": 2, "predictions_minus_objects": 1}.get(key, 4)
    return f"{value:.{places}f}"
