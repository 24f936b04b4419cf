"""Average precision and recall against two references: pycocotools itself, and the report's torchmetrics."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from satdet.metrics import DetectionMetrics
from satdet.metrics.reference import reference_precision

LIMIT = 9
LIMITS = (3, 6, 9)


def tile(found, scores, objects, ignored=()):
    """One prediction and its target, from rows of x1, y1, x2, y2."""
    found, objects, ignored = (
        torch.tensor(np.array(rows, dtype=np.float32).reshape(-1, 4)) for rows in (found, objects, ignored)
    )
    prediction = {"boxes": found, "scores": torch.tensor(scores, dtype=torch.float32).reshape(-1)}
    return prediction, {"boxes": objects, "ignored": ignored}


def measure(tiles, limit=LIMIT):
    metrics = DetectionMetrics(limit)
    metrics.update([prediction for prediction, _ in tiles], [target for _, target in tiles])
    return metrics.compute()


def share(box, other, of_box_alone):
    """IoU of two boxes, or the share of the first that the second covers."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area, other_area = ((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other))
    whole = area if of_box_alone else area + other_area - width * height
    return width * height / whole


def counted(prediction, target):
    """The detections that count: not those mostly on an ignored region that are nobody's at IoU 0.50."""
    boxes, objects, ignored = (
        each.double().tolist() for each in (prediction["boxes"], target["boxes"], target["ignored"])
    )
    keep = [
        position
        for position, box in enumerate(boxes)
        if all(share(box, region, True) < 0.5 for region in ignored)
        or any(share(box, each, False) >= 0.5 for each in objects)
    ]
    return [boxes[position] for position in keep], prediction["scores"][keep].tolist()


def annotation(box, image, **more):
    width, height = box[2] - box[0], box[3] - box[1]
    own = {"image_id": image, "category_id": 1, "bbox": [box[0], box[1], width, height], "area": width * height}
    return {**own, "iscrowd": 0, **more}


def coco(tiles, annotations):
    from pycocotools.coco import COCO

    data = COCO()
    images = [{"id": number} for number in range(1, len(tiles) + 1)]
    numbered = [{**each, "id": number} for number, each in enumerate(annotations, 1)]
    data.dataset = {"images": images, "categories": [{"id": 1}], "annotations": numbered}
    data.createIndex()
    return data


def pycocotools_values(tiles, limits=LIMITS):
    """COCO's values, read from its tables: its own summary knows only 100 detections."""
    from pycocotools.cocoeval import COCOeval

    truth, found = [], []
    for image, (prediction, target) in enumerate(tiles, 1):
        truth += [annotation(box, image) for box in target["boxes"].double().tolist()]
        truth += [annotation(box, image, iscrowd=1) for box in target["ignored"].double().tolist()]
        found += [
            annotation(box, image, score=score)
            for box, score in zip(*counted(prediction, target), strict=True)
        ]  # fmt: skip
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco(tiles, truth), coco(tiles, found), "bbox")
        evaluation.params.maxDets = list(limits)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e30]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    recall = evaluation.eval["recall"][:, 0, 0, :].mean(axis=0)
    own = {"map": precision.mean(), "map_50": precision[0].mean(), "map_75": precision[5].mean()}
    return own | {f"mar_{limit}": value for limit, value in zip(limits, recall, strict=True)}


def random_tiles(seed, count=25, side=110, objects=14):
    """Objects found well, badly, twice or not at all, false detections, ignored regions, rounded (tied) scores."""
    rng = np.random.default_rng(seed)
    tiles = []
    for _ in range(count):
        corner = rng.uniform(0, side, (rng.integers(0, objects), 2))
        truth = np.hstack([corner, corner + rng.uniform(6, 20, (len(corner), 2))])
        found = np.repeat(truth, rng.integers(0, 3, len(truth)), axis=0)
        found = found + rng.normal(0, 1.5, found.shape)
        false = rng.uniform(0, side, (rng.integers(0, 6), 2))
        found = np.vstack([found, np.hstack([false, false + 12])])
        ignored = rng.uniform(0, side, (rng.integers(0, 4), 2))
        ignored = np.hstack([ignored, ignored + rng.uniform(5, 40, (len(ignored), 2))])
        scores = rng.random(len(found)).round(int(rng.integers(1, 8)))
        tiles.append(tile(found, scores, truth, ignored))
    return tiles


@pytest.mark.parametrize("seed", range(6))
def test_random_sets_equal_pycocotools(seed):
    tiles = random_tiles(seed)
    values, expected = measure(tiles), pycocotools_values(tiles)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert 0 < values["map"] < values["map_50"] < 1


