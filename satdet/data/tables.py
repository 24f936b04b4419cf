"""Tables of numbers in the three forms that catalogues come in, told apart by their content, not by their name."""

import csv
import io
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from satdet.data.content import first_line, read_content
from satdet.data.fits_files import check_counts
from satdet.errors import CatalogueError

Column = npt.NDArray[Any]
"""(n,), or (n, k) for a column of vectors such as FLUX_APER; float64, or text."""

_FITS = b"SIMPLE  ="
_HEADER_LINE = re.compile(r"#\s*(\d+)\s+(\S+)")
_DELIMITERS = ",;\t"
_SHOWN = 40
_MOST_LINES, _LONGEST_LINE = 2_000_000, 100_000
"""No frame has so many sources, and no catalogue so many columns."""
_MOST_COLUMNS, _MOST_DIGITS = 9999, 9
_MOST_BYTES = 512 * 1024**2


def read_table(path: Path, needed: Collection[str]) -> dict[str, Column]:
    """The columns of a table in ASCII_HEAD (gaps of blanks or tabs), FITS (FITS_LDAC or not) or CSV, by name.

    Parameters
    ----------
    path : Path
    needed : collection of str
        Columns that must be numbers; by their names the right table of a FITS file and the header of a CSV file are
        known. Whether all of them are there is not checked.

    Raises
    ------
    CatalogueError
        If the file is unreadable or none of these, or a row of text is short, long, or holds something not a number.
    """
    content = read_content(path, CatalogueError, _MOST_BYTES)
    if content.startswith(_FITS):
        return _from_fits(content, needed, path)
    lines = _lines(content, path)
    starts = _header_numbers(lines, path)
    if starts:
        return _from_ascii_head(lines, starts, needed, path)
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    delimiter = max(_DELIMITERS, key=lines[first].count)
    names = [name.strip() for name in next(csv.reader([lines[first]], delimiter=delimiter), [])]
    if not set(needed).isdisjoint(names):
        return _from_csv(lines, first, names, delimiter, needed, path)
    raise CatalogueError(
        f"{path}: no ASCII_HEAD header, lines such as '#  1 X_IMAGE', nor a table in CSV or FITS with such names"
    )


def _lines(content: bytes, path: Path) -> list[str]:
    """The lines of a text, however they end."""
    if max(content.count(b"\n"), content.count(b"\r")) > _MOST_LINES:
        raise CatalogueError(f"{path}: more than {_MOST_LINES} lines; no frame has so many sources")
    lines = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    longest = max(range(len(lines)), key=lambda number: len(lines[number]))
    if len(lines[longest]) > _LONGEST_LINE:
        raise CatalogueError(f"{path} line {longest + 1}: longer than {_LONGEST_LINE} characters; no catalogue's is")
    return lines


@dataclass(frozen=True)
class _Rows:
    """Rows of a table as text, with their line numbers in the file; gaps are blanks if there is no delimiter."""

    path: Path
    lines: Sequence[str]
    numbers: Sequence[int]
    delimiter: str | None

    def parse(self, places: Mapping[str, slice], needed: Collection[str]) -> dict[str, Column]:
        """The columns at `places`, as numbers if all of a column's cells are; else as text, unless it is needed."""
        width = max(place.stop or place.start + 1 for place in places.values())
        table = self._table(width) if self.lines else np.empty((0, width))
        if table.shape[1] < width:
            raise self._short_row(0, table.shape[1], width)
        return {name: self._column(table[:, place], name, needed) for name, place in places.items()}

    def _table(self, width: int) -> Column:
        quote = None if self.delimiter is None else '"'
        try:
            numbers: Column = np.loadtxt(self.lines, delimiter=self.delimiter, quotechar=quote, comments=None, ndmin=2)
            return numbers
        except ValueError:
            return self._cells(width)

    def _cells(self, width: int) -> Column:
        """Text (n, width or more), where numbers alone could not be read; slower, but it finds what is wrong."""
        cells = list(self._split())
        widest = max(width, len(cells[0]))
        for row, each in enumerate(cells):
            if len(each) != widest:
                raise self._short_row(row, len(each), widest)
        return np.array(cells, dtype=object)

    def _split(self) -> Iterator[list[str]]:
        if self.delimiter is None:
            yield from (line.split() for line in self.lines)
            return
        try:
            yield from csv.reader(self.lines, delimiter=self.delimiter)
        except csv.Error as error:
            raise CatalogueError(f"{self.path}: unreadable as CSV ({error}); is a quote left open?") from None

    def _column(self, cells: Column, name: str, needed: Collection[str]) -> Column:
        column = cells[:, 0] if cells.shape[1] == 1 else cells
        if column.dtype != object:
            return column
        try:
            return np.array([_number(cell) for cell in column.ravel()]).reshape(column.shape)
        except ValueError:
            if name not in needed:
                return column.astype(str)
        row, cell = next((row, cell) for (row, _), cell in np.ndenumerate(cells) if not _is_number(cell))
        raise CatalogueError(f"{self._where(row)}: {name} = {cell[:_SHOWN]!r} is not a number")

    def _short_row(self, row: int, found: int, width: int) -> CatalogueError:
        return CatalogueError(f"{self._where(row)}: {found} values for {width} columns; is it cut off?")

    def _where(self, row: int) -> str:
        return f"{self.path} line {self.numbers[row]}"


