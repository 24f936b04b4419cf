"""Weights: torchvision's files, our own, and detectors that differ from those they come from."""

import hashlib
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2
from torchvision.ops import FrozenBatchNorm2d

from satdet.config import DetectorConfig
from satdet.detector import Detector, build_detector, find_weights, required_weights
from satdet.errors import WeightsError

COCO_V1 = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
COCO_V2 = "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
IMAGENET_18 = "resnet18-f37072fd.pth"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network and an empty torch hub; returns the hub's checkpoint folder."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def _images(count: int = 2, side: int = 96) -> Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DetectorConfig(weights="none"), None),
        (DetectorConfig(backbone="resnet18"), IMAGENET_18),
        (DetectorConfig(backbone="resnet34"), "resnet34-b627a593.pth"),
        (DetectorConfig(backbone="resnet50"), "resnet50-0676ba61.pth"),
        (DetectorConfig(backbone="resnet101"), "resnet101-63fe2227.pth"),
        (DetectorConfig(weights="detector"), COCO_V1),
        (DetectorConfig(weights="detector", version="v2"), COCO_V2),
    ],
)
def test_required_weights(config: DetectorConfig, name: str | None) -> None:
    assert required_weights(config) == name


def _trained_resnet18() -> dict[str, Tensor]:
    """A state dict like torchvision's, with batch norm statistics that are not those of a new network."""
    state: dict[str, Tensor] = resnet18().state_dict()
    for key, value in state.items():
        if "running_" in key:
            value.uniform_(0.5, 1.5)
    return state


@pytest.mark.parametrize("batch_norm", ["auto", "trainable"])
@pytest.mark.parametrize("adaptation", ["mean", "replicate", "random"])
def test_imagenet_backbone(tmp_path: Path, adaptation: Any, batch_norm: Any) -> None:
    state = _trained_resnet18()
    torch.save(state, tmp_path / IMAGENET_18)
    config = DetectorConfig(backbone="resnet18", input_adaptation=adaptation, batch_norm=batch_norm)
    detector = build_detector(config, weights_dir=tmp_path)
    loaded = detector.backbone.body.state_dict()
    for key, value in loaded.items():
        if key != "conv1.weight":
            assert torch.equal(value, state[key]), key
    images = _images(1, 64)
    with torch.no_grad():
        first = detector.backbone.body.conv1(images)
        rgb = nn.functional.conv2d(images.expand(-1, 3, -1, -1), state["conv1.weight"], stride=2, padding=3)
    if adaptation == "replicate":
        torch.testing.assert_close(first, rgb)
    elif adaptation == "mean":
        torch.testing.assert_close(first * 3, rgb, rtol=1e-4, atol=1e-4)
    else:
        assert not torch.allclose(first, rgb, atol=0.1) and not torch.allclose(first * 3, rgb, atol=0.1)


def _old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names in the published file of v1, older than torchvision's present modules."""
    renamed = {}
    for key, value in state.items():
        if key.startswith("backbone.fpn."):
            key = key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        renamed[key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    return renamed


@pytest.mark.parametrize(
    ("version", "make", "name"),
    [("v1", fasterrcnn_resnet50_fpn, COCO_V1), ("v2", fasterrcnn_resnet50_fpn_v2, COCO_V2)],
)
def test_coco_detector_leaves_out_only_what_is_replaced(
    tmp_path: Path, version: Any, make: Callable[..., nn.Module], name: str
) -> None:
    state = make(weights=None, weights_backbone=None).state_dict()
    torch.save(_old_names(state) if version == "v1" else state, tmp_path / name)
    config = DetectorConfig(weights="detector", version=version)
    detector = build_detector(config, weights_dir=tmp_path)
    differing = {key for key, value in detector.state_dict().items() if not torch.equal(value, state[key])}
    predictor = {f"roi_heads.box_predictor.{part}" for part in ("cls_score.weight", "cls_score.bias",
                                                               "bbox_pred.weight", "bbox_pred.bias")}  # fmt: skip
    assert {key for key in differing if state[key].shape != detector.state_dict()[key].shape} == differing
    assert differing == predictor | {"backbone.body.conv1.weight"}
    epsilons = {module.eps for module in detector.modules() if isinstance(module, FrozenBatchNorm2d)}
    assert epsilons == ({0.0} if version == "v1" else set())


def test_other_aspect_ratios_leave_out_the_rpn_s_output_layers(tmp_path: Path) -> None:
    torch.save(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), tmp_path / COCO_V1)
    config = DetectorConfig(weights="detector", aspect_ratios=(1.0,))
    detector = build_detector(config, weights_dir=tmp_path)
    assert detector.rpn.head.cls_logits.out_channels == 1


def test_weights_are_looked_for_in_the_folder_then_in_the_hub(tmp_path: Path, offline: Path) -> None:
    config = DetectorConfig(backbone="resnet18")
    (offline / IMAGENET_18).write_bytes(b"hub")
    assert find_weights(config, tmp_path) == offline / IMAGENET_18
    (tmp_path / IMAGENET_18).write_bytes(b"folder")
    assert find_weights(config, tmp_path) == tmp_path / IMAGENET_18
    assert find_weights(DetectorConfig(weights="none"), tmp_path) is None


def test_weights_that_cannot_be_had(tmp_path: Path, offline: Path) -> None:
    config = DetectorConfig(weights="detector", version="v2")
    with pytest.raises(WeightsError) as caught:
        build_detector(config, weights_dir=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (COCO_V2, str(tmp_path), "detector.weights=none", "Name or service not known"):
        assert part in message
    with pytest.raises(WeightsError, match=str(offline)):
        find_weights(config, None)
    assert isinstance(build_detector(config, initialise=False), Detector)


@pytest.mark.parametrize("intact", [True, False])
def test_download_is_checked_against_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], intact: bool
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    source = tmp_path / "resnet18.pth"
    torch.save(_trained_resnet18(), source)
    prefix = hashlib.sha256(source.read_bytes()).hexdigest()[:8] if intact else "0123abcd"
    source = source.rename(tmp_path / f"resnet18-{prefix}.pth")
    monkeypatch.setattr("satdet.detector.weights._url", lambda config: source.as_uri())
    if intact:
        path = find_weights(DetectorConfig(backbone="resnet18"), None)
        assert path == tmp_path / "torch" / "hub" / "checkpoints" / source.name and path.is_file()
    else:
        with pytest.raises(WeightsError, match="invalid hash value"):
            find_weights(DetectorConfig(backbone="resnet18"), None)
    assert capsys.readouterr().out == ""


def _damage_truncate(path: Path) -> None:
    torch.save(_trained_resnet18(), path)
    path.write_bytes(path.read_bytes()[:10_000])


def _damage_other_network(path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), path)


def _damage_other_shape(path: Path) -> None:
    torch.save(_trained_resnet18() | {"layer1.0.conv1.weight": torch.zeros(2, 2, 3, 3)}, path)


def _damage_not_a_state(path: Path) -> None:
    torch.save([1, 2], path)


def _damage_code(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_damage_truncate, "cannot be read as weights"),
        (_damage_other_network, "does not fit resnet18 v1"),
        (_damage_other_shape, "does not fit resnet18 v1"),
        (_damage_not_a_state, "holds no weights"),
        (_damage_code, "cannot be read as weights"),
    ],
)
def test_damaged_weights(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(tmp_path / IMAGENET_18)
    with pytest.raises(WeightsError, match=message) as caught:
        build_detector(DetectorConfig(backbone="resnet18"), weights_dir=tmp_path)
    assert str(tmp_path / IMAGENET_18) in str(caught.value)
    assert "\n" not in str(caught.value)
