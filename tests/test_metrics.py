"""The metrics: hand-computed cases, an independent implementation of COCO, and what astronomers ask for."""

import io
import logging
import pickle
import time
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from torch import Tensor

from satdet.metrics import DetectionMetrics

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
        "precision", "recall", "f1", "best_score", "false_per_arcmin2", "magnitude_50",
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


# --- the best score


def test_best_score_by_hand() -> None:
    # At 0.8: 2 right of 2, 3 objects: F1 = 4/5. At 0.5, one more wrong: 4/6. At 0.3, one more right: 6/7.
    truth = _boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    found = torch.cat([truth[:2], _boxes((70, 0, 80, 10)), truth[2:]])
    values = _measure([_prediction(found, [0.9, 0.8, 0.5, 0.3])], [_target(truth)])
    assert values["f1"] == pytest.approx(6 / 7)
    assert (values["precision"], values["recall"]) == pytest.approx((3 / 4, 1.0))
    assert values["best_score"] == pytest.approx(0.3)
    stricter = _measure([_prediction(found[:3], [0.9, 0.8, 0.5])], [_target(truth)])
    assert stricter["best_score"] == pytest.approx(0.8)
    assert (stricter["precision"], stricter["recall"], stricter["f1"]) == pytest.approx((1.0, 2 / 3, 0.8))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_best_score_is_the_best_of_all_thresholds(seed: int) -> None:
    predictions, targets = _random_tiles(seed, 12)
    values = _measure(predictions, targets, limit=300)
    objects = sum(len(target["boxes"]) for target in targets)
    best = (0.0, 0.0)
    for threshold in torch.cat([prediction["scores"] for prediction in predictions]).tolist():
        kept = [{key: value[each["scores"] >= threshold] for key, value in each.items()} for each in predictions]
        outcome = [hit for tile in zip(kept, targets, strict=True) for _, hit in _matches(*tile, 0.5, 300)]
        best = max(best, (2 * sum(outcome) / (len(outcome) + objects), threshold))
    assert (values["f1"], values["best_score"]) == pytest.approx(best)


def test_equal_scores_stand_or_fall_together() -> None:
    truth = _boxes((0, 0, 10, 10))
    found = torch.cat([truth, _boxes((30, 0, 40, 10), (60, 0, 70, 10))])
    values = _measure([_prediction(found, [0.5, 0.5, 0.5])], [_target(truth)])
    assert (values["precision"], values["recall"]) == pytest.approx((1 / 3, 1.0))


def test_without_a_right_detection_the_best_score_is_0_and_all_are_false() -> None:
    target = _target(BOX) | {"pixel_scale": torch.tensor(1 / 60)}
    metrics = DetectionMetrics(300)
    metrics.update([_prediction(_boxes((30, 0, 40, 10), (60, 0, 70, 10)), [0.9, 0.1])], [target], shape=(10, 20))
    values = metrics.compute()
    assert [values[name] for name in ("best_score", "precision", "recall", "f1")] == [0, 0, 0, 0]
    assert values["false_per_arcmin2"] == pytest.approx(2 / 200)


# --- false detections by area


def test_false_detections_are_counted_on_tiles_of_known_area() -> None:
    # Two tiles of 30 x 60 px of 2 arcsec: 2 arcmin² each. One false detection in each, and one below the best score.
    far = _boxes((20, 0, 30, 10))
    known = _target(BOX) | {"pixel_scale": torch.tensor(2 / 3600)}
    unknown = _target(BOX) | {"pixel_scale": torch.tensor(float("nan"))}
    both = _prediction(torch.cat([BOX, far, far + 20]), [0.9, 0.95, 0.1])
    metrics = DetectionMetrics(300)
    metrics.update([both, both], [known, known], shape=(30, 60))
    assert metrics.compute()["best_score"] == pytest.approx(0.9)
    assert metrics.compute()["false_per_arcmin2"] == pytest.approx(2 / 4, rel=1e-5)
    metrics.update([both], [unknown], shape=(30, 60))
    assert metrics.compute()["false_per_arcmin2"] == pytest.approx(2 / 4, rel=1e-5)
    assert _measure([both], [known])["false_per_arcmin2"] == 0.0  # without the shape of the tile


# --- completeness


def _measured(magnitudes: list[float], found: list[bool]) -> DetectionMetrics:
    """One tile with an object of each magnitude, found or not."""
    corner = torch.arange(len(magnitudes))[:, None] * torch.tensor([20.0, 0.0])
    boxes = torch.cat([corner, corner + 10], dim=1)
    target = _target(boxes) | {"magnitudes": torch.tensor(magnitudes)}
    right = boxes[torch.tensor(found, dtype=torch.bool)]
    metrics = DetectionMetrics(300)
    metrics.update([_prediction(right, torch.full((len(right),), 0.5))], [target])
    return metrics


