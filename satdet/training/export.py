"""From checkpoints to a model: the best weights, and what prediction needs besides."""

from pathlib import Path

import torch

from satdet.config import TrialConfig, unflatten
from satdet.detector import Detector, build_detector
from satdet.errors import CheckpointError
from satdet.training import files

KIND, FORMAT = "satdet-model", 1


def export_model(directory: Path) -> Path:
    """Write ``model.pt``: the best weights of the trial in `directory`.

    Where ``best.pt`` is missing or damaged, the newest whole checkpoint stands in, with a warning in the log.

    Raises
    ------
    CheckpointError
        If there is no whole checkpoint.
    StorageError
        If the disk is full or cannot be written.
    """
    try:
        saved = files.read(directory / files.BEST)
    except CheckpointError as error:
        path, saved, _ = files.newest_epoch(directory)
        if path is None:
            raise CheckpointError(f"{directory}: there is no whole checkpoint to export") from None
        files.logger.warning("%s; %s is exported in its place", error, path.name)
    history = saved["progress"]["history"]
    content = {
        "kind": KIND,
        "format": FORMAT,
        "model": saved["learner"]["model"],
        "config": saved["identity"]["config"],
        "normalisation": saved["identity"]["config"]["input.normalisation"],
        "seed": saved["identity"]["seed"],
        "store": saved["identity"]["store"],
        "epoch": len(history),
        "metrics": history[-1]["metrics"],
    }
    return files.write_model(directory, content)


def load_model(path: Path, device: str | torch.device = "cpu") -> tuple[Detector, TrialConfig]:
    """Load a ``model.pt`` for prediction.

    Returns
    -------
    Detector
        On `device`, in evaluation mode. It takes tiles that `satdet.data.loading.normalise` made with the
        configuration's ``input.normalisation``.
    TrialConfig
        Of the trial that trained it.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or not an exported model.
    """
    content = files.read(path)
    if content.get("kind") != KIND or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a model of format {FORMAT}; use the {files.MODEL} of a trial")
    config = unflatten(content["config"])
    detector = build_detector(config.detector, initialise=False)
    try:
        detector.load_state_dict(content["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights do not fit its configuration ({reason})") from None
    return detector.to(device).eval(), config
