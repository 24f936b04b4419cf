"""From checkpoints to a model: the best weights, and what prediction needs besides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from satdet.config import TrialConfig, unflatten
from satdet.detector import Detector, build_detector, suppress
from satdet.errors import CheckpointError, ConfigError
from satdet.training import files
from satdet.training.identity import check_identity
from satdet.training.learner import computes_bfloat16
from satdet.training.patience import ONCE, StoragePatience
from satdet.training.remarks import Remarks

KIND, FORMAT = "satdet-model", 1


def export_model(
    directory: Path,
    *,
    identity: dict[str, Any] | None = None,
    patience: StoragePatience = ONCE,
    remarks: Remarks | None = None,
) -> Path:
    """Write ``model.pt``: the best weights of the trial in `directory`.

    A ``model.pt`` that has them already stays as it is. Where they are lost, because ``best.pt`` is missing, damaged or
    another trial's, the newest whole checkpoint stands in, with a warning in the log and a remark.

    Parameters
    ----------
    directory : Path
    identity : dict, optional
        Of the trial, from `trial_identity`.
    patience : StoragePatience
        With what cannot be read or written.
    remarks : Remarks, optional

    Raises
    ------
    CheckpointError
        If there is no whole checkpoint.
    StorageError
        If the storage cannot be read or written.
    """
    path, lost = directory / files.MODEL, None
    try:
        saved = _checkpoint(directory / files.BEST, identity, patience)
    except CheckpointError as error:
        newest, saved, _ = files.newest_epoch(directory, patience)
        if newest is None:
            raise CheckpointError(f"{directory}: there is no whole checkpoint to export") from None
        lost = f"{error}; {newest.name} is exported in its place"
    if _is_exported(path, saved, patience):
        return path
    made_by, history = saved["identity"], saved["progress"]["history"]
    if lost is not None:
        files.logger.warning("%s", lost)
        if remarks is not None:
            remarks.add(f"{files.BEST} is lost; {files.MODEL} has epoch {len(history)} in its place")
    content = {
        "kind": KIND,
        "format": FORMAT,
        "model": saved["learner"].get("ema", saved["learner"]["model"]),
        "config": made_by["config"],
        "normalisation": made_by["config"]["input.normalisation"],
        "seed": made_by["seed"],
        "store": made_by["store"],
        "epoch": len(history),
        "metrics": history[-1]["metrics"],
    }
    return files.write_model(directory, content, patience)


@dataclass(frozen=True)
class Model:
    """A trained detector with all that using it needs.

    Attributes
    ----------
    path : Path
        The file that it came from.
    detector : Detector
        On `device`, in evaluation mode.
    config : TrialConfig
        Of the trial that trained it: its data rule is ``config.tiles``, its normalisation that of ``config.input``.
    device : torch.device
    store : str
        Digest of the tile store that it was trained on.
    metrics : dict of float
        Of its epoch.
    """

    path: Path
    detector: Detector
    config: TrialConfig
    device: torch.device
    store: str
    metrics: dict[str, float]

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Detections of normalised tiles (B, 1, H, W), one dict a tile, as `Detector` returns them, on the CPU."""
        config = self.config.detector
        found = self.candidates(images, config.score_threshold)
        return [_on_cpu(tile) for tile in suppress(found, config.nms_threshold, config.max_detections)]

    @torch.inference_mode()
    def candidates(self, images: Tensor, score_threshold: float) -> list[dict[str, Tensor]]:
        """All boxes of each tile (B, 1, H, W) above a score, before non-maximum suppression, as `Detector.candidates`.

        In the precision and memory format of the training, so that a tile gives what it gave there.
        """
        training, heads = self.config.training, self.detector.roi_heads
        images = images.to(self.device, non_blocking=True)
        if training.channels_last:
            images = images.to(memory_format=torch.channels_last)
        declared, heads.score_thresh = heads.score_thresh, score_threshold
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
                return self.detector.candidates(images)
        finally:
            heads.score_thresh = declared

    @property
    def _bfloat16(self) -> bool:
        precision = self.config.training.precision
        return precision == "bfloat16" or (precision == "auto" and computes_bfloat16(self.device))


def default_device() -> str:
    """``cuda`` if there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_model(path: Path, device: str | torch.device = "cpu") -> Model:
    """Open a ``model.pt``; nothing in it is ever run as code.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, not an exported model or of another format, if its configuration is not one
        of this version or disagrees with its normalisation, or if its weights do not fit its configuration.
    """
    content = files.read(path)
    _check_kind(path, content)
    config = _config(path, content)
    detector = build_detector(config.detector, initialise=False)
    try:
        detector.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights do not fit its configuration ({reason})") from None
    where = torch.device(device)
    detector.to(where).eval()
    if config.training.channels_last:
        detector.to(memory_format=torch.channels_last)
    return Model(path, detector, config, where, str(content.get("store", "")), dict(content.get("metrics", {})))


def load_model(path: Path, device: str | torch.device = "cpu") -> tuple[Detector, TrialConfig]:
    """The detector and the configuration of `open_model`."""
    model = open_model(path, device)
    return model.detector, model.config


def _checkpoint(path: Path, identity: dict[str, Any] | None, patience: StoragePatience) -> dict[str, Any]:
    content = files.read(path, patience)
    if not {"identity", "learner", "progress"} <= content.keys():
        raise CheckpointError(f"{path}: not a checkpoint of a trial")
    if identity is not None:
        check_identity(path, content["identity"], identity)
    return content


def _is_exported(path: Path, saved: dict[str, Any], patience: StoragePatience) -> bool:
    """Whether `path` is a whole model of the best epoch of the checkpoint `saved`."""
    try:
        model = files.read(path, patience)
    except CheckpointError:
        return False
    history, identity = saved["progress"]["history"], saved["identity"]
    best = max((epoch for epoch, entry in enumerate(history, start=1) if entry["improved"]), default=len(history))
    wanted = {key: identity[key] for key in ("seed", "store")}
    wanted |= {"epoch": best, "metrics": history[best - 1]["metrics"]}
    return model.get("kind") == KIND and wanted == {key: model.get(key) for key in wanted}


def _on_cpu(tile: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in tile.items()}


def _check_kind(path: Path, content: dict[str, Any]) -> None:
    if content.get("kind") == KIND and content.get("format") == FORMAT:
        return
    if {"learner", "identity"} <= content.keys():
        raise CheckpointError(
            f"{path}: not a model of format {FORMAT} but a checkpoint for training to go on from; "
            f"give the {files.MODEL} beside it"
        )
    if content.get("kind") == KIND:
        raise CheckpointError(f"{path}: a model of format {content.get('format')!r}, this version reads {FORMAT}")
    raise CheckpointError(f"{path}: not a model of satdet (kind {content.get('kind')!r}); use a trial's {files.MODEL}")


def _config(path: Path, content: dict[str, Any]) -> TrialConfig:
    missing = [key for key in ("model", "config", "normalisation") if key not in content]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}; export it again from its trial")
    try:
        config = unflatten(content["config"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: made with a configuration that this version does not know: {error}") from None
    if content["normalisation"] != config.input.normalisation:
        raise CheckpointError(
            f"{path}: normalisation = {content['normalisation']!r}, but its configuration has input.normalisation = "
            f"{config.input.normalisation!r}; it was altered, export it again from its trial"
        )
    return config