def test_completeness_is_counted_in_bins_with_intervals() -> None:
    metrics = _measured([15.1, 15.2, 15.6, 15.7, 15.9, 16.5], [True, True, True, False, False, False])
    curve = metrics.curves().completeness
    assert curve.edges.tolist() == [15.0, 15.5, 16.0, 16.5, 17.0]
    assert curve.objects.tolist() == [2, 3, 0, 1]
    assert curve.found.tolist() == [2, 1, 0, 0]
    np.testing.assert_allclose(curve.share, [1, 1 / 3, np.nan, 0])
    # Wilson's interval of 1 in 3 and of 2 in 2, as in the literature's tables.
    np.testing.assert_allclose(curve.low, [0.3424, 0.0615, 0, 0], atol=1e-4)
    np.testing.assert_allclose(curve.high, [1.0, 0.7923, 1, 0.7935], atol=1e-4)
    # From 1 at 15.25 to 1/3 at 15.75.
    assert curve.magnitude_50 == pytest.approx(15.25 + 0.5 * 0.5 / (2 / 3))
    assert metrics.compute()["magnitude_50"] == curve.magnitude_50


@pytest.mark.parametrize(
    ("magnitudes", "found", "expected"),
    [
        ([14.2, 15.2, 16.2], [True, True, True], 16.5),  # never below 50 %: the faintest edge
        ([14.2, 15.2, 16.2], [False, False, False], 14.0),  # never above: the brightest
        ([float("nan"), 99.0], [True, True], 0.0),  # no magnitude
        ([], [], 0.0),
    ],
)
def test_magnitude_50_where_the_curve_does_not_cross(
    magnitudes: list[float], found: list[bool], expected: float
) -> None:
    assert _measured(magnitudes, found).compute()["magnitude_50"] == expected


def test_one_missed_bright_object_does_not_decide_magnitude_50() -> None:
    rng = np.random.default_rng(0)
    magnitudes = rng.uniform(14, 20, 250)
    found = rng.random(250) < 1 / (1 + np.exp((magnitudes - 18) / 0.3))
    magnitudes, found = np.append(magnitudes, [11.0, 20.7]), np.append(found, [False, True])
    assert _measured(magnitudes.tolist(), found.tolist()).compute()["magnitude_50"] == pytest.approx(18, abs=0.2)


def test_only_detections_of_the_best_score_complete() -> None:
    boxes = _boxes((0, 0, 10, 10), (20, 0, 30, 10))
    false = torch.cat([boxes + 200 + 20 * step for step in range(6)])
    target = _target(boxes) | {"magnitudes": torch.tensor([14.2, 16.2])}
    metrics = DetectionMetrics(300)
    prediction = _prediction(torch.cat([boxes[:1], false, boxes[1:]]), [0.9, *[0.5] * 12, 0.1])
    metrics.update([prediction], [target])
    assert metrics.compute()["best_score"] == pytest.approx(0.9)
    assert metrics.curves().completeness.found.tolist() == [1, 0, 0, 0, 0]


# --- curves, histogram, workers


def test_precision_recall_curve_integrates_to_map_50() -> None:
    metrics = DetectionMetrics(300)
    metrics.update(*_random_tiles(4, 12))
    curve = metrics.curves().precision_recall
    assert curve is not None
    assert curve.precision.mean() == pytest.approx(metrics.compute()["map_50"])
    assert (np.diff(curve.precision) <= 0).all()
    assert (np.diff(curve.scores[curve.precision > 0]) <= 0).all()
    assert DetectionMetrics(300).curves().precision_recall is None


def test_excess_a_tile_of_all_predictions_and_of_the_best() -> None:
    false = _boxes((30, 0, 40, 10), (60, 0, 70, 10))
    metrics = DetectionMetrics(300)
    metrics.update(
        [_prediction(torch.cat([BOX, false]), [0.9, 0.2, 0.1]), _prediction(EMPTY, [])], [_target(BOX), _target(BOX)]
    )
    curves = metrics.curves()
    assert curves.excess.tolist() == [2, -1]
    assert curves.best_excess.tolist() == [0, -1]
    assert metrics.compute()["predictions_minus_objects"] == 0.5


def test_workers_merge_into_what_one_process_finds() -> None:
    predictions, targets = _random_tiles(7, 9)
    for number, target in enumerate(targets):
        target |= {
            "magnitudes": torch.linspace(14, 18, len(target["boxes"])),
            "pixel_scale": torch.tensor(number / 1e4),
        }
    whole = DetectionMetrics(300)
    whole.update(predictions, targets, shape=(64, 64))
    parts = [DetectionMetrics(300) for _ in range(3)]
    for number, part in enumerate(parts):
        chosen = slice(3 * number, 3 * number + 3)
        part.update(predictions[chosen], targets[chosen], shape=(64, 64))
    merged = DetectionMetrics(300)
    for part in pickle.loads(pickle.dumps(parts)):
        merged.merge(part)
    assert merged.compute() == whole.compute()


def test_a_thousand_detections_a_tile_take_little_time() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 490, (1000, 2)).astype(np.float32)
    boxes = torch.from_numpy(np.hstack([corner, corner + 14]))
    tile = _prediction(boxes, torch.from_numpy(rng.random(1000)))
    metrics = DetectionMetrics(1000)
    started = time.process_time()
    metrics.update([tile] * 50, [_target(boxes[:48])] * 50)
    metrics.compute()
    assert time.process_time() - started < 5  # about 0.2 s; 1.5 s by torchmetrics