WHOLE = st.integers(0, 6)
BOX = st.tuples(WHOLE, WHOLE, st.integers(1, 4), st.integers(1, 4)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
SCORED = st.tuples(BOX, st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
TILE = st.builds(
    lambda scored, objects, ignored: tile([box for box, _ in scored], [score for _, score in scored], objects, ignored),
    st.lists(SCORED, max_size=14), st.lists(BOX, max_size=5), st.lists(BOX, max_size=2),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(TILE, min_size=1, max_size=4))
def test_adversarial_sets_equal_pycocotools(tiles):
    # Whole coordinates and five scores: equal scores, equal IoU, copies of one box, IoU exactly at a threshold, more
    # detections than the limit, crowds, and tiles without objects or detections are all common.
    values = measure(tiles)
    if not any(len(target["boxes"]) for _, target in tiles):
        assert all(value == 0 for name, value in values.items() if name.startswith("ma") and name != "magnitude_50")
        return
    expected = pycocotools_values(tiles)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)


GRID = [(x, y, x + 10, y + 10) for x in range(0, 200, 20) for y in range(0, 200, 20)]


@pytest.mark.parametrize(
    ("name", "tiles"),
    [
        ("huge", [tile([(0, 0, 9e4, 9e4), (1, 1, 5, 5)], [0.5, 0.9], [(0, 0, 1e5, 1e5)])]),
        ("tiny", [tile([(5, 5, 5.01, 5.01), (7, 7, 7.001, 9)], [0.5, 0.9], [(5, 5, 5.01, 5.012), (7, 7, 7.001, 9)])]),
        ("no area", [tile([(5, 5, 5, 9), (0, 0, 4, 4)], [0.9, 0.5], [(5, 5, 5, 9), (0, 0, 4, 4)])]),
        ("copies", [tile([GRID[0]] * 8, [0.7] * 8, [GRID[0]] * 3)]),
        ("all tied", [tile(GRID[:9], [0.5] * 9, GRID[4:9]), tile(GRID[:6], [0.5] * 6, GRID[:2])]),
        ("nothing found", [tile([], [], GRID[:4])]),
        ("empty tiles", [tile([], [], []), tile(GRID[:2], [0.9, 0.8], []), tile(GRID[:2], [0.7, 0.6], GRID[:2])]),
        ("beyond the limit", [tile(GRID, np.linspace(1, 0.1, 100), GRID[::-1])]),
        ("all in a crowd", [tile(GRID[:5], [0.9] * 5, [GRID[7]], [(0, 0, 200, 200)])]),
        ("an object in a crowd", [tile([GRID[0], GRID[0]], [0.9, 0.8], [GRID[0]], [(0, 0, 200, 200)])]),
        ("loose on a crowd", [tile([(0, 0, 10, 6)], [0.9], [GRID[0], GRID[9]], [(0, 0, 10, 5)])]),
        ("two rivals", [tile([(0, 0, 10, 10), (1, 0, 11, 10)], [0.9, 0.8], [(0, 0, 10, 9), (0, 0, 10, 10)])]),
    ],
)  # fmt: skip
def test_hard_cases_equal_pycocotools(name, tiles):
    values, expected = measure(tiles), pycocotools_values(tiles)
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("limit", [300, 1000])
def test_many_detections_equal_pycocotools(limit):
    rng = np.random.default_rng(limit)
    tiles = []
    for _ in range(2):
        corner = rng.uniform(0, 500, (60, 2))
        truth = np.hstack([corner, corner + 12])
        found = np.vstack([truth + rng.normal(0, 1, truth.shape), rng.uniform(0, 500, (limit, 2)).repeat(2, axis=1)])
        found[60:, 2:] = found[60:, :2] + 10
        tiles.append(tile(found, rng.random(len(found)), truth))
    limits = (round(limit / 3), round(2 * limit / 3), limit)
    values, expected = measure(tiles, limit), pycocotools_values(tiles, limits)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert values[f"mar_{limits[0]}"] < values[f"mar_{limit}"]


@pytest.mark.parametrize("seed", range(3))
def test_values_equal_the_report_s_torchmetrics(seed):
    tiles = random_tiles(seed)
    found = [(prediction["boxes"].numpy(), prediction["scores"].numpy(), target) for prediction, target in tiles]
    expected = reference_precision(found, LIMITS)
    values = measure(tiles)
    for name in ("map", "map_50", "map_75", *(f"mar_{limit}" for limit in LIMITS)):
        assert values[name] == pytest.approx(expected[name], abs=1e-6), name
