"""The pictures of an evaluation in a folder.

completeness.png, precision_recall.png, predictions_minus_objects.png
nms-0.30.png …                the same tiles at some of the NMS thresholds
missed.png, merged.png, false.png   the worst failures
"""

from collections.abc import Sequence
from pathlib import Path

from satdet.data.store import TileSplit
from satdet.evaluate.failures import failure_pictures, find_failures
from satdet.evaluate.figures import draw_completeness, draw_excess, draw_precision_recall
from satdet.evaluate.grid import CellResult, Found
from satdet.pictures import TilePicture, draw_detections
from satdet.training.evaluation import SHOWN_SCORE, spread_positions, tile_picture

TILES_DRAWN = 4


def write_figures(folder: Path, results: Sequence[CellResult]) -> None:
    """Draw the figures: precision and recall of all cells, the others of the cell with the highest map_50."""
    best = best_cell(results)
    draw_excess(folder / "predictions_minus_objects.png", best)
    if len(best.metrics.curves().completeness.objects):
        draw_completeness(folder / "completeness.png", best)
    if best.metrics.curves().precision_recall is not None:
        draw_precision_recall(folder / "precision_recall.png", results)


def write_pictures(
    folder: Path, split: TileSplit, results: Sequence[CellResult], *, thresholds: Sequence[float], failures: int
) -> None:
    """Draw tiles at some NMS thresholds, and the worst failures of each kind of the cell with the highest map_50."""
    for threshold in thresholds:
        result = next(each for each in results if each.cell.nms_threshold == threshold)
        draw_cell(folder / f"nms-{threshold:.2f}.png", split, result)
    if failures:
        best = best_cell(results)
        score = best.metrics.compute()["best_score"]
        for kind, worst in find_failures(split, best.detections, score_threshold=score, count=failures).items():
            path = folder / f"{kind}.png"
            path.unlink(missing_ok=True)
            if worst:
                draw_detections(path, failure_pictures(split, best.detections, worst, score_threshold=score))


def draw_cell(path: Path, split: TileSplit, result: CellResult) -> None:
    """Draw what a cell found in a few tiles, the same ones for every cell."""
    draw_detections(path, _tile_pictures(split, result.detections))


def best_cell(results: Sequence[CellResult]) -> CellResult:
    """The cell with the highest map_50, of equal ones the first."""
    return max(results, key=lambda result: result.metrics.compute()["map_50"])


def _tile_pictures(split: TileSplit, detections: Sequence[Found]) -> list[TilePicture]:
    """The same tiles at every threshold."""
    pictures = []
    for position in spread_positions(split, TILES_DRAWN):
        found = detections[position]
        shown = found.scores >= SHOWN_SCORE
        pictures.append(tile_picture(split, position, found.boxes[shown], found.scores[shown]))
    return pictures
