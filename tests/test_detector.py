"""The detector: the report's sizes, torchvision's results, ignored regions, what each setting does."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from satdet.config import DetectorConfig
from satdet.detector import Detector, build_detector, suppress
from satdet.detector.ignored import covered_share
from satdet.detector.pooling import Pooling
from satdet.detector.proposals import Anchors

SMALL: dict[str, Any] = {
    "backbone": "resnet18", "weights": "none", "box_samples": 32, "rpn_samples": 64,
    "proposals_before_nms": 200, "proposals_after_nms": 50,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def _small(**changes: Any) -> Detector:
    return build_detector(DetectorConfig(**(SMALL | changes)))


def _target(*boxes: tuple[float, ...], ignored: Sequence[tuple[float, ...]] = ()) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "ignored": torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    }


TARGETS = [_target((10, 12, 22, 24), (40, 30, 58, 48), (70, 80, 79, 89)), _target((5, 60, 25, 80))]


def _images(count: int = 2, side: int = 96) -> Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(5))


def _millions(module: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("backbone", "version", "millions"),
    [
        ("resnet18", "v1", 28.27), ("resnet34", "v1", 38.37), ("resnet50", "v1", 41.29), ("resnet101", "v1", 60.23),
        ("resnet50", "v2", 43.25),
    ],
)  # fmt: skip
def test_parameter_counts_are_the_report_s(backbone: Any, version: Any, millions: float) -> None:
    with torch.device("meta"):
        detector = build_detector(DetectorConfig(backbone=backbone, version=version), initialise=False)
    assert _millions(detector) == millions
    assert all(parameter.requires_grad for parameter in detector.parameters())


@pytest.mark.parametrize(
    ("changes", "frozen"),
    [
        ({"weights": "none"}, False),
        ({"weights": "backbone"}, True),
        ({"weights": "backbone", "batch_norm": "trainable"}, False),
        ({"weights": "none", "batch_norm": "frozen"}, True),
        ({"weights": "backbone", "version": "v2"}, False),
        ({"weights": "backbone", "version": "v2", "batch_norm": "frozen"}, True),
    ],
)
def test_batch_norm_policy(changes: dict[str, Any], frozen: bool) -> None:
    with torch.device("meta"):
        detector = build_detector(DetectorConfig(**(SMALL | changes)), initialise=False)
    body = [module for module in detector.backbone.body.modules() if isinstance(module, nn.BatchNorm2d)]
    fixed = [module for module in detector.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert (len(body), len(fixed)) == ((0, 20) if frozen else (20, 0))


def _torchvision_twin(detector: Detector, side: int) -> FasterRCNN:
    """torchvision's own Faster R-CNN of the same settings and weights."""
    twin = FasterRCNN(
        detector.backbone,
        2,
        min_size=side, max_size=side, image_mean=[0.0], image_std=[1.0],
        rpn_anchor_generator=AnchorGenerator(((8.0,), (16.0,), (32.0,), (64.0,), (128.0,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=200, rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=50, rpn_post_nms_top_n_test=50,
        rpn_batch_size_per_image=64, box_batch_size_per_image=32, box_detections_per_img=1000,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 7, 2),
    )  # fmt: skip
    twin.load_state_dict(detector.state_dict())
    twin.transform.torch_choice = lambda sizes: sizes[0]  # it draws a random number to choose among one size
    return twin


def test_losses_and_detections_equal_torchvision_s() -> None:
    detector = _small(batch_norm="frozen")
    twin = _torchvision_twin(detector, 128)
    images = _images(side=128)
    plain = [{key: target[key] for key in ("boxes", "labels")} for target in TARGETS]
    torch.manual_seed(3)
    losses = detector(images, TARGETS)
    torch.manual_seed(3)
    expected = twin(list(images), plain)
    assert set(losses) == set(expected)
    for name in losses:
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        found, wanted = detector.eval()(images), twin.eval()(list(images))
    for own, other in zip(found, wanted, strict=True):
        assert len(own["boxes"]) > 0
        torch.testing.assert_close(own["boxes"], other["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(own["scores"], other["scores"], rtol=1e-4, atol=1e-5)
        assert torch.equal(own["labels"], other["labels"])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_pooling_equals_torchvision_s_with_its_gradient(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    levels = {str(k): torch.randn(2, 6, 32 >> k, 40 >> k, generator=generator).requires_grad_() for k in range(count)}
    corner = torch.rand(40, 2, generator=generator) * torch.tensor([150.0, 120.0]) - 5
    boxes = torch.cat([corner, corner + torch.rand(40, 2, generator=generator) * 140 + 1], dim=1)
    tiles = [boxes[:25], boxes[25:]]
    results = []
    for pooling in (Pooling(count, 7), MultiScaleRoIAlign(list(levels), 7, 2)):
        pooled = pooling(levels, tiles, [(128, 160)] * 2)
        pooled.square().sum().backward()
        results.append([pooled.detach(), *(level.grad for level in levels.values())])
        for level in levels.values():
            level.grad = None
    for own, other in zip(*results, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_anchors_equal_torchvision_s_and_stay_float32() -> None:
    sizes, ratios = (8.0, 16.0, 32.0, 64.0, 128.0), (0.5, 1.0, 2.0)
    images = ImageList(torch.zeros(2, 1, 512, 512), [(512, 512)] * 2)
    maps = [torch.zeros(2, 1, 512 // stride, 512 // stride) for stride in (4, 8, 16, 32, 64)]
    own = Anchors(sizes, ratios)(images, [level.bfloat16() for level in maps])
    other = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * 5)(images, maps)
    assert own[0].dtype == torch.float32
    assert torch.equal(own[1], other[1])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_step_under_bfloat16_and_channels_last(version: str) -> None:
    detector = _small(version=version).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector(_images().contiguous(memory_format=torch.channels_last), [TARGETS[0], _target()])
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) and loss.shape == () for loss in losses.values())
    sum(losses.values()).backward()
    without = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert without == []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        detections = detector.eval()(_images())
    assert all(tile["boxes"].dtype == tile["scores"].dtype == torch.float32 for tile in detections)


def test_training_lowers_the_loss_also_after_an_evaluation() -> None:
    detector = _small()
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-4)
    totals = []
    for step in range(8):
        total = sum(detector(_images(), TARGETS).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
        if step == 1:
            with torch.inference_mode():
                detector.eval()(_images())
            detector.train()
    assert totals[-1] < 0.7 * totals[0]


def test_tiles_without_objects_and_without_detections() -> None:
    detector = _small(score_threshold=1.0)
    losses = detector(_images(), [_target(), _target()])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_rpn_box_reg"] == losses["loss_box_reg"] == 0
    with torch.inference_mode():
        detections = detector.eval()(_images())
    assert [tuple(tile["boxes"].shape) for tile in detections] == [(0, 4), (0, 4)]
    assert detections[0]["labels"].dtype == torch.int64


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_proposal_is_no_detection(version: str) -> None:
    detector = _small(version=version, score_threshold=0.0).eval()
    with torch.no_grad():
        detector.rpn.head.bbox_pred.bias.fill_(1e9)  # all far outside
        found = detector(_images())
        proposals, _ = detector.rpn(ImageList(_images(), [(96, 96)] * 2), detector.backbone(_images()))
    assert [len(boxes) for boxes in proposals] == [0, 0]
    assert [tuple(tile["boxes"].shape) for tile in found] == [(0, 4), (0, 4)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_detector_gone_nan_has_nan_losses_and_no_detections(version: str) -> None:
    detector = _small(version=version)
    with torch.no_grad():
        detector.backbone.fpn.layer_blocks[0][0].weight.fill_(torch.nan)
    losses = detector(_images(), TARGETS)
    assert torch.isnan(sum(losses.values()))
    with torch.inference_mode():
        assert [len(tile["boxes"]) for tile in detector.eval()(_images())] == [0, 0]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nothing_is_learnt_from_tiles_that_are_ignored(version: str) -> None:
    detector = _small(version=version, batch_norm="trainable")
    everything = _target(ignored=[(-200, -200, 300, 300)])
    losses = detector(_images(), [everything, everything])
    assert [float(loss.detach()) for loss in losses.values()] == [0.0] * 4
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in detector.roi_heads.parameters())
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in detector.rpn.parameters())


def test_covered_share() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [5, 5, 5, 9]])
    regions = torch.tensor([[5.0, 0, 40, 10], [0, 0, 2, 10]])
    assert covered_share(boxes, regions).tolist() == [0.5, 0.0, 0.0]
    assert covered_share(boxes, regions[:0]).tolist() == [0.0, 0.0, 0.0]


def test_ignored_regions_take_background_out_of_both_losses_but_keep_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = _small()
    seen: list[list[Tensor]] = []

    def record(sampler: Callable[..., Any], labels: list[Tensor], targets: list[dict[str, Tensor]]) -> Any:
        seen.append(labels)
        return sampler(labels, targets)

    for part in (detector.rpn, detector.roi_heads):
        monkeypatch.setattr(part, "fg_bg_sampler", functools.partial(record, part.fg_bg_sampler))
    region = [(0.0, 0.0, 48.0, 96.0)]
    object_on_region = (10, 12, 22, 24)
    detector(_images(1), [_target(object_on_region, ignored=region)])
    detector(_images(1), [_target(object_on_region)])
    for with_region, without in zip(seen[:2], seen[2:], strict=True):
        assert (with_region[0] == 1).sum() > 0
        assert (with_region[0] == -1).sum() > (without[0] == -1).sum()
    assert torch.equal(seen[0][0] == 1, seen[2][0] == 1)
    anchors = next(iter(detector.rpn.anchor_generator._made.values()))
    centre_on_region = (anchors[:, 0] + anchors[:, 2]) / 2 < 40
    inside = centre_on_region & (anchors[:, 0] >= 0) & (anchors[:, 1] >= 0) & (anchors[:, 3] <= 96)
    assert not (seen[0][0][inside] == 0).any()
    assert (seen[2][0][inside] == 0).any()


def test_enlargement_takes_boxes_there_and_back() -> None:
    plain, enlarged = _small(batch_norm="frozen"), _small(enlargement=2.0, batch_norm="frozen")
    enlarged.load_state_dict(plain.state_dict())
    big = torch.nn.functional.interpolate(_images(), scale_factor=2, mode="bilinear")
    torch.manual_seed(1)
    losses = enlarged(_images(), TARGETS)
    torch.manual_seed(1)
    expected = plain(big, [{**target, "boxes": target["boxes"] * 2} for target in TARGETS])
    for name in losses:
        torch.testing.assert_close(losses[name], expected[name])
    with torch.inference_mode():
        found, wanted = enlarged.eval()(_images()), plain.eval()(big)
    assert len(found[0]["boxes"]) > 0
    torch.testing.assert_close(found[0]["boxes"] * 2, wanted[0]["boxes"])


@pytest.mark.parametrize(("side", "enlargement"), [(70, 1.0), (33, 1.0), (96, 0.5), (50, 1.37)])
def test_any_tile_size(side: int, enlargement: float) -> None:
    detector = _small(enlargement=enlargement, score_threshold=0.0)
    losses = detector(_images(2, side), [_target((3, 3, 15, 15)), _target()])
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.inference_mode():
        boxes = detector.eval()(_images(2, side))[0]["boxes"]
    assert len(boxes) > 0
    assert float(boxes.min()) >= 0 and float(boxes.max()) <= side * 1.0001


def test_one_forward_pass_serves_a_grid_of_thresholds() -> None:
    detector = _small(score_threshold=0.0).eval()
    with torch.inference_mode():
        candidates = detector.candidates(_images())
        counts = []
        for threshold in (0.3, 0.5, 0.7):
            detector.roi_heads.nms_thresh = threshold
            grid = suppress(candidates, threshold, 1000)
            for own, other in zip(grid, detector(_images()), strict=True):
                assert all(torch.equal(own[key], other[key]) for key in ("boxes", "scores", "labels"))
            counts.append(sum(len(tile["boxes"]) for tile in grid))
    assert counts[0] < counts[1] < counts[2]
    assert [len(tile["boxes"]) for tile in suppress(candidates, 0.7, 3)] == [3, 3]
    scores = grid[0]["scores"]
    assert torch.equal(scores, scores.sort(descending=True).values)


def test_same_seed_same_detector() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(_small().state_dict()["roi_heads.box_head.fc6.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(("version", "adaptation"), list(itertools.product(["v1", "v2"], ["mean", "replicate"])))
def test_a_checkpoint_brings_back_the_same_detections(version: Any, adaptation: Any) -> None:
    config = DetectorConfig(**(SMALL | {"version": version, "input_adaptation": adaptation, "weights": "backbone"}))
    saved = build_detector(config, initialise=False)
    torch.manual_seed(99)
    restored = build_detector(config, initialise=False)
    restored.load_state_dict(saved.state_dict())
    with torch.inference_mode():
        found, wanted = restored.eval()(_images()), saved.eval()(_images())
    assert torch.equal(found[0]["boxes"], wanted[0]["boxes"])