def _number(cell: str) -> float:
    """What a cell says; an empty one is NaN, and Python's own ``1_0`` and digits of other scripts are no numbers."""
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return float(cell or "nan")


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _header_numbers(lines: Sequence[str], path: Path) -> dict[str, int]:
    """A header's names and numbers: of SExtractor's lines '# number name comment [unit]', one a column, from 1."""
    starts: dict[str, int] = {}
    taken: set[int] = set()
    for line in lines:
        match = line.startswith("#") and _HEADER_LINE.match(line)
        if not match:
            continue
        name, number = match[2], int(match[1][:_MOST_DIGITS])
        if number > _MOST_COLUMNS:
            raise CatalogueError(f"{path}: the header line {line.strip()[:_SHOWN]!r} numbers a column above 9999")
        if name in starts or number in taken or number < 1:
            raise CatalogueError(f"{path}: the header line {line.strip()[:_SHOWN]!r} repeats a name or a number")
        starts[name] = number
        taken.add(number)
    return starts


def _from_ascii_head(
    lines: Sequence[str], starts: Mapping[str, int], needed: Collection[str], path: Path
) -> dict[str, Column]:
    """Where a column holds vectors, the numbers after it leave room for them; the last one takes what is left."""
    numbers = [number for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    order = sorted(starts, key=lambda name: starts[name])
    stops = [starts[name] - 1 for name in order[1:]] + [None]
    places = {name: slice(starts[name] - 1, stop) for name, stop in zip(order, stops, strict=True)}
    return _Rows(path, [lines[number - 1] for number in numbers], numbers, None).parse(places, needed)


def _from_csv(
    lines: Sequence[str], first: int, names: Sequence[str], delimiter: str, needed: Collection[str], path: Path
) -> dict[str, Column]:
    """A line of names, then rows; an empty cell is NaN."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise CatalogueError(f"{path}: the first line names {', '.join(repeated)} more than once")
    numbers = [number for number, line in enumerate(lines, 1) if number > first + 1 and line.strip()]
    places = {name: slice(place, place + 1) for place, name in enumerate(names)}
    return _Rows(path, [lines[number - 1] for number in numbers], numbers, delimiter).parse(places, needed)


def _from_fits(content: bytes, needed: Collection[str], path: Path) -> dict[str, Column]:
    """Of a file's tables, the one with most of the names needed: FITS_LDAC has one more, which holds a header."""
    check_counts(content, path, CatalogueError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content), memmap=False) as hdus:
                tables = [hdu for hdu in hdus if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))]
                if not tables:
                    raise CatalogueError(f"{path}: a FITS file without a table")
                table = max(tables, key=lambda hdu: len(set(needed).intersection(hdu.columns.names)))
                if table.size > len(content):
                    raise CatalogueError(f"{path}: cut off; its table has {table.size} bytes, the file {len(content)}")
                return {name: _native(table.data[name]) for name in table.columns.names}
    except CatalogueError:
        raise
    except Exception as error:  # astropy has errors of a dozen kinds for a damaged file
        raise CatalogueError(f"{path}: unreadable or cut off ({first_line(error)})") from error


def _native(column: Any) -> Column:
    values = np.asarray(column)
    return values.astype(np.float64) if values.dtype.kind in "biuf" else values
