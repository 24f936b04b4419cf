"""What prediction finds in one frame."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.coordinates import ICRS
from astropy.wcs import WCS

from satdet.data.frames import NoiseUnits

_FIRST_CENTRE = 0.5
"""Edge coordinates of the first pixel's centre, which FITS counts as 1."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The objects found in one frame, best first.

    Attributes
    ----------
    name : str
        Of the frame.
    boxes : ndarray (n, 4), float32
        x1, y1, x2, y2 [px] in edge coordinates: the first pixel reaches from 0 to 1.
    scores : ndarray (n,), float32
        Between 0 and 1.
    wcs : WCS or None
        The frame's celestial coordinate system, if it has one.
    pixel_scale : float
        [deg/px], NaN if the frame does not say.
    box_k : float
        A box has a half side of so many FWHM, by the rule that the detector was trained with.
    noise_units : NoiseUnits
        The frame's pixels, for pictures.
    """

    name: str
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    wcs: WCS | None
    pixel_scale: float
    box_k: float
    noise_units: NoiseUnits

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frame [px]."""
        height, width = self.noise_units.pixels.shape
        return height, width

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """X_IMAGE, Y_IMAGE of each box's centre, (n, 2) [px], the first pixel's centre being 1."""
        boxes = self.boxes.astype(np.float64)
        centres: npt.NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:]) / 2 + _FIRST_CENTRE
        return centres

    @property
    def limits(self) -> npt.NDArray[np.float64]:
        """The edges of each box, (n, 4) x1, y1, x2, y2 [px], the first pixel reaching from 0.5 to 1.5."""
        return self.boxes.astype(np.float64) + _FIRST_CENTRE

    @property
    def sky(self) -> npt.NDArray[np.float64] | None:
        """Right ascension and declination of each centre, (n, 2) [deg], as `to_sky`."""
        return self.to_sky(self.centres)

    @property
    def fwhm(self) -> npt.NDArray[np.float64]:
        """The FWHM that each box implies, (n,) [px]: mean side / (2 k); too large where the rule has a larger k."""
        sides = (self.boxes[:, 2:] - self.boxes[:, :2]).astype(np.float64)
        fwhm: npt.NDArray[np.float64] = sides.mean(axis=1) / (2 * self.box_k)
        return fwhm

    def to_sky(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """Right ascension and declination (n, 2) [deg] of `points` (n, 2) [px, from 1]; None without a WCS.

        Values of a frame in ICRS or FK5 J2000 are as they are (the two agree to 0.03 arcsec); others become ICRS.
        """
        if self.wcs is None:
            return None
        if len(points) == 0:
            return np.empty((0, 2))
        place = self.wcs.pixel_to_world(points[:, 0] - 1, points[:, 1] - 1)
        if not (place.frame.name == "icrs" or (place.frame.name == "fk5" and place.frame.equinox.jyear == 2000)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a frame of the future asks for tables of the Earth's rotation
                place = place.transform_to(ICRS())
        sky: npt.NDArray[np.float64] = np.stack([place.ra.deg, place.dec.deg], axis=1)
        return sky
