"""Catalogues of a frame's sources as SExtractor writes them: ASCII_HEAD, columns in any order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from satdet.errors import CatalogueError

COLUMNS = ("X_IMAGE", "Y_IMAGE", "FWHM_WORLD", "FLUX_RADIUS", "ELLIPTICITY", "FLAGS", "MAG_CALIB")
"""The columns that boxes are made of; a catalogue may have others."""

_HEADER = re.compile(r"#\s*(\d+)\s+(\S+)")

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
    """

    x: Values
    y: Values
    fwhm: Values
    flux_radius: Values
    ellipticity: Values
    flags: Values
    magnitude: Values

    def __len__(self) -> int:
        return len(self.x)


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue; one with a header and no row has length 0.

    Raises
    ------
    CatalogueError
        If the file is unreadable, has no header, lacks a column, or a row is short or holds something not a number.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CatalogueError(f"{path}: unreadable ({error.strerror})") from error
    matches = [_HEADER.match(line) for line in lines if line.startswith("#")]
    places = {match[2]: int(match[1]) - 1 for match in matches if match}
    if not places:
        raise CatalogueError(f"{path}: no ASCII_HEAD header, lines such as '#  1 X_IMAGE'")
    missing = [name for name in COLUMNS if name not in places]
    if missing:
        raise CatalogueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(places)}")
    rows = [
        _parse_row(line, places, f"{path} line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    return Catalogue(*np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS)).T)


def _parse_row(line: str, places: Mapping[str, int], where: str) -> list[float]:
    cells = line.split()
    if len(cells) <= max(places.values()):
        raise CatalogueError(f"{where}: {len(cells)} values for {max(places.values()) + 1} columns; is it cut off?")
    values = []
    for name in COLUMNS:
        cell = cells[places[name]]
        try:
            values.append(float(cell))
        except ValueError:
            raise CatalogueError(f"{where}: {name} = {cell!r} is not a number") from None
    return values
