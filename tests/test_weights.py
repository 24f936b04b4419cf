"""Weights: torchvision's files, our own, and detectors that differ from those they come from."""

import hashlib
import logging
import shutil
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2
from torchvision.ops import FrozenBatchNorm2d

from satdet.config import DetectorConfig, FreezingConfig, TrialConfig, flatten
from satdet.detector import Detector, build_detector, find_weights, required_weights
from satdet.detector.backbone import FrozenBatchNorm
from satdet.detector.loading import load_pretrained
from satdet.errors import WeightsError
from satdet.training import export_model, files, load_model

COCO_V1 = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
COCO_V2 = "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
IMAGENET_18 = "resnet18-f37072fd.pth"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One suits a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_litter(tmp_path: Path) -> Iterator[None]:
    """A file of weights has 40 to 170 MB; pytest would keep those of three runs."""
    yield
    shutil.rmtree(tmp_path)


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


def _damage_one_bit(path: Path) -> None:
    torch.save(_trained_resnet18(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _damage_old_format(path: Path) -> None:
    torch.save({"weight": torch.zeros(9)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-3])


def _damage_numbers_for_names(path: Path) -> None:
    torch.save({1: torch.zeros(9)}, path)


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


# --- files of our own, and detectors that differ from those they come from


SMALL: dict[str, Any] = {"backbone": "resnet18", "weights": "none", "score_threshold": 0.0, "proposals_after_nms": 20}
PREDICTOR = [
    f"roi_heads.box_predictor.{layer}.{part}" for layer in ("bbox_pred", "cls_score") for part in ("bias", "weight")
]
FIRST = "backbone.body.conv1.weight"


def _trained(**settings: Any) -> Detector:
    """A detector whose statistics of batch norm and whose adapters and corrections are not those of a new one."""
    detector = build_detector(DetectorConfig(**(SMALL | settings)))
    for name, value in detector.state_dict().items():
        if "running_" in name or name.endswith(".up"):
            value.uniform_(0.5, 1.0)
        elif ".adapter" in name:
            value.uniform_(0.0, 0.01)
    return detector


def _checkpoint(folder: Path, detector: Detector, average: Detector | None = None, **settings: Any) -> Path:
    """The best checkpoint of a trial, written as trials write it."""
    folder.mkdir()
    learner = {"model": detector.state_dict()} | ({"ema": average.state_dict()} if average is not None else {})
    config = flatten(TrialConfig(detector=DetectorConfig(**(SMALL | settings))))
    content = {
        "format": 1,
        "identity": {"config": config, "seed": 1, "store": "0123"},
        "learner": learner,
        "progress": {"history": [{"metrics": {}, "improved": True}]},
    }
    files.link_best(files.write_epoch(folder, 1, content))
    return folder / files.BEST


def _state_file(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def _from(path: Path, **settings: Any) -> Detector:
    return build_detector(DetectorConfig(**(SMALL | {"weights": str(path)} | settings)))


def _levels(detector: Detector) -> list[Tensor]:
    with torch.inference_mode():
        return list(detector.eval().backbone(_images(1, 32)).values())


def _assert_detects_as(detector: Detector, other: Detector) -> None:
    with torch.inference_mode():
        found, wanted = (each.eval()(_images(1, 32))[0] for each in (detector, other))
    assert len(wanted["boxes"]) > 0
    torch.testing.assert_close(found["boxes"], wanted["boxes"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found["scores"], wanted["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_norm", ["auto", "trainable"])
def test_a_model_of_ours_detects_the_same_after_another_start(
    tmp_path: Path, batch_norm: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = _trained()
    path = export_model(_checkpoint(tmp_path / "trial", source).parent)
    target = _from(path, batch_norm=batch_norm)
    assert caplog.messages == []
    assert any(isinstance(module, FrozenBatchNorm) for module in target.modules()) == (batch_norm == "auto")
    _assert_detects_as(target, source)


def test_of_a_checkpoint_the_average_is_taken(tmp_path: Path) -> None:
    source, average = _trained(), _trained()
    _assert_detects_as(_from(_checkpoint(tmp_path / "one", source)), source)
    _assert_detects_as(_from(_checkpoint(tmp_path / "two", source, average)), average)


def test_weights_of_frozen_batch_norm_go_into_trainable(tmp_path: Path) -> None:
    source = _trained(batch_norm="frozen")
    target = _from(_state_file(tmp_path / "state.pt", source.state_dict()), batch_norm="trainable")
    _assert_detects_as(target, source)


def test_another_number_of_classes_leaves_the_predictor_fresh_and_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = _trained().state_dict()
    for name in PREDICTOR:
        rows = 5 if "cls_score" in name else 20
        state[name] = torch.zeros(rows, *state[name].shape[1:])
    path = _state_file(tmp_path / "five.pth", state)
    config = DetectorConfig(**(SMALL | {"weights": str(path)}))
    target = build_detector(config)
    assert caplog.messages == [f"{path} does not set {', '.join(PREDICTOR)}"]
    assert caplog.records[0].levelno == logging.WARNING
    assert load_pretrained(target, config, path) == PREDICTOR
    differing = [name for name, value in target.state_dict().items() if not torch.equal(value, state[name])]
    assert sorted(differing) == PREDICTOR


def test_other_anchors_leave_the_output_layers_of_the_proposal_generator_fresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = _from(_state_file(tmp_path / "three.pt", _trained().state_dict()), aspect_ratios=(1.0, 2.0))
    assert target.rpn.head.cls_logits.out_channels == 2
    names = [f"rpn.head.{layer}.{part}" for layer in ("bbox_pred", "cls_logits") for part in ("bias", "weight")]
    assert caplog.messages == [f"{tmp_path / 'three.pt'} does not set {', '.join(names)}"]


def test_a_backbone_alone_by_its_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = _trained_resnet18()
    target = _from(_state_file(tmp_path / "my backbone.pth", state))
    assert torch.equal(target.backbone.body.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    torch.testing.assert_close(target.backbone.body.conv1.weight, state["conv1.weight"].mean(dim=1, keepdim=True))
    assert "backbone.fpn." in caplog.text and "backbone.body." not in caplog.text


@pytest.mark.parametrize(("source", "target"), [("mean", "replicate"), ("replicate", "mean"), ("random", "mean")])
def test_our_own_weights_respond_the_same_with_other_input_channels(tmp_path: Path, source: Any, target: Any) -> None:
    detector = _trained(input_adaptation=source)
    path = _checkpoint(tmp_path / "trial", detector, input_adaptation=source)
    for own, other in zip(_levels(_from(path, input_adaptation=target)), _levels(detector), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-3)


def test_weights_of_three_colours_become_their_mean_and_random_leaves_them_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = _trained(input_adaptation="replicate").state_dict()  # of whom the file does not say what its channels saw
    path = _state_file(tmp_path / "rgb.pt", state)
    assert torch.equal(_from(path).state_dict()[FIRST], state[FIRST].mean(dim=1, keepdim=True))
    assert caplog.messages == []
    assert _from(path, input_adaptation="random").state_dict()[FIRST].shape == (64, 1, 7, 7)
    assert caplog.messages == [f"{path} does not set {FIRST}"]


@pytest.mark.parametrize("mode", ["none", "lora"])
def test_corrections_of_low_rank_are_merged(tmp_path: Path, mode: Any) -> None:
    freezing = FreezingConfig(mode="lora", rank=2, lora_scale=0.01)
    source = _trained(freezing=freezing)
    target = _from(_checkpoint(tmp_path / "trial", source, freezing=freezing), freezing=FreezingConfig(mode=mode))
    assert any(name.endswith(".up") for name in target.state_dict()) == (mode == "lora")
    _assert_detects_as(target, source)


def test_adapters_go_into_adapters_of_the_same_width_alone(tmp_path: Path) -> None:
    narrow = FreezingConfig(mode="adapters", width=4)
    source = _trained(freezing=narrow)
    path = _checkpoint(tmp_path / "trial", source, freezing=narrow)
    _assert_detects_as(_from(path, freezing=narrow), source)
    for other in (FreezingConfig(), FreezingConfig(mode="adapters", width=8)):
        with pytest.raises(WeightsError, match=r"backbone\.body\.adapter1.*adapters of the same width alone") as caught:
            _from(path, freezing=other)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["adapters", "lora"])
def test_an_exported_model_has_its_adapters_and_corrections(tmp_path: Path, mode: Any) -> None:
    freezing = FreezingConfig(mode=mode, width=4, rank=2, lora_scale=0.01)
    source = _trained(freezing=freezing)
    path = export_model(_checkpoint(tmp_path / "trial", source, freezing=freezing).parent)
    restored, config = load_model(path)
    assert config.detector.freezing == freezing
    assert restored.state_dict().keys() == source.state_dict().keys()
    _assert_detects_as(restored, source)


def test_the_epsilon_of_coco_v1_goes_with_its_weights(tmp_path: Path) -> None:
    settings = {"backbone": "resnet50", "weights": "detector", "score_threshold": 0.0, "proposals_after_nms": 20}
    source = build_detector(DetectorConfig(**settings), initialise=False)
    for name, value in source.state_dict().items():
        if "running_var" in name:
            value.uniform_(1e-6, 1e-5)  # channels that the epsilon would change
        if name.endswith("bn1.weight") or "bn2.weight" in name or "bn3.weight" in name:
            value.fill_(1e-3)
    path = _checkpoint(tmp_path / "trial", source, **settings)
    target = build_detector(DetectorConfig(**(settings | {"weights": str(path)})))
    assert {module.eps for module in target.modules() if isinstance(module, FrozenBatchNorm)} == {1e-5}
    for own, other in zip(_levels(target), _levels(source), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-2, atol=1e-4)


def test_a_path_is_looked_for_in_the_folder_of_weights_and_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    config = DetectorConfig(weights="mine/model.pt")
    assert required_weights(config) == "mine/model.pt"
    with pytest.raises(WeightsError, match=f"mine/model.pt: there is no such file in {there} or {here}"):
        find_weights(config, there)
    for folder in (here, there):
        (folder / "mine").mkdir()
        (folder / "mine" / "model.pt").touch()
        assert find_weights(config, there) == folder / "mine" / "model.pt"
    with pytest.raises(WeightsError, match=r"/nowhere/model\.pth: there is no such file; give the path"):
        find_weights(DetectorConfig(weights="/nowhere/model.pth"), there)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_damage_truncate, "cannot be read as weights"),
        (_damage_one_bit, "cannot be read as weights .wrong checksum"),
        (_damage_old_format, "cannot be read as weights"),
        (_damage_numbers_for_names, "holds no weights"),
        (_damage_other_network, "does not fit resnet18 v1 .*choose the configuration of its detector"),
        (_damage_not_a_state, "holds no weights"),
        (_damage_code, "cannot be read as weights"),
    ],
)
def test_a_damaged_file_of_our_own(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=message) as caught:
        _from(tmp_path / "model.pt")
    assert str(tmp_path / "model.pt") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"version": "v2"}, {"backbone": "resnet34"}, {"backbone": "convnext_tiny"}])
