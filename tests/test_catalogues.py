"""Reading catalogues, whole and damaged."""

import pytest

from satdet.data.catalogues import read_catalogue
from satdet.errors import CatalogueError
from tests.surveys import ROW, rejection, write_catalogue, write_pair


class TestCatalogues:
    def test_any_order_more_columns_and_any_line_end(self, tmp_path):
        columns = ["FLAGS", "MAG_AUTO", *reversed([name for name in ROW if name != "FLAGS"])]
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {"X_IMAGE": 7.25}, columns=columns, end="\r\n")
        catalogue = read_catalogue(path)
        assert catalogue.x.tolist() == [32.5, 7.25] and catalogue.magnitude.tolist() == [16, 16]

    def test_a_header_alone_has_no_rows(self, tmp_path):
        assert len(read_catalogue(write_catalogue(tmp_path / "a.fits.gz"))) == 0

    def test_a_missing_column_is_named(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, columns=[name for name in ROW if name != "FWHM_WORLD"])
        with pytest.raises(CatalogueError, match=r"a_trl.dat: no column FWHM_WORLD; it has X_IMAGE"):
            read_catalogue(path)

    def test_a_cell_that_is_no_number_is_named_with_its_line(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {"FLUX_RADIUS": "2,5"})
        with pytest.raises(CatalogueError, match=r"a_trl.dat line 9: FLUX_RADIUS = '2,5' is not a number"):
            read_catalogue(path)

    def test_a_short_row_is_named_with_its_line(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {})
        path.write_text(path.read_text().removesuffix(" 16.0\n"))
        with pytest.raises(CatalogueError, match=r"a_trl.dat line 9: 6 values for 7 columns"):
            read_catalogue(path)

    @pytest.mark.parametrize("content", [b"", b"1 2 3\n", b"\x00\xff\xfe\n", b"# a remark\n"])
    def test_no_header(self, tmp_path, content):
        frame = write_pair(tmp_path / "in", "bad")
        frame.with_name("bad_trl.dat").write_bytes(content)
        assert "no ASCII_HEAD header" in rejection(tmp_path / "in", "bad")

    def test_another_frames_catalogue(self, tmp_path):
        write_pair(tmp_path / "in", "bad", {"X_IMAGE": 900}, {"X_IMAGE": 800}, {})
        assert "2 of 3 positions lie outside" in rejection(tmp_path / "in", "bad")

    def test_unreadable(self, tmp_path):
        with pytest.raises(CatalogueError, match="unreadable"):
            read_catalogue(tmp_path)
