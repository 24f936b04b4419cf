"""Pretrained weights: which file a configuration needs, and where it is."""

import contextlib
import sys
import urllib.request
from pathlib import Path, PurePosixPath

import torch
from torchvision.models import get_model_weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights, FasterRCNN_ResNet50_FPN_Weights

from satdet.config import DetectorConfig
from satdet.config.detector import PRETRAINED
from satdet.errors import WeightsError

_COCO = {"v1": FasterRCNN_ResNet50_FPN_Weights.COCO_V1, "v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1}
_TIMEOUT_SECONDS = 20.0


def required_weights(config: DetectorConfig) -> str | None:
    """The file with the weights that `config` asks for: its name, or the path of a file that is not torchvision's.

    None when it asks for none.
    """
    if config.weights not in PRETRAINED:
        return config.weights
    url = _url(config)
    return PurePosixPath(url).name if url else None


def find_weights(config: DetectorConfig, weights_dir: Path | None) -> Path | None:
    """The file with the weights of `config`, downloaded if need be; None when it asks for none.

    torchvision's files are looked for in `weights_dir`, then in torch hub's checkpoint folder (below ``TORCH_HOME``),
    then downloaded to that folder. A download is checked against the hash in the file's name; a file that is already
    there is taken as it is. A relative path is looked for in `weights_dir`, then in the working directory.

    Raises
    ------
    WeightsError
        When the file is nowhere and cannot be downloaded.
    """
    if config.weights not in PRETRAINED:
        return _find_path(Path(config.weights).expanduser(), weights_dir)
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


def _find_path(path: Path, weights_dir: Path | None) -> Path:
    folders = [folder for folder in (weights_dir, Path.cwd()) if folder is not None]
    for folder in folders:
        if (folder / path).is_file():  # an absolute path stands for itself
            return folder / path
    places = "" if path.is_absolute() else f" in {' or '.join(map(str, folders))}"
    raise WeightsError(f"detector.weights = {path}: there is no such file{places}; give the path of a .pt or .pth file")


def _url(config: DetectorConfig) -> str | None:
    """Of torchvision's weights.

    ImageNet's are those of its first recipe, on which its own Faster R-CNN v1 starts; v2 starts on the same here, so
    that a comparison of versions or backbones does not also compare recipes.
    """
    if config.weights == "none":
        return None
    if config.weights == "backbone":
        return str(get_model_weights(config.backbone)["IMAGENET1K_V1"].url)
    return str(_COCO[config.version].url)


def _download(url: str) -> None:
    """Download to torch hub's checkpoint folder; the standard output stays free for results."""
    request = urllib.request.Request(url, method="HEAD")
    urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()  # the download itself has no timeout
    with contextlib.redirect_stdout(sys.stderr):
        torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
        )
