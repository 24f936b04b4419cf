"""Reading frames, whole and damaged."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits

from satdet.data.frames import read_frame, to_noise_units
from satdet.errors import FrameError
from tests.surveys import SCALE, rejection, write_catalogue, write_frame, write_pair


class TestMalformedFrames:
    def test_cut_off_gzip(self, tmp_path):
        frame = write_pair(tmp_path / "in", "bad")
        frame.write_bytes(frame.read_bytes()[:-2000])
        assert "unreadable or cut off" in rejection(tmp_path / "in", "bad")

    def test_cut_off_plain_file(self, tmp_path):
        frame = write_frame(tmp_path / "in" / "bad.fits", shape=(128, 128))
        write_catalogue(frame, {})
        frame.write_bytes(frame.read_bytes()[:9000])
        assert "unreadable or cut off" in rejection(tmp_path / "in", "bad")

    @pytest.mark.parametrize("content", [b"", b"not a frame", gzip.compress(b"nor this", mtime=0), b"\x1f\x8b\x08"])
    def test_not_a_fits_file(self, tmp_path, content):
        frame = write_pair(tmp_path / "in", "bad")
        frame.write_bytes(content)
        assert "bad.fits.gz: " in rejection(tmp_path / "in", "bad")

    def test_a_cube(self, tmp_path):
        write_pair(tmp_path / "in", "bad", pixels=np.ones((3, 64, 64), dtype=np.float32))
        assert "64 x 64 x 3 px has 3 axes" in rejection(tmp_path / "in", "bad")

    def test_no_image(self, tmp_path):
        frame = write_pair(tmp_path / "in", "bad")
        fits.PrimaryHDU().writeto(frame, overwrite=True)
        assert "holds no image" in rejection(tmp_path / "in", "bad")

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ({}, "no pixel scale"),
            ({"CD1_1": 0.0, "CD2_2": 0.0}, "a pixel scale of 0 deg/px"),
            ({"CDELT1": SCALE, "CDELT2": 0.0}, "a pixel scale of 0 deg/px"),
            ({"CD1_1": "none", "CD2_2": SCALE}, "CD1_1 = 'none' is not a number"),
        ],
    )
    def test_pixel_scale(self, tmp_path, header, message):
        write_pair(tmp_path / "in", "bad", header=header)
        assert message in rejection(tmp_path / "in", "bad")

    def test_smaller_than_a_tile(self, tmp_path):
        write_pair(tmp_path / "in", "bad", shape=(64, 63))
        assert "63 x 64 px is smaller than a tile of 64 px" in rejection(tmp_path / "in", "bad")

    @pytest.mark.parametrize(("value", "message"), [(7.0, "no noise"), (np.nan, "not one pixel is a number")])
    def test_nothing_in_the_pixels(self, tmp_path, value, message):
        write_pair(tmp_path / "in", "bad", pixels=np.full((64, 64), value, dtype=np.float32))
        assert message in rejection(tmp_path / "in", "bad")

    def test_missing_and_saturated_pixels_do_not_spoil_the_noise(self, tmp_path):
        pixels = np.random.default_rng(0).normal(1000, 10, (128, 128)).astype(np.float32)
        pixels[:, :20] = np.nan
        pixels[50:60, 50:60] = 3e7
        frame = read_frame(write_frame(tmp_path / "a.fits.gz", pixels=pixels))
        units = to_noise_units(frame, tmp_path / "a.fits.gz")
        assert units.background == pytest.approx(1000, abs=2) and units.rms == pytest.approx(10, rel=0.1)
        assert np.isfinite(units.pixels).all()
        assert (units.pixels[:, :20] == 0).all() and (units.pixels[50:60, 50:60] == 60000).all()

    def test_integers_and_extensions_are_read(self, tmp_path):
        counts = np.arange(64 * 64).reshape(64, 64)
        write_frame(tmp_path / "a.fits.gz", pixels=counts.astype(np.uint16))
        assert (read_frame(tmp_path / "a.fits.gz").pixels == counts).all()
        image = fits.ImageHDU(counts.astype(np.int32), fits.Header({"CD1_1": SCALE, "CD2_2": SCALE}))
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "b.fits")
        assert (read_frame(tmp_path / "b.fits").pixels == counts).all()

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FrameError, match="unreadable"):
            read_frame(tmp_path / "none.fits.gz")

    def test_pixels_that_do_not_match_their_checksum(self, tmp_path):
        image = fits.CompImageHDU(COUNTS.astype(np.int16), fits.Header(sky_cards("CD")))
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz", checksum=True)
        assert np.array_equal(read_frame(tmp_path / "a.fits.fz").pixels, COUNTS)
        content = bytearray((tmp_path / "a.fits.fz").read_bytes())
        content[-1500] ^= 1
        (tmp_path / "a.fits.fz").write_bytes(content)
        with pytest.raises(FrameError, match="do not match their DATASUM"):
            read_frame(tmp_path / "a.fits.fz")

    def test_a_file_that_fills_the_memory(self, tmp_path):
        path = tmp_path / "bomb.fits.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(160):
                file.write(bytes(1 << 20))
        with pytest.raises(FrameError, match=r"bomb.fits.gz: expands to more than 100 times its size"):
            read_frame(path)

    def test_a_header_that_asks_for_the_memory(self, tmp_path):
        path = write_frame(tmp_path / "huge.fits")
        content = path.read_bytes().replace(b"NAXIS1  =                   64", b"NAXIS1  =             64000000")
        path.write_bytes(content)
        with pytest.raises(FrameError, match=r"huge.fits: NAXIS1 x NAXIS2 = 64000000 x 64 px, too large"):
            read_frame(path)


COUNTS = np.random.default_rng(5).normal(1000, 30, (48, 64)).round()
PLACE = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 40.0, "CRVAL2": 20.0, "CRPIX1": 32.5, "CRPIX2": 24.5,
}  # fmt: skip


def sky_cards(kind: str, *, angle: float = 0.0, flip: bool = False) -> dict:
    """The same place on the sky by CD, by PC with CDELT, or by CDELT with CROTA2."""
    step, sine, cosine = (SCALE if flip else -SCALE), np.sin(np.radians(angle)), np.cos(np.radians(angle))
    if kind == "CD":
        matrix = {
            "CD1_1": step * cosine, "CD1_2": -SCALE * sine, "CD2_1": step * sine, "CD2_2": SCALE * cosine
        }  # fmt: skip
        return PLACE | matrix
    if kind == "PC":
        ratio = SCALE / step
        matrix = {"PC1_1": cosine, "PC1_2": -ratio * sine, "PC2_1": sine / ratio, "PC2_2": cosine}
        return PLACE | {"CDELT1": step, "CDELT2": SCALE} | matrix
    return PLACE | {"CDELT1": step, "CDELT2": SCALE, "CROTA2": angle}


class TestKindsOfFiles:
    @pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
    @pytest.mark.parametrize("kind", [">i2", ">u2", ">i4", ">f4", ">f8"])
    def test_every_number_in_every_wrapping(self, tmp_path, kind, pack):
        plain = write_frame(tmp_path / "plain.fits", pixels=COUNTS.astype(kind))
        packed = tmp_path / "any.name"
        packed.write_bytes(pack(plain.read_bytes()))
        frame = read_frame(packed)
        assert frame.pixels.dtype == np.float32 and np.array_equal(frame.pixels, COUNTS)

    @pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32])
    @pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
    def test_tiles_compressed(self, tmp_path, kind, compression):
        header = fits.Header(sky_cards("CD"))
        image = fits.CompImageHDU(COUNTS.astype(kind), header, compression_type=compression)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
        frame = read_frame(tmp_path / "a.fits.fz")
        # Quantised as usual, a float frame keeps its values to a quarter of its noise.
        assert np.abs(frame.pixels - COUNTS).max() <= (8 if kind == np.float32 else 0)
        assert frame.pixel_scale == pytest.approx(SCALE) and frame.wcs is not None

    def test_gzip_in_several_pieces(self, tmp_path):
        content = write_frame(tmp_path / "plain.fits", pixels=COUNTS.astype(np.float32)).read_bytes()
        (tmp_path / "a.fits.gz").write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]) + bytes(9))
        assert np.array_equal(read_frame(tmp_path / "a.fits.gz").pixels, COUNTS)

    def test_scaled_integers_and_blanks(self, tmp_path):
        for number, (kind, cards) in enumerate(
            [(np.int16, {"BSCALE": 0.5, "BZERO": 10.0}), (np.int16, {"BZERO": 32768.0}), (np.int32, {})]
        ):
            raw = COUNTS.astype(kind)
            raw[0, 0] = -32000
            hdu = fits.PrimaryHDU(raw, fits.Header(sky_cards("CD")))
            hdu.writeto(path := tmp_path / f"{number}.fits")
            with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
                hdus[0].header.update(cards | {"BLANK": -32000})
            pixels = read_frame(path).pixels
            expected = COUNTS * cards.get("BSCALE", 1) + cards.get("BZERO", 0)
            assert np.isnan(pixels[0, 0]) and np.array_equal(pixels.ravel()[1:], expected.ravel()[1:])

    @pytest.mark.parametrize("before", ["nothing", "empty", "table", "cube", "line"])
    def test_the_first_image_with_two_axes_in_any_extension(self, tmp_path, before):
        hdus = {
            "nothing": [],
            "empty": [fits.ImageHDU()],
            "table": [fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])])],
            "cube": [fits.ImageHDU(np.ones((3, 4, 5)))],
            "line": [fits.ImageHDU(np.ones(5))],
        }[before]
        image = fits.ImageHDU(COUNTS.astype(np.int32), fits.Header(sky_cards("CD")))
        other = fits.ImageHDU(np.zeros((48, 64)), fits.Header(sky_cards("CD")))
        fits.HDUList([fits.PrimaryHDU(), *hdus, image, other]).writeto(tmp_path / "a.fits")
        assert np.array_equal(read_frame(tmp_path / "a.fits").pixels, COUNTS)

    def test_an_axis_of_one_pixel_is_none(self, tmp_path):
        path = write_frame(tmp_path / "a.fits", pixels=COUNTS[None, None].astype(np.float32), header=sky_cards("CD"))
        frame = read_frame(path)
        assert np.array_equal(frame.pixels, COUNTS) and frame.wcs is not None


class TestHeaders:
    @pytest.mark.parametrize("kind", ["CD", "PC", "CDELT"])
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("angle", [0.0, 33.0, 90.0, 180.0])
    def test_the_same_sky_however_it_is_written(self, tmp_path, kind, flip, angle):
        frame = read_frame(write_frame(tmp_path / "a.fits", header=sky_cards(kind, angle=angle, flip=flip)))
        assert frame.pixel_scale == pytest.approx(SCALE, rel=1e-12)
        # 100 px along the first axis, then turned; right ascension grows to the left unless flipped.
        east, north = (100 * SCALE * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])) * (
            1 if flip else -1
        )
        right_ascension, declination = frame.wcs.wcs_pix2world(132.5, 24.5, 1)
        assert (right_ascension - 40) * np.cos(np.radians(20)) == pytest.approx(east, abs=1e-5)
        assert declination - 20 == pytest.approx(north, abs=1e-5)

    def test_an_extension_inherits_from_an_empty_primary_header(self, tmp_path):
        primary = fits.PrimaryHDU(header=fits.Header({"JD": 2458489.25, "SATURATE": 5e4, "CRVAL1": 1.0}))
        image = fits.ImageHDU(COUNTS, fits.Header(sky_cards("CD")))
        fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
        frame = read_frame(tmp_path / "a.fits")
        assert (frame.julian_date, frame.saturation, frame.cards["CRVAL1"]) == (2458489.25, 5e4, 40.0)

    def test_no_scale_can_be_asked_for(self, tmp_path):
        path = write_frame(tmp_path / "a.fits", header={})
        frame = read_frame(path, require_scale=False)
        assert np.isnan(frame.pixel_scale) and frame.wcs is None and frame.pixels.shape == (64, 64)
        with pytest.raises(FrameError, match="no pixel scale"):
            read_frame(path)

    @pytest.mark.parametrize(
        "cards",
        [{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--SIN"}, {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, {"CTYPE1": 7}],
    )
    def test_a_senseless_place_is_none(self, tmp_path, cards):
        assert read_frame(write_frame(tmp_path / "a.fits", header=sky_cards("CD") | cards)).wcs is None

    @pytest.mark.parametrize(
        ("cards", "level"),
        [({"SATURATE": 5e4}, 5e4), ({"SATLEVEL": 60000}, 6e4), ({"MAXLIN": "45000"}, 45000), ({"SATURATE": 0}, None),
         ({"SATURATE": "high"}, None), ({}, None)],
    )  # fmt: skip
    def test_saturation(self, tmp_path, cards, level):
        frame = read_frame(write_frame(tmp_path / "a.fits", header=sky_cards("CD") | cards))
        assert frame.saturation == level

    @pytest.mark.parametrize(
        ("cards", "date"),
        [
            ({"JD": 2458489.25}, 2458489.25),
            ({"MJD-OBS": 51544.5}, 2451545.0),
            ({"DATE-OBS": "2000-01-01T12:00:00.000"}, 2451545.0),
            ({"DATE-OBS": "2000-01-01", "TIME-OBS": "18:00:00"}, 2451545.25),
            ({"DATE-OBS": "2000-01-01"}, 2451544.5),
            ({"DATE-OBS": "31/12/99"}, None),
            ({}, None),
        ],
    )
    def test_the_time_of_the_exposure(self, tmp_path, cards, date):
        frame = read_frame(write_frame(tmp_path / "a.fits", header=sky_cards("CD") | cards | {"EXPTIME": 30}))
        assert frame.julian_date == date and frame.exposure == 30
