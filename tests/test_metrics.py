"""The metrics against hand-computed cases and an independent implementation of COCO's definitions; the pictures."""

import io
import logging
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from satdet.metrics import DetectionMetrics
from satdet.pictures import DETECTION_COLOUR, TRUTH_COLOUR, TilePicture, draw_detections

Tiles = tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]


def _boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _prediction(boxes: Tensor, scores: list[float] | Tensor) -> dict[str, Tensor]:
    return {
        "boxes": boxes,
        "scores": torch.as_tensor(scores, dtype=torch.float32),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
    }


def _target(boxes: Tensor, ignored: Tensor | None = None) -> dict[str, Tensor]:
    labels = torch.ones(len(boxes), dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "ignored": _boxes() if ignored is None else ignored}


def _measure(
    predictions: list[dict[str, Tensor]], targets: list[dict[str, Tensor]], limit: int = 300
) -> dict[str, float]:
    metrics = DetectionMetrics(limit)
    metrics.update(predictions, targets)
    return metrics.compute()


def _random_tiles(seed: int, count: int, objects: int = 12) -> Tiles:
    """Tiles with objects, some found well, some badly, some not, and false detections."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(count):
        corner = rng.uniform(0, 110, (rng.integers(0, objects + 1), 2))
        truth = np.hstack([corner, corner + rng.uniform(8, 18, (len(corner), 1))])
        found = truth[rng.random(len(truth)) < 0.8]
        found = found + rng.normal(0, 1.2, found.shape)
        false = rng.uniform(0, 110, (rng.integers(0, 5), 2))
        found = np.vstack([found, np.hstack([false, false + 12])])
        predictions.append(_prediction(torch.tensor(found, dtype=torch.float32), torch.tensor(rng.random(len(found)))))
        targets.append(_target(torch.tensor(truth, dtype=torch.float32)))
    return predictions, targets


def _iou(box: np.ndarray, other: np.ndarray) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    overlap = max(0.0, width) * max(0.0, height)
    areas = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return float(overlap / (areas - overlap))


def _matches(
    prediction: dict[str, Tensor], target: dict[str, Tensor], threshold: float, limit: int
) -> list[tuple[float, bool]]:
    """(score, right?) of the `limit` best predictions: each takes the free object of the highest IoU >= threshold."""
    free = list(target["boxes"].double().numpy())
    outcome = []
    for index in np.argsort(-prediction["scores"].numpy(), kind="stable")[:limit]:
        ious = [_iou(prediction["boxes"][index].double().numpy(), box) for box in free]
        right = bool(ious) and max(ious) >= threshold
        if right:
            free.pop(int(np.argmax(ious)))
        outcome.append((float(prediction["scores"][index]), right))
    return outcome


def _reference(tiles: Tiles, threshold: float, limit: int) -> tuple[float, float]:
    """Average precision (101 recall points, precision made monotonous) and recall at one IoU threshold."""
    outcome = [pair for tile in zip(*tiles, strict=True) for pair in _matches(*tile, threshold, limit)]
    right = np.array([hit for _, hit in sorted(outcome, key=lambda pair: -pair[0])], dtype=float)
    objects = sum(len(target["boxes"]) for target in tiles[1])
    recall = right.cumsum() / objects
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    points = [precision[recall >= k / 100].max(initial=0.0) for k in range(101)]
    return float(np.mean(points)), float(recall[-1])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_values_equal_an_independent_implementation(seed: int) -> None:
    tiles = _random_tiles(seed, 12)
    values = _measure(*tiles, limit=9)
    at = {k: [_reference(tiles, k / 100, limit) for limit in (3, 6, 9)] for k in range(50, 100, 5)}
    assert values["map"] == pytest.approx(np.mean([rows[2][0] for rows in at.values()]), abs=1e-5)
    assert values["map_50"] == pytest.approx(at[50][2][0], abs=1e-5)
    assert values["map_75"] == pytest.approx(at[75][2][0], abs=1e-5)
    for position, limit in enumerate((3, 6, 9)):
        assert values[f"mar_{limit}"] == pytest.approx(np.mean([rows[position][1] for rows in at.values()]), abs=1e-5)
    assert 0 < values["mar_3"] < values["mar_6"] < values["mar_9"] < 1


def test_best_iou_by_hand() -> None:
    truth = _boxes((0, 0, 10, 10), (20, 20, 30, 30))
    found = _boxes((0, 0, 10, 5), (0, 0, 10, 8), (50, 50, 60, 60))
    values = _measure([_prediction(found, [0.9, 0.8, 0.7])], [_target(truth)])
    assert values["best_iou_per_gt"] == pytest.approx((0.8 + 0.0) / 2)
    assert values["best_iou_per_prediction"] == pytest.approx((0.5 + 0.8 + 0.0) / 3)
    assert values["predictions_minus_objects"] == 1.0
    # At 0.50 the best-scored prediction (IoU 0.5) takes the object: recall 1/2 from the first on, precision 1 there.
    assert values["map_50"] == pytest.approx(51 / 101, abs=1e-6)


def test_perfect_detections_give_one() -> None:
    truth = _boxes((0, 0, 10, 10), (20, 20, 30, 30))
    values = _measure([_prediction(truth, [0.9, 0.8])], [_target(truth)])
    for name in (
        "map",
        "map_50",
        "map_75",
        "mar_100",
        "mar_200",
        "mar_300",
        "best_iou_per_gt",
        "best_iou_per_prediction",
    ):
        assert values[name] == pytest.approx(1.0), name


def test_names_follow_the_limit() -> None:
    values = _measure(*_random_tiles(0, 2), limit=1000)
    assert set(values) == {
        "map", "map_50", "map_75", "mar_333", "mar_667", "mar_1000",
        "best_iou_per_gt", "best_iou_per_prediction", "predictions_minus_objects",
    }  # fmt: skip


def test_more_detections_than_coco_s_hundred_count() -> None:
    side = torch.arange(15.0) * 20
    corners = torch.cartesian_prod(side, side)[:200]
    boxes = torch.cat([corners, corners + 10], dim=1)
    values = _measure([_prediction(boxes, torch.linspace(1, 0.5, 200))], [_target(boxes)], limit=300)
    assert values["map"] == pytest.approx(1.0)
    assert (values["mar_100"], values["mar_200"]) == pytest.approx((0.5, 1.0))


EMPTY = _boxes()
BOX = _boxes((0, 0, 10, 10))


@pytest.mark.parametrize(
    ("tiles", "expected"),
    [
        ([], {"map": 0.0, "predictions_minus_objects": 0.0}),
        ([(EMPTY, EMPTY)], {"map": 0.0, "best_iou_per_gt": 0.0, "predictions_minus_objects": 0.0}),
        ([(EMPTY, BOX)], {"map_50": 0.0, "best_iou_per_gt": 0.0, "predictions_minus_objects": -1.0}),
        ([(BOX, EMPTY)], {"map_50": 0.0, "best_iou_per_prediction": 0.0, "predictions_minus_objects": 1.0}),
        ([(BOX, BOX), (EMPTY, BOX)], {"map_50": 51 / 101, "best_iou_per_gt": 0.5, "best_iou_per_prediction": 1.0}),
        ([(BOX, BOX), (BOX, EMPTY)], {"mar_300": 1.0, "best_iou_per_gt": 1.0, "best_iou_per_prediction": 0.5}),
    ],
)
def test_empties(tiles: list[tuple[Tensor, Tensor]], expected: dict[str, float]) -> None:
    predictions = [_prediction(found, torch.ones(len(found))) for found, _ in tiles]
    values = _measure(predictions, [_target(truth) for _, truth in tiles])
    assert all(np.isfinite(value) for value in values.values())
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_false_detection_in_an_empty_tile_costs_precision() -> None:
    values = _measure([_prediction(BOX, [0.5]), _prediction(BOX, [0.9])], [_target(BOX), _target(EMPTY)])
    assert values["map_50"] == pytest.approx(0.5)


@pytest.mark.parametrize("shift", [0.0, 2.0, 4.0])
def test_detections_on_an_ignored_region_count_neither_way(shift: float) -> None:
    ignored = _boxes((40, 40, 50, 50))
    on_region = ignored + torch.tensor([shift, 0, shift, 0])
    clean = _measure([_prediction(BOX, [0.6])], [_target(BOX)])
    both = torch.cat([BOX, on_region])
    assert _measure([_prediction(both, [0.6, 0.9])], [_target(BOX, ignored)]) == clean
    assert _measure([_prediction(both, [0.6, 0.9])], [_target(BOX)])["map_50"] < clean["map_50"]


def test_an_ignored_region_does_not_hide_what_is_beside_it() -> None:
    ignored = _boxes((40, 40, 50, 50))
    beside = _boxes((46, 40, 56, 50))
    values = _measure([_prediction(torch.cat([BOX, beside]), [0.6, 0.9])], [_target(BOX, ignored)])
    assert values["map_50"] == pytest.approx(0.5)
    assert values["best_iou_per_prediction"] == pytest.approx(0.5)


def test_an_object_inside_an_ignored_region_still_counts() -> None:
    ignored = _boxes((0, 0, 40, 40))
    values = _measure([_prediction(BOX, [0.9])], [_target(BOX, ignored)])
    assert values["map"] == pytest.approx(1.0)
    assert _measure([_prediction(EMPTY, [])], [_target(BOX, ignored)])["mar_300"] == 0.0


def test_a_loose_detection_on_a_region_is_not_wrong_at_high_thresholds() -> None:
    # IoU 0.6 with the object: right up to 0.60; above, nobody's, but wholly on the region. A second one is exact.
    truth, ignored = _boxes((0, 0, 10, 10), (60, 0, 70, 10)), _boxes((0, 0, 10, 10))
    predictions = [_prediction(_boxes((0, 0, 10, 6), (60, 0, 70, 10)), [0.9, 0.5])]
    assert _measure(predictions, [_target(truth, ignored)])["map_75"] == pytest.approx(51 / 101, abs=1e-6)
    assert _measure(predictions, [_target(truth)])["map_75"] == pytest.approx(51 / 101 / 2, abs=1e-6)


def test_batching_makes_no_difference_and_reset_forgets() -> None:
    predictions, targets = _random_tiles(7, 9)
    whole = DetectionMetrics(300)
    whole.update(predictions, targets)
    parts = DetectionMetrics(300)
    parts.update(*_random_tiles(8, 3))
    parts.compute()
    parts.reset()
    for start, stop in ((0, 1), (1, 6), (6, 9)):
        parts.update(predictions[start:stop], targets[start:stop])
    assert parts.compute() == whole.compute()


def test_update_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="shorter"):
        DetectionMetrics(300).update([_prediction(BOX, [0.5])], [])


def test_nothing_is_printed_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    output = io.StringIO()
    with redirect_stdout(output), caplog.at_level(logging.INFO):
        _measure(*_random_tiles(1, 3))
    assert output.getvalue() == ""
    assert caplog.records == []


def _picture(seed: int, objects: int) -> TilePicture:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 116, (objects, 2))
    boxes = np.hstack([corner, corner + 12])
    image = rng.normal(0, 1, (128, 128)).astype(np.float16)
    return TilePicture(image, boxes, boxes + 3, rng.random(objects), f"tile {seed}")


@pytest.mark.parametrize(("count", "width"), [(1, 600), (3, 1200), (9, 1200)])
def test_pictures(tmp_path: Path, count: int, width: int) -> None:
    from PIL import Image

    path = tmp_path / "pictures" / "epoch.png"
    draw_detections(path, [_picture(seed, objects=5 * seed + 3) for seed in range(count)])
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    assert path.stat().st_size < 1_000_000
    for colour in (TRUTH_COLOUR, DETECTION_COLOUR):
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=2) < 24).sum() > 20, colour


def test_a_tile_without_boxes_and_with_dead_pixels_is_drawn(tmp_path: Path) -> None:
    image = np.full((32, 32), np.nan, dtype=np.float16)
    none = np.empty((0, 4))
    draw_detections(tmp_path / "empty.png", [TilePicture(image, none, none, np.empty(0), "no object")])
    assert (tmp_path / "empty.png").stat().st_size > 0
