"""Pretrained weights: which file a configuration needs, where it is, and loading it."""

import contextlib
import pickle
import sys
import urllib.request
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights, ResNet101_Weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights, FasterRCNN_ResNet50_FPN_Weights

from satdet.config import DetectorConfig
from satdet.detector.backbone import adapt_first_convolution
from satdet.errors import WeightsError

# ImageNet weights of torchvision's first recipe, on which its own Faster R-CNN v1 starts; v2 starts on the same here,
# so that a comparison of versions or backbones does not also compare recipes.
_IMAGENET = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet34": ResNet34_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}
_COCO = {"v1": FasterRCNN_ResNet50_FPN_Weights.COCO_V1, "v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1}
_TIMEOUT_SECONDS = 20.0
_COCO_ANCHORS_A_CELL = 3
_FIRST_CONVOLUTION = "backbone.body.conv1.weight"


def required_weights(config: DetectorConfig) -> str | None:
    """Name of the file with the pretrained weights that `config` asks for; None when it asks for none."""
    url = _url(config)
    return PurePosixPath(url).name if url else None


def find_weights(config: DetectorConfig, weights_dir: Path | None) -> Path | None:
    """The file with the pretrained weights of `config`, downloaded if need be; None when it asks for none.

    Looked for in `weights_dir`, then in torch hub's checkpoint folder (below ``TORCH_HOME``), then downloaded to that
    folder. A download is checked against the hash in the file's name; a file that is already there is taken as it is.

    Raises
    ------
    WeightsError
        When the file is nowhere and cannot be downloaded.
    """
    url, name = _url(config), required_weights(config)
    if url is None or name is None:
        return None
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    for folder in (weights_dir, hub):
        if folder is not None and (folder / name).is_file():
            return folder / name
    try:
        _download(url)
    except (OSError, RuntimeError) as error:
        place = weights_dir or hub
        raise WeightsError(
            f"pretrained weights {name} are not on this machine and {url} cannot be downloaded ({error}); "
            f"put the file in {place}, or train from scratch with detector.weights=none"
        ) from None
    return hub / name


def load_pretrained(detector: nn.Module, config: DetectorConfig, path: Path) -> None:
    """Load the file at `path` into a detector of `config`.

    Left out, and so random: the box predictor; the first convolution when ``input_adaptation`` is random; the RPN's two
    output layers when the number of aspect ratios is not COCO's three; with ImageNet weights all but the ResNet.

    Raises
    ------
    WeightsError
        When the file is damaged, or holds other weights than its name says.
    """
    state = _read(path)
    if config.weights == "backbone":
        state = {f"backbone.body.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    fresh = _fresh_names(detector, config)
    if _FIRST_CONVOLUTION in state:
        adapted = adapt_first_convolution(state[_FIRST_CONVOLUTION], config)
        if adapted is not None:
            state[_FIRST_CONVOLUTION] = adapted
    state = {key: value for key, value in state.items() if key not in fresh}
    try:
        outcome = detector.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _unfit(path, config, str(error).replace("\n", " ")) from None
    wrong = sorted(set(outcome.missing_keys) ^ fresh) + outcome.unexpected_keys
    if wrong:
        raise _unfit(path, config, f"{len(wrong)} entries differ, the first is {wrong[0]}")


def _url(config: DetectorConfig) -> str | None:
    if config.weights == "none":
        return None
    entry = _IMAGENET[config.backbone] if config.weights == "backbone" else _COCO[config.version]
    return str(entry.url)


def _download(url: str) -> None:
    """Download to torch hub's checkpoint folder; the standard output stays free for results."""
    request = urllib.request.Request(url, method="HEAD")
    urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()  # the download itself has no timeout
    with contextlib.redirect_stdout(sys.stderr):
        torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
        )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: cannot be read as weights ({reason}); remove the file and get it again") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no weights; remove the file and get it again")
    return dict(state)


def _fresh_names(detector: nn.Module, config: DetectorConfig) -> set[str]:
    """The entries of the detector's state that pretrained weights do not set."""
    names = list(detector.state_dict())
    fresh = {name for name in names if name.startswith("roi_heads.box_predictor.")}
    if config.input_adaptation == "random":
        fresh.add(_FIRST_CONVOLUTION)
    if len(config.aspect_ratios) != _COCO_ANCHORS_A_CELL:
        fresh |= {name for name in names if name.startswith(("rpn.head.cls_logits.", "rpn.head.bbox_pred."))}
    if config.weights == "backbone":
        fresh |= {name for name in names if not name.startswith("backbone.body.")}
    return fresh


def _unfit(path: Path, config: DetectorConfig, reason: str) -> WeightsError:
    return WeightsError(f"{path}: does not fit {config.backbone} {config.version} ({reason}); get the file again")
