"""Catalogues of a frame's sources as SExtractor writes them, in ASCII_HEAD, FITS_LDAC or CSV, columns in any order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from satdet.data.tables import read_table
from satdet.errors import CatalogueError

COLUMNS = ("X_IMAGE", "Y_IMAGE", "FWHM_WORLD", "FLUX_RADIUS", "ELLIPTICITY", "FLAGS", "MAG_CALIB")
"""The columns that boxes are made of; a catalogue may have others."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Catalogue:
    """The rows of a catalogue, an array (n,) a column.

    Attributes
    ----------
    x, y : ndarray
        X_IMAGE, Y_IMAGE: centre [px], the first pixel's centre being 1.
    fwhm : ndarray
        FWHM_WORLD [deg].
    flux_radius : ndarray
        FLUX_RADIUS [px].
    ellipticity : ndarray
        ELLIPTICITY.
    flags : ndarray
        FLAGS, 0 where the extraction met no difficulty.
    magnitude : ndarray
        MAG_CALIB [mag].
    extra : mapping of str to ndarray
        The other columns by their names, in the catalogue's order: (n,), or (n, k) for vectors; numbers or text.
    """

    x: Values
    y: Values
    fwhm: Values
    flux_radius: Values
    ellipticity: Values
    flags: Values
    magnitude: Values
    extra: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue; one with a header and no row has length 0.

    Raises
    ------
    CatalogueError
        If the file is unreadable, has no header, lacks a column, or a row is short or holds something not a number.
    """
    table = read_table(path, COLUMNS)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise CatalogueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table)}")
    for name in COLUMNS:
        if table[name].ndim != 1 or table[name].dtype != np.float64:
            raise CatalogueError(f"{path}: {name} does not hold one number a row")
    extra = {name: column for name, column in table.items() if name not in COLUMNS}
    x, y, fwhm, flux_radius, ellipticity, flags, magnitude = (table[name] for name in COLUMNS)
    return Catalogue(x, y, fwhm, flux_radius, ellipticity, flags, magnitude, extra)
