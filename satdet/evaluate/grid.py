"""Many settings of the last stage of a detector, evaluated with one forward pass.

Non-maximum suppression, the score threshold and the number of detections come after the network, so that its
candidates serve them all, and so does their overlap with the objects.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import nms

from satdet.config import DetectorConfig, leaf
from satdet.data.loading import Batch, Target
from satdet.errors import ConfigError
from satdet.metrics import DetectionMetrics, Overlaps, tile_overlaps

Candidates = Callable[[Tensor, float], list[dict[str, Tensor]]]
"""From images (B, 1, H, W) and a score to all boxes of each tile above it: `Model.candidates`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One setting, by the names and with the meaning of `satdet.config.DetectorConfig`."""

    nms_threshold: float
    score_threshold: float
    max_detections: int


@dataclass(frozen=True)
class Found:
    """The detections of one tile, best first: ``boxes`` (n, 4) [px] and ``scores`` (n,), both float32."""

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


@dataclass
class CellResult:
    """What one cell gave: its metrics, and the detections of every tile in the order of the tiles."""

    cell: Cell
    metrics: DetectionMetrics
    detections: list[Found] = field(default_factory=list)


def grid_cells(
    config: DetectorConfig,
    *,
    nms_thresholds: Sequence[float] = (),
    score_thresholds: Sequence[float] = (),
    detections: Sequence[int] = (),
) -> tuple[Cell, ...]:
    """Every combination of the values given; of what is not given, the configuration's own value.

    Raises
    ------
    ConfigError
        For a value outside the range of its configuration key, or one that is given twice.
    """
    axes: dict[str, Sequence[float]] = {
        "nms_threshold": nms_thresholds or (config.nms_threshold,),
        "score_threshold": score_thresholds or (config.score_threshold,),
        "max_detections": detections or (config.max_detections,),
    }
    for key, values in axes.items():
        if len(set(values)) < len(values):
            raise ConfigError(f"detector.{key} = {', '.join(map(str, values))}: a value is given twice")
        for value in values:
            leaf(f"detector.{key}").check(value, f"detector.{key}")
    return tuple(
        Cell(nms_threshold=threshold, score_threshold=score, max_detections=int(most))
        for threshold, score, most in itertools.product(*axes.values())
    )


def evaluate_grid(candidates: Candidates, batches: Iterable[Batch], cells: Sequence[Cell]) -> list[CellResult]:
    """Evaluate all `cells` in one pass over `batches`.

    The results are, to the bit, those of an evaluation for each cell with its values in the configuration: suppression
    goes from the best candidate down, so that a higher score threshold or fewer detections only cut off its end.

    Parameters
    ----------
    candidates : callable
    batches : iterable of Batch
    cells : sequence of Cell
        At least one.

    Returns
    -------
    list of CellResult
        One a cell, in their order. The detections of all tiles and cells are kept, 20 bytes each.
    """
    lowest = min(cell.score_threshold for cell in cells)
    results = [CellResult(cell, DetectionMetrics(cell.max_detections)) for cell in cells]
    for images, targets in batches:
        shape = images.shape[-2], images.shape[-1]
        for tile, target in zip(candidates(images, lowest), targets, strict=True):
            _add_tile(results, tile, target, shape)
    return results


def _add_tile(results: Sequence[CellResult], tile: dict[str, Tensor], target: Target, shape: tuple[int, int]) -> None:
    suppressed = {
        threshold: nms(tile["boxes"], tile["scores"], threshold)
        for threshold in {result.cell.nms_threshold for result in results}
    }
    used = torch.unique(torch.cat(list(suppressed.values())))
    place = torch.empty(len(tile["boxes"]), dtype=torch.int64, device=used.device)
    place[used] = torch.arange(len(used), device=used.device)
    boxes, scores = tile["boxes"][used].cpu(), tile["scores"][used].cpu()
    overlaps = tile_overlaps(boxes, target)
    for result in results:
        best_first = place[suppressed[result.cell.nms_threshold]].cpu()
        index = _kept(best_first, scores, result.cell).numpy()
        _add_cell(result, Found(boxes.numpy()[index], scores.numpy()[index]), overlaps.take(index), target, shape)


def _kept(best_first: Tensor, scores: Tensor, cell: Cell) -> Tensor:
    above = int((scores[best_first] > cell.score_threshold).sum())
    return best_first[: min(above, cell.max_detections)]


def _add_cell(result: CellResult, found: Found, overlaps: Overlaps, target: Target, shape: tuple[int, int]) -> None:
    result.metrics.add(overlaps, found.scores, target, shape=shape)
    result.detections.append(found)
