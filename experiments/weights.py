"""Stand-ins for published weights, so that a smoke run needs no network."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from satdet._storage import sync
from satdet.config import DetectorConfig
from satdet.config.detector import PRETRAINED


def stand_in_weights(folder: Path, detectors: Iterable[DetectorConfig]) -> Path:
    """Make the published files that `detectors` ask for, with random weights of a fixed seed, where they are not there.

    They are loaded by the very path that the published ones are, and teach a detector nothing.

    Parameters
    ----------
    folder : Path
        For ``--weights-dir``; nothing that looks there by name can tell the files from published ones, so it belongs to
        smoke runs alone.
    detectors : iterable of DetectorConfig
    """
    import torch

    from satdet.detector import required_weights

    for detector in detectors:
        name = required_weights(detector)
        if name is None or detector.weights not in PRETRAINED or (folder / name).exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        partial = (folder / name).with_suffix(".partial")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(_network(detector).state_dict(), partial)
        sync(partial)
        partial.replace(folder / name)
        sys.stderr.write(f"smoke run: random weights stand in for {name}; --weights-dir takes published ones\n")
    return folder


def _network(detector: DetectorConfig) -> Any:
    from torchvision.models import get_model
    from torchvision.models.detection import fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2

    if detector.weights == "backbone":
        return get_model(detector.backbone, weights=None)
    build = fasterrcnn_resnet50_fpn if detector.version == "v1" else fasterrcnn_resnet50_fpn_v2
    return build(weights=None, weights_backbone=None)
