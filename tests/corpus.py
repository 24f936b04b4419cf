"""The malformed corpus: one frame with its catalogue of every kind that can be wrong, made into a folder."""

import bz2
import functools
import gzip
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from satdet.errors import CatalogueError, DataError, FrameError
from tests.surveys import ROW, SCALE, write_catalogue, write_frame, write_pair

_COLUMNS_14 = (*ROW, *(f"MAG_{number}" for number in range(7)))

_SIP_5000 = {
    "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 10.0, "CRVAL2": 20.0, "CD1_1": -SCALE, "CD2_2": SCALE,
    "A_ORDER": 5000, "B_ORDER": 5000,
}  # fmt: skip

Make = Callable[[Path, str], object]


@dataclass(frozen=True)
class Kind:
    """One way of being wrong.

    Attributes
    ----------
    name : str
        Also of the frame.
    state : str
        How the frame ends.
    words : str
        What the reason has to contain, or one of the entry's `dropped` rows.
    make : callable
        Given (folder, name), writes the files.
    error : type
        What `--strict` stops with, for a rejected frame.
    """

    name: str
    state: str
    words: str
    make: Make
    error: type[DataError] = FrameError


def make_corpus(folder: Path) -> tuple[Kind, ...]:
    """Write a frame of every kind, two good ones, and a label file; the kinds that this machine can make."""
    for name in ("good1", "good2"):
        write_pair(folder, name)
    (folder / "labels.csv").write_text("frame,labels\nlabelled,TRACE\n")
    kinds = tuple(kind for kind in KINDS if kind.name != "permission_denied" or os.geteuid() != 0)
    for kind in kinds:
        kind.make(folder, kind.name)
    return kinds


def _frame(**kwargs) -> Make:
    return lambda folder, name: write_pair(folder, name, **kwargs)


def _content(change: Callable[[bytes], bytes], *, ending: str = ".fits", **kwargs) -> Make:
    """A good frame whose bytes are changed."""

    def make(folder: Path, name: str) -> None:
        path = write_frame(folder / f"{name}{ending}", **kwargs)
        write_catalogue(folder / f"{name}.fits", {})
        path.write_bytes(change(path.read_bytes()))

    return make


def _card(keyword: str, value: str) -> Make:
    """A good frame in whose header a card's value is replaced as text."""

    def change(content: bytes) -> bytes:
        start = content.index(f"{keyword:<8}=".encode())
        return content[:start] + f"{keyword:<8}= {value:>20}".ljust(80).encode() + content[start + 80 :]

    return _content(change)


def _compressed_with(keyword: str, value: str) -> Make:
    """A good compressed frame whose table has another value in its header."""

    def make(folder: Path, name: str) -> None:
        image = fits.CompImageHDU(np.arange(4096, dtype=np.int16).reshape(64, 64))
        path = folder / f"{name}.fits.fz"
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
        content = path.read_bytes()
        start = content.rindex(f"{keyword:<8}=".encode())
        path.write_bytes(content[:start] + f"{keyword:<8}= {value:>20}".ljust(80).encode() + content[start + 80 :])
        write_catalogue(folder / f"{name}.fits", {})

    return make


def _hdus(*hdus: object) -> Make:
    def make(folder: Path, name: str) -> None:
        write_catalogue(folder / f"{name}.fits", {})
        fits.HDUList(list(hdus)).writeto(folder / f"{name}.fits")

    return make


def _bit_flip(folder: Path, name: str) -> None:
    counts = np.random.default_rng(1).normal(1000, 10, (64, 64)).astype(np.int16)
    image = fits.CompImageHDU(counts, fits.Header({"CD1_1": SCALE, "CD2_2": SCALE}))
    path = folder / f"{name}.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, checksum=True)
    content = bytearray(path.read_bytes())
    content[-1500] ^= 1
    path.write_bytes(content)
    write_catalogue(folder / f"{name}.fits", {})


def _other_frame(place: Callable[[Path], object]) -> Make:
    """Something else than a file where the frame should be."""

    def make(folder: Path, name: str) -> None:
        place(folder / f"{name}.fits")
        write_catalogue(folder / f"{name}.fits", {})

    return make


def _other_catalogue(place: Callable[[Path], object]) -> Make:
    """Something else where the catalogue should be, whose path is given."""

    def make(folder: Path, name: str) -> None:
        write_frame(folder / f"{name}.fits")
        place(folder / f"{name}_trl.dat")

    return make


