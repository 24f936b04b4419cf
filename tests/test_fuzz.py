"""Whatever bytes a file holds, the readers return something sound or raise their own error."""

import bz2
import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satdet.data.catalogues import read_catalogue
from satdet.data.frames import read_frame, to_noise_units
from satdet.errors import CatalogueError, FrameError
from tests.surveys import ROW, SCALE, write_catalogue

FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COUNTS = np.random.default_rng(0).normal(1000, 10, (48, 64))


def frame_bytes(kind: str) -> bytes:
    header = fits.Header({"CD1_1": SCALE, "CD2_2": SCALE, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "JD": 2458489.5})
    images = {
        "plain": lambda: [fits.PrimaryHDU(COUNTS.astype(np.float32), header)],
        "integers": lambda: [fits.PrimaryHDU(COUNTS.astype(np.uint16), header)],
        "extension": lambda: [fits.PrimaryHDU(), fits.ImageHDU(COUNTS.astype(np.int32), header)],
        "rice": lambda: [fits.PrimaryHDU(), fits.CompImageHDU(COUNTS.astype(np.int16), header)],
        "quantised": lambda: [fits.PrimaryHDU(), fits.CompImageHDU(COUNTS.astype(np.float32), header)],
    }
    buffer = io.BytesIO()
    fits.HDUList(images[kind]()).writeto(buffer)
    return buffer.getvalue()


def catalogue_bytes(kind: str, folder) -> bytes:
    if kind == "ascii":
        return write_catalogue(folder / "seed.fits", {}, {"X_IMAGE": 7.5}).read_bytes()
    if kind == "csv":
        rows = [",".join(ROW), *[",".join(str(value) for value in ROW.values())] * 2]
        return "\r\n".join(rows).encode()
    columns = [fits.Column(name, "E", array=[value] * 3) for name, value in ROW.items()]
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(buffer)
    return buffer.getvalue()


@st.composite
def damages(draw):
    """Bytes to replace, as shares of the length, many of them in the header; where to cut; and whether by text."""
    places = st.one_of(st.floats(0, 1), st.floats(0, 0.15))
    printable = st.sampled_from(b" '=-.0123456789NAXISTPCEDZ/\n\t,#")
    value = printable if draw(st.booleans()) else st.integers(0, 255)
    return draw(st.lists(st.tuples(places, value), max_size=8)), draw(st.one_of(st.just(1.0), st.floats(0, 1)))


def damaged(content: bytes, damage) -> bytes:
    changes, keep = damage
    changed = bytearray(content)
    for share, value in changes:
        changed[min(len(changed) - 1, int(share * len(changed)))] = value
    return bytes(changed[: int(keep * len(changed))])


def check_frame(path) -> None:
    try:
        frame = read_frame(path)
        assert frame.pixels.ndim == 2 and frame.pixels.dtype == np.float32 and 0 < frame.pixel_scale <= 0.1
        assert frame.wcs is None or frame.wcs.has_celestial
        units = to_noise_units(frame, path)
        assert np.isfinite(units.pixels).all() and units.rms > 0
    except FrameError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def check_catalogue(path) -> None:
    try:
        catalogue = read_catalogue(path)
        columns = catalogue.x, catalogue.y, catalogue.fwhm, catalogue.flux_radius, catalogue.flags
        assert all(column.shape == (len(catalogue),) and column.dtype == np.float64 for column in columns)
    except CatalogueError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@FUZZ
@given(
    st.binary(max_size=3000),
    st.sampled_from([b"", b"SIMPLE  =", b"\x1f\x8b\x08", b"BZh9", b"# 1 X_IMAGE\n", b"X_IMAGE,"]),
)
def test_any_bytes(tmp_path, content, start):
    path = tmp_path / "any"
    path.write_bytes(start + content)
    check_frame(path)
    check_catalogue(path)


@pytest.mark.parametrize("kind", ["plain", "integers", "extension", "rice", "quantised"])
@FUZZ
@given(damage=damages())
def test_damaged_frames(tmp_path, kind, damage):
    path = tmp_path / "frame.fits"
    path.write_bytes(damaged(frame_bytes(kind), damage))
    check_frame(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@FUZZ
@given(damage=damages())
def test_damaged_wrappings(tmp_path, pack, damage):
    path = tmp_path / "frame.fits.gz"
    path.write_bytes(damaged(pack(frame_bytes("integers")), damage))
    check_frame(path)


@pytest.mark.parametrize("kind", ["ascii", "csv", "ldac"])
@FUZZ
@given(damage=damages())
def test_damaged_catalogues(tmp_path, kind, damage):
    path = tmp_path / "catalogue"
    path.write_bytes(damaged(catalogue_bytes(kind, tmp_path), damage))
    check_catalogue(path)


@FUZZ
@given(st.text(max_size=400))
def test_any_text_below_a_good_header(tmp_path, text):
    path = write_catalogue(tmp_path / "a.fits", {})
    path.write_text(path.read_text() + text, encoding="utf-8")
    check_catalogue(path)
