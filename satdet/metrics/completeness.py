"""Completeness: which share of the objects of a magnitude is found."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from satdet.metrics.matching import Flags, Values

BIN_WIDTH = 0.5
"""Of the magnitude bins [mag]; their edges are multiples of it."""
_UNMEASURED = 90.0
"""SExtractor writes 99 for a magnitude that it could not measure."""
_DEVIATES = 1.959964
"""Standard deviations of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Completeness:
    """The share of objects found, by magnitude.

    Attributes
    ----------
    edges : ndarray (bins + 1,)
        [mag]; empty without any object of known magnitude.
    objects, found : ndarray (bins,)
        Numbers of objects, and of those that a detection of at least the score threshold is right about.
    low, high : ndarray (bins,)
        Wilson's interval of 95 % for the share [1]_; 0 and 1 in a bin without objects.

    References
    ----------
    .. [1] Wilson 1927, J. Am. Stat. Assoc. 22, 209
    """

    edges: Values
    objects: npt.NDArray[np.intp]
    found: npt.NDArray[np.intp]
    low: Values
    high: Values

    @property
    def share(self) -> Values:
        """Objects found over objects, (bins,); NaN in a bin without objects."""
        share: Values = np.where(self.objects > 0, self.found / np.maximum(self.objects, 1), np.nan)
        return share

    @property
    def magnitude_50(self) -> float:
        """The magnitude [mag] at which completeness falls to 50 %.

        The shares are made to fall from bin to bin by isotonic regression, weighted by objects, so that a bin of few
        objects decides nothing alone; between the centres of the last bin of at least 50 % and the next one the value
        is interpolated. The faintest edge where completeness never falls below 50 %, the brightest where it is never
        above; 0 without any object of known magnitude.
        """
        from scipy.optimize import isotonic_regression  # slow to import

        filled = self.objects > 0
        if not filled.any():
            return 0.0
        centres = ((self.edges[:-1] + self.edges[1:]) / 2)[filled]
        falling = isotonic_regression(self.share[filled], weights=self.objects[filled], increasing=False).x
        enough = int((falling >= 0.5).sum())
        if enough in (0, len(falling)):
            return float(self.edges[-1 if enough else 0])
        bright, faint = falling[enough - 1], falling[enough]
        step = centres[enough] - centres[enough - 1]
        return float(centres[enough - 1] + step * (bright - 0.5) / (bright - faint))


def completeness(magnitudes: Values, found: Flags) -> Completeness:
    """Bin objects by magnitude.

    Parameters
    ----------
    magnitudes : ndarray (n,)
        [mag]; objects with NaN or SExtractor's 99 are left out.
    found : ndarray (n,)
        Whether each object is found.
    """
    known = np.isfinite(magnitudes) & (magnitudes < _UNMEASURED)
    magnitudes, found = magnitudes[known], found[known]
    if len(magnitudes) == 0:
        none, nothing = np.empty(0), np.empty(0, dtype=np.intp)
        return Completeness(none, nothing, nothing, none, none)
    first, last = np.floor(magnitudes.min() / BIN_WIDTH), np.floor(magnitudes.max() / BIN_WIDTH) + 1
    edges = np.arange(first, last + 1) * BIN_WIDTH
    place = np.searchsorted(edges, magnitudes, side="right") - 1
    objects = np.bincount(place, minlength=len(edges) - 1)
    hits = np.bincount(place[found], minlength=len(edges) - 1)
    return Completeness(edges, objects, hits, *_wilson(hits, objects))


def _wilson(hits: npt.NDArray[np.intp], trials: npt.NDArray[np.intp]) -> tuple[Values, Values]:
    square = _DEVIATES**2
    count = np.maximum(trials, 1)
    share = hits / count
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _DEVIATES / (1 + square / count) * np.sqrt(share * (1 - share) / count + square / (4 * count**2))
    empty = trials == 0
    return np.where(empty, 0, np.clip(centre - half, 0, 1)), np.where(empty, 1, np.clip(centre + half, 0, 1))