def _rows(*rows: dict, **kwargs) -> Make:
    def make(folder: Path, name: str) -> None:
        write_catalogue(write_frame(folder / f"{name}.fits"), *rows, **kwargs)

    return make


def _text(change: Callable[[str], str], columns: Sequence[str] = tuple(ROW)) -> Make:
    """A good catalogue of two rows whose text is changed."""

    def make(folder: Path, name: str) -> None:
        path = write_catalogue(write_frame(folder / f"{name}.fits"), {}, {"X_IMAGE": 40.0}, columns=columns)
        path.write_text(change(path.read_text()))

    return make


def _ldac(path: Path, *, cut: int | None = None) -> None:
    columns = [fits.Column(name, "D", array=[ROW[name]] * 500) for name in ROW]
    table = fits.BinTableHDU.from_columns(columns, name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    path.write_bytes(path.read_bytes()[:cut])


def _ldac_of_many_columns(path: Path) -> None:
    _ldac(path)
    content = path.read_bytes()
    start = content.index(b"TFIELDS =")
    path.write_bytes(content[:start] + f"TFIELDS = {1000000:>20}".ljust(80).encode() + content[start + 80 :])


def _of_other_field(folder: Path, name: str) -> None:
    places = np.random.default_rng(2).uniform(5, 60, (40, 2))
    write_pair(folder, name, *({"X_IMAGE": x, "Y_IMAGE": y} for x, y in places), scale=SCALE)


def _long(folder: Path, name: str) -> None:
    path = write_catalogue(
        write_frame(folder / f"{name}.fits"), {"FLAGS": 1}, columns=[*ROW, *(f"MAG_{n}" for n in range(7))]
    )
    *header, row = path.read_text().splitlines()
    path.write_text("\n".join([*header, *[row] * 200_000]))


def _repeated(folder: Path, name: str) -> None:
    frame = write_pair(folder, name)
    frame.with_name(f"{name}_copy.fits.gz").write_bytes(frame.read_bytes())
    frame.rename(frame.with_name(f"{name}_first.fits.gz"))
    for end in ("copy", "first"):
        write_catalogue(folder / f"{name}_{end}.fits", {})
    (folder / f"{name}_trl.dat").unlink()


KINDS = (
    # Frames
    Kind("gzip_cut_off", "rejected", "unreadable or cut off", _content(lambda c: c[:-2000], ending=".fits.gz")),
    Kind("gzip_wrong_sum", "rejected", "incorrect data check",
         _content(lambda c: c[:-8] + bytes([c[-8] ^ 1]) + c[-7:], ending=".fits.gz")),
    Kind("bzip_cut_off", "rejected", "unreadable or cut off", _content(lambda c: bz2.compress(c)[:-100])),
    Kind("png", "rejected", "it begins with b'\\x89PNG", _content(lambda c: b"\x89PNG\r\n\x1a\n" + bytes(500))),
    Kind("header_without_end", "rejected", "unreadable or cut off",
         _content(lambda c: c.replace(b"END".ljust(80), b" " * 80, 1))),
    Kind("header_not_ascii", "rejected", "a pixel scale of 0 deg/px",
         _content(lambda c: c.replace(b"CD1_1", b"CD\xff_1", 1))),
    Kind("plain_cut_off", "rejected", "unreadable or cut off", _content(lambda c: c[:9000], shape=(128, 128))),
    Kind("header_only", "rejected", "unreadable or cut off", _content(lambda c: c[:2880])),
    Kind("bit_flipped", "rejected", "do not match their DATASUM", _bit_flip),
    Kind("cube", "rejected", "64 x 64 x 3 px has 3 axes", _frame(pixels=np.ones((3, 64, 64), np.float32))),
    Kind("one_axis", "rejected", "an image of 64 px has 1 axes", _frame(pixels=np.ones(64, np.float32))),
    Kind("empty_hdu", "rejected", "holds no image", _hdus(fits.PrimaryHDU())),
    Kind("table_only", "rejected", "holds no image",
         _hdus(fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("X_IMAGE", "D", array=[1.0])]))),
    Kind("zero_bytes", "rejected", "an empty file", _content(lambda c: b"")),
    Kind("not_fits", "rejected", "not a FITS file", _content(lambda c: b"a letter to the observatory")),
    Kind("gzip_of_text", "rejected", "not a FITS file", _content(lambda c: gzip.compress(b"a letter"))),
    Kind("gzip_bomb", "rejected", "expands to more than 100 times",
         _content(lambda c: gzip.compress(c + bytes(135 << 20), 1))),
    Kind("all_nan", "rejected", "not one pixel is a number", _frame(pixels=np.full((64, 64), np.nan, np.float32))),
    Kind("all_blank", "rejected", "not one pixel is a number",
         _frame(pixels=np.full((64, 64), -1, np.int16), header={"BLANK": -1, "CD1_1": SCALE, "CD2_2": SCALE})),
    Kind("constant", "rejected", "no noise in the pixels", _frame(pixels=np.full((64, 64), 7, np.float32))),
    Kind("no_wcs", "rejected", "no pixel scale", _frame(header={})),
    Kind("scale_zero", "rejected", "a pixel scale of 0 deg/px", _frame(header={"CD1_1": 0.0, "CD2_2": 0.0})),
    Kind("scale_of_one", "rejected", "a pixel scale of 1 deg/px", _frame(header={"CDELT1": 1.0, "CDELT2": 1.0})),
    Kind("cd_determinant_zero", "rejected", "a pixel scale of 0 deg/px",
         _frame(header=dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), SCALE))),
    Kind("cd_infinite", "rejected", "a pixel scale of inf deg/px", _card("CD2_2", "1E999")),
    Kind("cd_nan", "rejected", "CD1_1 = 'NaN' is not a number", _card("CD1_1", "NaN")),
    Kind("cd_text", "rejected", "CD1_1 = 'unknown' is not a number", _card("CD1_1", "'unknown'")),
    Kind("naxis_huge", "rejected", "too large for a file", _card("NAXIS1", "640000000")),
    Kind("naxis_negative", "rejected", "", _card("NAXIS1", "-64")),
    Kind("axes_huge", "rejected", "NAXIS = 1000000000, which FITS does not allow", _card("NAXIS", "1000000000")),
    Kind("axes_signed", "rejected", "NAXIS = +1000000000", _card("NAXIS", "+1000000000")),
    Kind("groups_negative", "rejected", "GCOUNT = -1", _compressed_with("GCOUNT", "-1")),
    Kind("columns_huge", "rejected", "TFIELDS = 1000000", _compressed_with("TFIELDS", "1000000")),
    Kind("bitpix_wrong", "rejected", "", _card("BITPIX", "17")),
    Kind("smaller_than_a_tile", "rejected", "smaller than a tile", _frame(shape=(64, 63))),
    Kind("folder_for_frame", "rejected", "unreadable (a folder)", _other_frame(Path.mkdir)),
    Kind("link_loop", "rejected", "unreadable (Too many levels", _other_frame(lambda path: path.symlink_to(path))),
    Kind("link_to_nothing", "rejected", "unreadable (No such file",
         _other_frame(lambda path: path.symlink_to(path.with_name("nothing")))),
    Kind("pipe", "rejected", "unreadable (not a file)", _other_frame(os.mkfifo)),
    Kind("permission_denied", "rejected", "unreadable (Permission denied",
         _other_frame(lambda path: write_frame(path).chmod(0))),
    # Catalogues
    Kind("no_catalogue", "rejected", "no catalogue no_catalogue_trl.dat", _other_catalogue(lambda path: None),
         CatalogueError),
    Kind("columns_13", "rejected", "13 values for 14 columns",
         _text(lambda t: t.replace(" 0\n", "\n"), columns=_COLUMNS_14), CatalogueError),
    Kind("column_missing", "rejected", "no column FWHM_WORLD", _text(lambda t: t.replace("FWHM_WORLD", "FWHM_IMAGE")),
         CatalogueError),
    Kind("not_numbers", "rejected", "line 8: FLUX_RADIUS = 'big' is not a number", _rows({"FLUX_RADIUS": "big"}),
         CatalogueError),
    Kind("last_line_cut", "rejected", "line 9: 3 values for 7 columns",
         _text(lambda t: " ".join(t.rstrip().split(" ")[:-4])), CatalogueError),
    Kind("binary_junk", "rejected", "no ASCII_HEAD header",
         _other_catalogue(lambda path: path.write_bytes(np.random.default_rng(3).bytes(5000))), CatalogueError),
    Kind("empty_catalogue", "rejected", "an empty file", _other_catalogue(Path.touch), CatalogueError),
    Kind("no_header", "rejected", "no ASCII_HEAD header", _other_catalogue(lambda path: path.write_text("1 2 3\n")),
         CatalogueError),
    Kind("numbers_repeated", "rejected", "repeats a name or a number",
         _text(lambda t: t.replace("#  2 Y_IMAGE", "#  1 Y_IMAGE")), CatalogueError),
    Kind("number_beyond_row", "rejected", "line 8: 7 values for 99 columns",
         _text(lambda t: t.replace("#  2 Y_IMAGE", "# 99 Y_IMAGE")), CatalogueError),
    Kind("csv_without_header", "rejected", "no ASCII_HEAD header",
         _other_catalogue(lambda path: path.write_text("1,2,3,4,5,6,7\n")), CatalogueError),
    Kind("number_huge", "rejected", "numbers a column above 9999",
         _text(lambda t: t.replace("#  2 Y_IMAGE", f"# {'1' * 5000} Y_IMAGE")), CatalogueError),
    Kind("digits_of_python", "rejected", "X_IMAGE = '1_0' is not a number", _rows({"X_IMAGE": "1_0"}), CatalogueError),
    Kind("lines_endless", "rejected", "more than 2000000 lines",
         _text(lambda t: t + 2_000_001 * "\n"), CatalogueError),
    Kind("line_endless", "rejected", "line 8: longer than 100000 characters",
         _rows({"X_IMAGE": 200_000 * "1"}), CatalogueError),
    Kind("utf_16", "rejected", "no ASCII_HEAD header",
         _other_catalogue(lambda path: path.write_text("# 1 X_IMAGE\n32.5\n", encoding="utf-16")), CatalogueError),
    Kind("other_size", "rejected", "2 of 3 positions lie outside",
         _rows({}, {"X_IMAGE": 900.0}, {"X_IMAGE": 800.0}), CatalogueError),
    Kind("other_field", "rejected", "brightest positions; is it another frame's?", _of_other_field, CatalogueError),
    Kind("ldac_cut_off", "rejected", "cut off", _other_catalogue(functools.partial(_ldac, cut=-9000)), CatalogueError),
    Kind("ldac_columns_huge", "rejected", "TFIELDS = 1000000", _other_catalogue(_ldac_of_many_columns), CatalogueError),
    Kind("ldac_without_table", "rejected", "a FITS file without a table", _other_catalogue(write_frame),
         CatalogueError),
    Kind("csv_names_twice", "rejected", "names X_IMAGE more than once",
         _other_catalogue(lambda path: path.write_text(",".join([*ROW, "X_IMAGE"]) + "\n")), CatalogueError),
    Kind("csv_quote_open", "rejected", "is a quote left open?",
         _other_catalogue(lambda path: path.write_text(",".join(ROW) + '\n"' + 20_000 * "1,2,3,4,5,6,7\n")),
         CatalogueError),
    Kind("csv_ragged", "rejected", "line 3: 3 values for 7 columns",
         _other_catalogue(lambda path: path.write_text(",".join(ROW) + "\n1,2,3,4,5,6,7\n1,2,3\n")), CatalogueError),
    Kind("folder_for_catalogue", "rejected", "unreadable (a folder)", _other_catalogue(Path.mkdir), CatalogueError),
    Kind("catalogue_link_loop", "rejected", "unreadable (Too many levels",
         _other_catalogue(lambda path: path.symlink_to(path)), CatalogueError),
    # What is no error, though not as it should be
    Kind("rows_none", "apart", "a catalogue without rows", _rows()),
    Kind("rows_all_dropped", "apart", "no row of the catalogue is an object: 2 FWHM_WORLD not above 0",
         _rows({"FWHM_WORLD": -1.0}, {"FWHM_WORLD": 0.0})),
    Kind("rows_nan", "used", "position or size not finite", _rows({}, {"X_IMAGE": "nan"}, {"FWHM_WORLD": "nan"})),
    Kind("fwhm_huge", "used", "box larger than the frame", _rows({}, {"FWHM_WORLD": 1000.0})),
    Kind("fwhm_negative", "used", "FWHM_WORLD not above 0", _rows({}, {"FWHM_WORLD": -0.001})),
    Kind("rows_infinite", "used", "position or size not finite", _rows({}, {"X_IMAGE": "inf"}, {"FWHM_WORLD": 1e300})),
    Kind("sip_order_huge", "used", "", _frame(header=_SIP_5000)),
    Kind("far_outside", "used", "outside the frame", _rows({}, {}, {"X_IMAGE": 1e6})),
    Kind("rows_200000", "used", "", _long),
    Kind("labelled", "excluded", "labelled TRACE", _frame()),
    Kind("repeated_first", "duplicate", "the same pixels as repeated_copy.fits.gz",
         lambda folder, name: _repeated(folder, name.removesuffix("_first"))),
)  # fmt: skip
