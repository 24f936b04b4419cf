"""How large the detectors are, and how much of them each way of freezing trains."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from satdet.config import DetectorConfig, FreezingConfig
from satdet.detector.backbone import LAYOUTS
from satdet.detector.freezing import ParameterCount, count_parameters
from satdet.detector.model import build_detector

REPORT_MILLIONS = {
    ("resnet18", "v1"): 28.27,
    ("resnet34", "v1"): 38.37,
    ("resnet50", "v1"): 41.29,
    ("resnet101", "v1"): 60.23,
    ("resnet50", "v2"): 43.25,
}
"""Parameters that the report names, in millions, for one input channel and pretrained weights."""
FREEZING = (
    FreezingConfig(mode="none"),
    FreezingConfig(mode="backbone"),
    FreezingConfig(mode="stem_only"),
    FreezingConfig(mode="stem_and_first_stage_only"),
    *(FreezingConfig(mode="last_stages", stages=stages) for stages in (1, 2, 3)),
    FreezingConfig(mode="alternating"),
    FreezingConfig(mode="adapters"),
    FreezingConfig(mode="lora"),
)
"""Every way of freezing, with its default settings."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One detector of the table: its parameters, and those of its body, the backbone without the pyramid."""

    config: DetectorConfig
    detector: ParameterCount
    body: ParameterCount


def parameter_table() -> Iterator[Row]:
    """Every backbone in both versions, with ImageNet weights and all else by default; nothing is downloaded."""
    for backbone in LAYOUTS:
        yield from (_row({"backbone": backbone, "version": version}) for version in ("v1", "v2"))


def freezing_table(backbone: str = "resnet50") -> Iterator[Row]:
    """Every way of freezing a backbone, in both versions; of the alternating one the first, frozen period."""
    for version in ("v1", "v2"):
        yield from (_row({"backbone": backbone, "version": version, "freezing": each}) for each in FREEZING)


def _row(settings: dict[str, object]) -> Row:
    config = DetectorConfig(**settings)  # type: ignore[arg-type]
    with torch.device("meta"):  # shapes alone, no memory
        detector = build_detector(config, initialise=False)
    return Row(config=config, detector=count_parameters(detector), body=count_parameters(detector.backbone.body))
