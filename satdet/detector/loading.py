"""Weights from a file into a detector that need not be the same: other classes, anchors, input channels or freezing."""

import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from satdet._archives import check_members, check_sums
from satdet.config import DetectorConfig
from satdet.config.detector import PRETRAINED
from satdet.detector.adapters import merge_low_rank
from satdet.detector.backbone import COCO_V1_EPSILON, LAYOUTS, FrozenBatchNorm
from satdet.errors import WeightsError

logger = logging.getLogger(__name__)

_BODY = "backbone.body."
_ADAPTER = f"{_BODY}adapter"
_REPLACEABLE = ("roi_heads.box_predictor.", "rpn.head.cls_logits.", "rpn.head.bbox_pred.")
"""Layers whose shapes follow from the number of classes or of anchors a cell."""
_COCO_ENTRY = {"detector.weights": "detector", "detector.version": "v1"}


@dataclass(frozen=True)
class Source:
    """The weights of a file, without corrections of low rank, and the configuration if they are ours."""

    state: dict[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def replicated(self) -> bool:
        """Whether the three channels of the first convolution were given the same."""
        return self.config.get("detector.input_adaptation") == "replicate"

    @property
    def without_epsilon(self) -> bool:
        """Whether its frozen batch norm had torchvision's epsilon of COCO v1, which is not in the state."""
        return all(self.config.get(key) == value for key, value in _COCO_ENTRY.items())


def load_pretrained(detector: nn.Module, config: DetectorConfig, path: Path) -> list[str]:
    """Load the file at `path` into a new detector of `config`, before corrections of low rank are put on.

    The file holds torchvision's weights, an exported model or a checkpoint of ours (then the averaged weights if there
    are any), or a plain state dict in torchvision's names, of a detector or of a backbone alone. Corrections of low
    rank in it are merged into the weights that they correct.

    Left as they are, so random: what a backbone alone does not hold; box predictor and RPN output layers of another
    shape, that is of another number of classes or of anchors a cell; the first convolution when its channels differ
    and ``input_adaptation`` is random; adapters that the file does not have. All else must fit.

    Returns
    -------
    list of str
        The entries of the detector's state that were left as they are, sorted; they are also logged.

    Raises
    ------
    WeightsError
        When the file is damaged, or does not fit.
    """
    source = read_source(path)
    alone = not any(name.startswith("backbone.") for name in source.state)
    if config.weights in PRETRAINED and alone != (config.weights == "backbone"):
        raise _unfit(path, config, f"it holds {'a backbone alone' if alone else 'a whole detector'}")
    own = detector.state_dict()
    given = _in_names_of_a_detector(source.state, config) if alone else source.state
    state = _without_other_shapes(_adapt_first_convolution(given, own, config, replicated=source.replicated), own)
    may_be_missing = given.keys() - state.keys()
    may_be_missing |= {name for name in own if name.startswith(_ADAPTER) or (alone and not name.startswith(_BODY))}
    try:
        outcome = detector.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _unfit(path, config, " ".join(str(error).split())) from None
    wrong = sorted(set(outcome.missing_keys) - may_be_missing) + outcome.unexpected_keys
    if wrong:
        raise _unfit(path, config, f"{len(wrong)} entries differ, the first is {wrong[0]}")
    if source.without_epsilon:
        _keep_epsilon(detector, COCO_V1_EPSILON)
    fresh = sorted(outcome.missing_keys)
    if fresh:
        level = logging.INFO if config.weights in PRETRAINED else logging.WARNING
        logger.log(level, "%s does not set %s", path, ", ".join(fresh))
    return fresh


def read_source(path: Path) -> Source:
    """The weights at `path`, on the CPU; no code in the file is ever run.

    Raises
    ------
    WeightsError
        When the file is damaged or holds no weights.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise almost anything
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{path}: cannot be read as weights ({reason}); remove the file and get it again") from None
    state, config = _unwrap(content)
    if not isinstance(state, dict) or not state or not all(map(_is_entry, state.items())):
        raise WeightsError(f"{path}: holds no weights; remove the file and get it again")
    return Source(merge_low_rank(state), config)


def _check_archive(path: Path) -> None:
    """Raise BadZipFile if it is an archive, and damaged or not as torch writes it."""
    if zipfile.is_zipfile(path):
        with path.open("rb") as file:
            check_members(file)
            check_sums(file)


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _unwrap(content: Any) -> tuple[Any, Mapping[str, Any]]:
    """The state and the configuration in a checkpoint or a model of ours; what else it is comes back as it is."""
    match content:
        case {"learner": {"ema": dict(averaged)}, "identity": {"config": dict(config)}}:
            return averaged, config
        case {"learner": {"model": dict(state)}, "identity": {"config": dict(config)}}:
            return state, config
        case {"kind": "satdet-model", "model": dict(state), "config": dict(config)}:
            return state, config
    return content, {}


def _in_names_of_a_detector(state: Mapping[str, Tensor], config: DetectorConfig) -> dict[str, Tensor]:
    """A backbone's state, which has the names of torchvision's image classification."""
    left_out = LAYOUTS[config.backbone].left_out
    return {
        _BODY + name.removeprefix("features."): value for name, value in state.items() if not name.startswith(left_out)
    }


def _without_other_shapes(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without the replaceable layers whose shapes are not the detector's own."""
    return {
        name: value
        for name, value in state.items()
        if not (name.startswith(_REPLACEABLE) and name in own and value.shape != own[name].shape)
    }


def _adapt_first_convolution(
    state: dict[str, Tensor], own: Mapping[str, Tensor], config: DetectorConfig, *, replicated: bool
) -> dict[str, Tensor]:
    """Bring the first convolution's weights (out, channels, k, k) to the channels that the detector's own has.

    From RGB to one channel by the mean, as the configuration says. Where one channel was or will be replicated, the
    response to it stays the same.
    """
    name = _BODY + LAYOUTS[config.backbone].first_convolution + ".weight"
    channels = own[name].shape[1]
    if name not in state or state[name].shape[1] == channels:
        return state
    state = dict(state)
    weight = state.pop(name)
    if config.input_adaptation == "replicate":
        state[name] = (weight.sum(dim=1, keepdim=True) / channels).expand(-1, channels, -1, -1)
    elif config.input_adaptation == "mean":
        state[name] = weight.sum(dim=1, keepdim=True) if replicated else weight.mean(dim=1, keepdim=True)
    return state


def _keep_epsilon(detector: nn.Module, epsilon: float) -> None:
    """Shift the variances of frozen batch norm, so that it normalises as it did with `epsilon`."""
    for module in detector.modules():
        if isinstance(module, FrozenBatchNorm):
            module.running_var += epsilon - module.eps


def _unfit(path: Path, config: DetectorConfig, reason: str) -> WeightsError:
    hint = "get the file again" if config.weights in PRETRAINED else "choose the configuration of its detector"
    if _ADAPTER in reason:
        hint = "adapters go into detector.freezing.mode = adapters of the same width alone"
    return WeightsError(f"{path}: does not fit {config.backbone} {config.version} ({reason[:300]}); {hint}")
