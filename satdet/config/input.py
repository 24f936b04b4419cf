"""What happens to a tile between the store and the detector."""

from dataclasses import dataclass
from typing import Literal

from satdet._fields import Checked, bounded


@dataclass(frozen=True, kw_only=True)
class InputConfig(Checked):
    """How pixels become the detector's input, in training, evaluation and prediction alike."""

    normalisation: Literal["clipped_sigma", "asinh", "zscale", "tile", "counts"] = "clipped_sigma"
    """From noise units s = (x - background) / rms of the frame: clip(s, -5, 20) / 5; asinh(s) / 3; the frame's zscale
    limits to 0 … 1 and clipped; mean 0 and std 1 of each tile; or (x - 0.5) / 0.5 of the raw counts, the report's."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Checked):
    """Random changes of training tiles, each drawn anew for every tile and epoch; evaluation tiles are never changed.

    Applied in this order. A value of None (for the orientation: ``none``) leaves a change out.
    """

    orientation: Literal["none", "rotations", "dihedral"] = "dihedral"
    """Random 90-degree rotations, the report's, or those and reflections."""
    zoom: float | None = bounded(None, above=1, maximum=4)
    """Magnification between 1 / zoom and zoom, log-uniform; boxes grow alike, and what is beyond the tile is sky."""
    crop: int | None = bounded(None, minimum=32)
    """Side [px] of a square cut that holds at least one box, if the tile does; training tiles are then this large."""
    noise: float | None = bounded(None, above=1, maximum=4)
    """Largest factor by which a brighter sky raises the noise, uniform from 1. Sky photons are independent of the
    objects', so Gaussian noise is added and the tile brought back to noise units: objects fade by the same factor."""
    sky: float | None = bounded(None, above=0, maximum=5)
    """Standard deviation [noise units] of an error in the background level and of its slope over the tile."""
