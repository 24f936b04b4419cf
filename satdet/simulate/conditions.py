"""The conditions of one frame: everything that is drawn before the first photon is."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

PIXEL_SCALE = 0.722 / 3600
"""Pixel scale of the telescope's 1024 px frames [deg/px]."""

DEFECTS = ("ESO", "TRACE", "COMET", "LIGHT", "FRINGES", "AMPLIFIER", "GRADIENT")
"""Labels of frames that no experiment should train on."""

NOTES = {
    "ESO": "saturated stars bleed along their columns",
    "TRACE": "satellite trail",
    "COMET": "comet with coma and tail",
    "LIGHT": "stray light",
    "FRINGES": "interference fringes",
    "AMPLIFIER": "amplifier zones with different bias",
    "GRADIENT": "steep background gradient",
    "GALAXY": "rich in galaxies, one of them large",
    "BINARY": "rich in close pairs of stars",
}

_OK_SHARE = 0.8
_EXTRA_SHARE = 0.15
_EMPTY_SHARE = 1 / 40
_ALWAYS_CATALOGUED = 8
_FRAMES_A_NIGHT = 10
_FIRST_DAY = 2458485
_TARGETS = ("NGC 7790", "M 67", "SA 98", "Landolt 104", "TOI-1266", "V404 Cyg", "IC 10", "3C 273", "BL Lac")

CountType = Literal["int16", "uint16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """One frame's sky, camera and fate; counts are ADU, lengths px."""

    name: str
    size: int
    labels: tuple[str, ...]
    catalogued: bool
    target: str
    julian_date: float
    exposure: float
    """Exposure time [s]."""
    gain: float
    """Electrons a count."""
    read_noise: float
    """[electrons]"""
    sky: float
    """Mean sky level [counts]."""
    fwhm: float
    """Seeing: full width of a star at half its maximum [px]."""
    beta: float
    """Exponent of the Moffat profile."""
    richness: float
    """Number of sources, relative to the mean field."""
    limiting_magnitude: float
    """Calibrated magnitude of a star that is just detected."""
    counts: CountType
    centre: tuple[float, float]
    """Right ascension and declination of the frame's centre [deg]."""
    cd: tuple[tuple[float, float], tuple[float, float]]
    """CD matrix of the header [deg/px]."""

    @property
    def noise(self) -> float:
        """Standard deviation of an empty pixel [counts]."""
        return math.sqrt(self.sky / self.gain + (self.read_noise / self.gain) ** 2)

    @property
    def saturation(self) -> float:
        """Level above which the header calls a pixel saturated [counts]."""
        return 30000.0 if self.counts == "int16" else 50000.0

    @property
    def full_well(self) -> float:
        """Level at which a pixel overflows into its column [counts]."""
        return 1.08 * self.saturation

    @property
    def limiting_flux(self) -> float:
        """Flux of a star whose five central pixels just exceed 5 sigma [counts].

        Those pixels reach out to 1.26 px, where a star of usual seeing has fallen to about 0.8 of its peak.
        """
        return 6.4 * self.noise * math.pi * self.core_radius**2 / (self.beta - 1)

    @property
    def core_radius(self) -> float:
        """Core radius of the Moffat profile [px] (Moffat 1969, A&A 3, 455)."""
        return self.fwhm / (2 * math.sqrt(2 ** (1 / self.beta) - 1))


def draw_conditions(seed: int, frame: int, size: int) -> Conditions:
    """The conditions of frame number `frame` (from 0) of the survey with `seed`, for frames of `size` px a side."""
    rng = np.random.default_rng([seed, frame, size])
    labels = _draw_labels(rng)
    exposure = float(rng.choice([10, 20, 30, 60, 120, 180, 300, 600]))
    day, second = _start(seed, frame, rng)
    return Conditions(
        name=f"TJO{day}_{second:05d}_{frame % _FRAMES_A_NIGHT + 1}_U_imc",
        size=size,
        labels=labels,
        catalogued=frame < _ALWAYS_CATALOGUED or rng.random() >= _EMPTY_SHARE,
        target=str(rng.choice(_TARGETS)),
        julian_date=day + second / 86400,
        exposure=exposure,
        gain=float(rng.uniform(1.0, 2.2)),
        read_noise=float(rng.uniform(5, 12)),
        sky=min(exposure * float(np.exp(rng.uniform(np.log(0.5), np.log(25)))), 9000.0) + 5,
        fwhm=float(np.clip(rng.lognormal(np.log(3.05), 0.13), 2.3, 5.5)),
        beta=float(rng.uniform(2.6, 4.0)),
        richness=float(rng.lognormal(-0.03, 0.25)),
        limiting_magnitude=float(rng.normal(17.8, 0.5)),
        counts=rng.choice(np.array(["int16", "uint16", "float32"]), p=[0.25, 0.45, 0.3]).item(),
        centre=(float(rng.uniform(0, 360)), float(rng.uniform(-20, 75))),
        cd=_draw_cd(rng),
    )


def _draw_labels(rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() >= _OK_SHARE:
        count = 2 if rng.random() < 0.15 else 1
        return tuple(sorted(rng.choice(DEFECTS, size=count, replace=False).tolist()))
    if rng.random() < _EXTRA_SHARE:
        return ("OK", str(rng.choice(["GALAXY", "BINARY"])))
    return ("OK",)


def _start(seed: int, frame: int, rng: np.random.Generator) -> tuple[int, int]:
    """Julian day and second of the exposure: ten frames a night, nights in order."""
    night, turn = divmod(frame, _FRAMES_A_NIGHT)
    return _FIRST_DAY + seed % 365 + 3 * night, 24000 + 3600 * turn + int(rng.integers(0, 3000))


def _draw_cd(rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    """A CD matrix whose axes may point either way, as after a meridian flip, turned by a degree or so."""
    angle = np.radians(rng.normal(0, 1.0))
    flip_x, flip_y = rng.choice([-1, 1], size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    (a, b), (c, d) = (PIXEL_SCALE * turn @ np.diag([flip_x, flip_y])).tolist()
    return (a, b), (c, d)