def test_weights_of_another_detector_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = _state_file(tmp_path / "model.pt", _trained().state_dict())
    with pytest.raises(WeightsError, match="does not fit"):
        _from(path, **settings)


def test_named_weights_must_be_what_their_name_says(tmp_path: Path) -> None:
    _state_file(tmp_path / IMAGENET_18, _trained().state_dict())
    with pytest.raises(WeightsError, match="it holds a whole detector"):
        build_detector(DetectorConfig(backbone="resnet18"), weights_dir=tmp_path)
    _state_file(tmp_path / COCO_V1, _trained_resnet18())
    with pytest.raises(WeightsError, match="it holds a backbone alone"):
        build_detector(DetectorConfig(weights="detector"), weights_dir=tmp_path)


@pytest.mark.parametrize(
    ("weights", "adaptation", "mode", "first"),
    [
        ("none", "mean", "lora", "backbone.body.layer1.0.conv1.weight"),
        ("backbone", "random", "backbone", FIRST),
        ("backbone", "mean", "backbone", None),
        ("backbone", "random", "stem_only", None),
        ("none", "mean", "alternating", None),
    ],
)
def test_parts_that_stay_random_for_good_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, weights: str, adaptation: Any, mode: Any, first: str | None
) -> None:
    _state_file(tmp_path / IMAGENET_18, _trained_resnet18())
    freezing = FreezingConfig(mode=mode)
    config = DetectorConfig(backbone="resnet18", weights=weights, input_adaptation=adaptation, freezing=freezing)
    build_detector(config, weights_dir=tmp_path)
    if first is None:
        assert caplog.messages == []
    else:
        assert f"the first is {first}: detector.freezing.mode = {mode} needs pretrained weights" in caplog.text
    caplog.clear()
    build_detector(config, initialise=False)
    assert caplog.messages == []
