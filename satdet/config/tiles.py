"""Which frames and objects are in the tiles, and how frames are cut and split."""

from dataclasses import dataclass, field
from typing import Literal

from satdet._fields import Checked, bounded
from satdet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BoxConfig(Checked):
    """Which catalogue rows are objects, and the square box of each: half side k * FWHM_WORLD / pixel scale.

    The defaults are the report's rule. Where several k apply, bright stars win over elongated objects.
    """

    k: float = bounded(2.0, above=0)
    elongated_k: float = bounded(4.0, above=0)
    elongated_ellipticity: float = bounded(0.5, minimum=0, maximum=1)
    bright_k: float = bounded(3.0, above=0)
    bright_magnitude: float = 14.0
    max_flux_radius: float = bounded(50000.0, above=0)
    unmeasured_flux_radius: float = 99.0
    """What the extraction writes for a radius that it could not measure."""
    max_flags: int = bounded(0, minimum=0)
    """A row with larger FLAGS is an ignored region: neither object nor background."""
    min_visible: float = bounded(0.4, above=0, maximum=1)
    """Smallest share of a box's area inside a tile for it to count as an object of that tile."""


@dataclass(frozen=True, kw_only=True)
class TilesConfig(Checked):
    """All that decides what is in a tile store, and nothing else: its digest is the store's name."""

    size: int = bounded(512, minimum=32, maximum=8192)
    """Side of a tile in px."""
    overlap: int = bounded(0, minimum=0)
    """Smallest overlap of neighbouring tiles in px; the last row and column always shift inwards to fit."""
    accepted_labels: tuple[str, ...] = ("OK", "GALAXY", "BINARY")
    """A frame with a label outside these is excluded; a frame without any label is used."""
    duplicate_correlation: float = bounded(0.5, above=0, maximum=1)
    """Frames whose noise correlates by more are one exposure, of which one is used. What was measured of exposures
    processed again, and of other exposures of one field, is in ``docs/tables/duplicates.md``."""
    train_share: float = bounded(0.81, above=0, maximum=1)
    validation_share: float = bounded(0.09, minimum=0, maximum=1)
    """The rest is the test split."""
    split_seed: int = bounded(0, minimum=0)
    group: Literal["frame", "night", "field"] = "frame"
    """What is never divided between splits: a frame, all frames of a night, or all that see a part of the same sky."""
    box: BoxConfig = field(default_factory=BoxConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap >= self.size:
            raise ConfigError(f"TilesConfig.overlap = {self.overlap} is not smaller than size = {self.size}")
        if self.train_share + self.validation_share > 1 + 1e-9:
            raise ConfigError("TilesConfig.train_share + validation_share is above 1")
