"""Every backbone: its levels, normalisation, parameters, and ImageNet weights under torchvision's file names."""

import runpy
import shutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from satdet.config import DetectorConfig
from satdet.config.detector import Backbone
from satdet.detector import build_detector, required_weights
from satdet.detector.backbone import LAYOUTS, ReplicatingConv2d, build_backbone
from satdet.detector.table import REPORT_MILLIONS

ROOT = Path(__file__).parents[1]
BACKBONES = typing.get_args(Backbone)
FILES = {
    "resnet152": "resnet152-394f9c45.pth",
    "convnext_tiny": "convnext_tiny-983f1562.pth",
    "efficientnet_v2_s": "efficientnet_v2_s-dd5fe13b.pth",
}
TARGET = {"boxes": torch.tensor([[10.0, 12.0, 22.0, 24.0]]), "labels": torch.ones(1, dtype=torch.int64)}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One suits a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_litter(tmp_path: Path) -> Iterator[None]:
    """A file of weights has 80 to 240 MB; pytest would keep those of three runs."""
    torch.manual_seed(0)
    yield
    shutil.rmtree(tmp_path)


def _on_meta(**settings: Any) -> Any:
    with torch.device("meta"):
        return build_backbone(DetectorConfig(**settings))


def test_every_backbone_has_a_layout() -> None:
    assert sorted(LAYOUTS) == sorted(BACKBONES)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", BACKBONES)
def test_five_levels_of_256_channels_at_the_strides_of_the_anchors(name: str, version: str) -> None:
    backbone = _on_meta(backbone=name, version=version)
    levels = backbone(torch.empty(2, 1, 128, 192, device="meta"))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape) for level in levels.values()] == [
        (2, 256, 128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)
    ]
    assert any(isinstance(module, nn.BatchNorm2d) for module in backbone.fpn.modules()) == (version == "v2")


@pytest.mark.parametrize("name", BACKBONES)
def test_stem_and_stages_are_the_whole_body(name: str) -> None:
    body, layout = _on_meta(backbone=name).body, LAYOUTS[name]
    with_parameters = [child for child, module in body.named_children() if any(True for _ in module.parameters())]
    parts = [layout.part(child) for child in body if child in [*layout.stem, *sum(layout.stages, ())]]
    assert set(with_parameters) <= {*layout.stem, *sum(layout.stages, ())}
    assert parts == sorted(parts)
    assert set(parts) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("name", "norms", "epsilon"), [("resnet18", 20, 1e-5), ("efficientnet_v2_s", 109, 1e-3), ("convnext_tiny", 0, None)]
)
def test_frozen_batch_norm_keeps_its_epsilon(name: str, norms: int, epsilon: float | None) -> None:
    trainable = _on_meta(backbone=name, batch_norm="trainable").body
    frozen = _on_meta(backbone=name, batch_norm="frozen").body
    before = [module for module in trainable.modules() if isinstance(module, nn.BatchNorm2d)]
    after = [module for module in frozen.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(before) == len(after) == norms
    assert {module.eps for module in [*before, *after]} == ({epsilon} if epsilon else set())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())


@pytest.mark.parametrize(("name", "version"), [("convnext_tiny", "v2"), ("efficientnet_v2_s", "v1")])
def test_a_modern_backbone_trains_and_detects(name: Any, version: Any) -> None:
    config = DetectorConfig(backbone=name, version=version, weights="none", box_samples=32, proposals_after_nms=50)
    detector = build_detector(config).to(memory_format=torch.channels_last)
    losses = detector(torch.randn(2, 1, 32, 32), [TARGET, TARGET])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [key for key, parameter in detector.named_parameters() if parameter.grad is None] == []
    with torch.inference_mode():
        first, second = (detector.eval()(torch.ones(1, 1, 32, 32)) for _ in range(2))  # stochastic depth is off
    assert torch.equal(first[0]["scores"], second[0]["scores"])


def _file(folder: Path, name: str) -> dict[str, Tensor]:
    """A file with the name and the entries of torchvision's, each entry with values of its own."""
    with torch.device("meta"):
        shapes = getattr(models, name)().state_dict()
    state = {
        key: torch.arange(value.numel(), dtype=value.dtype).remainder(7).view(value.shape) + number
        for number, (key, value) in enumerate(shapes.items())
    }
    torch.save(state, folder / FILES[name])
    return state


@pytest.mark.parametrize(
    ("name", "adaptation"),
    [
        ("resnet152", "mean"), ("convnext_tiny", "mean"), ("convnext_tiny", "replicate"),
        ("efficientnet_v2_s", "mean"), ("efficientnet_v2_s", "random"),
    ],
)  # fmt: skip
def test_imagenet_weights(tmp_path: Path, name: Any, adaptation: Any) -> None:
    state = _file(tmp_path, name)
    config = DetectorConfig(backbone=name, input_adaptation=adaptation, batch_norm="trainable")
    assert required_weights(config) == FILES[name]
    body = build_detector(config, weights_dir=tmp_path).backbone.body
    prefix = "" if name.startswith("resnet") else "features."
    first = LAYOUTS[name].first_convolution
    for key, value in body.state_dict().items():
        if key != f"{first}.weight":
            assert torch.equal(value, state[prefix + key]), key
    convolution, rgb = body.get_submodule(first), state[f"{prefix}{first}.weight"]
    assert isinstance(convolution, ReplicatingConv2d) == (adaptation == "replicate")
    if adaptation == "random":
        assert convolution.weight.shape[1] == 1
        assert convolution.weight.abs().max() < 1  # the file's are 0 to 7
    else:
        expected = rgb if adaptation == "replicate" else rgb.mean(dim=1, keepdim=True)
        torch.testing.assert_close(convolution.weight, expected)
    if name == "convnext_tiny":
        assert torch.equal(convolution.bias, state["features.0.0.bias"])


def test_the_table_in_the_documentation_is_up_to_date_and_has_the_report_s_figures(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "parameter_table.py"))
    assert script["main"]([str(tmp_path / "parameters.md")]) == 0
    text = (tmp_path / "parameters.md").read_text()
    assert text == (ROOT / "docs" / "tables" / "parameters.md").read_text()
    for (backbone, version), millions in REPORT_MILLIONS.items():
        assert f"| {backbone} | {version} | {millions:.2f} | {millions:.2f} |" in text
