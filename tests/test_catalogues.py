"""Reading catalogues, whole and damaged."""

import time

import numpy as np
import pytest
from astropy.io import fits

from satdet.data.catalogues import COLUMNS, read_catalogue
from satdet.data.ingest import prepare
from satdet.errors import CatalogueError
from tests.surveys import CONFIG, ROW, rejection, states, write_catalogue, write_frame, write_pair

ROWS = [ROW, ROW | {"X_IMAGE": 7.25, "MAG_CALIB": 13.5}]


def write_ldac(path, rows, extra=()):
    """FITS_LDAC: a table with the frame's header, then the table of the objects."""
    columns = [fits.Column(name, "J" if name == "FLAGS" else "E", array=[row[name] for row in rows]) for name in ROW]
    head = fits.BinTableHDU.from_columns([fits.Column("Field Header Card", "80A", array=["SIMPLE  = T"])])
    head.name = "LDAC_IMHEAD"
    objects = fits.BinTableHDU.from_columns([*extra, *columns], name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), head, objects]).writeto(path)
    return path


def write_csv(path, rows, *, delimiter=",", start="", columns=tuple(ROW)):
    lines = [delimiter.join(columns), *(delimiter.join(str(row[name]) for name in columns) for row in rows)]
    path.write_text(start + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


class TestForms:
    def assert_rows(self, catalogue):
        fields = "x", "y", "fwhm", "flux_radius", "ellipticity", "flags", "magnitude"
        for field, name in zip(fields, COLUMNS, strict=True):
            assert getattr(catalogue, field) == pytest.approx([row[name] for row in ROWS]), name
            assert getattr(catalogue, field).dtype == np.float64

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_any_order_more_columns_and_any_line_end(self, tmp_path, end):
        columns = ["FLAGS", "MAG_AUTO", *reversed([name for name in ROW if name != "FLAGS"])]
        catalogue = read_catalogue(write_catalogue(tmp_path / "a.fits.gz", *ROWS, columns=columns, end=end))
        self.assert_rows(catalogue)
        assert {name: values.tolist() for name, values in catalogue.extra.items()} == {"MAG_AUTO": [0, 0]}

    def test_a_byte_order_mark_and_tabs(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", *ROWS)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b" ", b"\t"))
        self.assert_rows(read_catalogue(path))

    def test_fits_ldac_whatever_its_name(self, tmp_path):
        extra = fits.Column("FLUX_APER", "2E", array=[[1, 2], [3, 4]]), fits.Column("NAME", "3A", array=["one", "two"])
        catalogue = read_catalogue(write_ldac(tmp_path / "a_trl.dat", ROWS, extra))
        self.assert_rows(catalogue)
        assert catalogue.extra["FLUX_APER"].tolist() == [[1, 2], [3, 4]]
        assert catalogue.extra["NAME"].tolist() == ["one", "two"]

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("start", ["", "\ufeff", "\r\n"])
    def test_csv(self, tmp_path, delimiter, start):
        self.assert_rows(read_catalogue(write_csv(tmp_path / "a.csv", ROWS, delimiter=delimiter, start=start)))

    def test_csv_with_text_and_gaps(self, tmp_path):
        rows = [row | {"ID": f'"a, {number}"', "B": ""} for number, row in enumerate(ROWS)]
        rows[1]["FWHM_WORLD"] = ""
        catalogue = read_catalogue(write_csv(tmp_path / "a.csv", rows, columns=[*ROW, "ID", "B"]))
        assert catalogue.extra["ID"].tolist() == ["a, 0", "a, 1"] and np.isnan(catalogue.extra["B"]).all()
        assert np.isnan(catalogue.fwhm).tolist() == [False, True] and catalogue.x.tolist() == [32.5, 7.25]

    @pytest.mark.parametrize("width", [1, 3])
    def test_the_numbers_in_the_header_are_the_truth(self, tmp_path, width):
        """FLUX_APER takes as many columns as the next number leaves; a last one takes the rest of the row."""
        names = ["X_IMAGE", "FLUX_APER", *(name for name in ROW if name != "X_IMAGE"), "VIGNET"]
        numbers = [1, 2, *range(2 + width, 2 + width + len(names) - 2)]
        lines = [f"# {number} {name} Comment" for number, name in zip(numbers, names, strict=True)]
        for row in ROWS:
            cells = [[row["X_IMAGE"]], range(width), *([row[name]] for name in ROW if name != "X_IMAGE"), range(9)]
            lines.append(" ".join(str(cell) for group in cells for cell in group))
        (tmp_path / "a.cat").write_text("\n".join(lines))
        catalogue = read_catalogue(tmp_path / "a.cat")
        self.assert_rows(catalogue)
        assert catalogue.extra["FLUX_APER"].reshape(2, -1).tolist() == [list(range(width))] * 2
        assert catalogue.extra["VIGNET"].shape == (2, 9)

    @pytest.mark.parametrize("form", ["ascii", "csv", "ldac"])
    def test_a_header_alone_has_no_rows(self, tmp_path, form):
        writers = {
            "ascii": lambda: write_catalogue(tmp_path / "a.fits"),
            "csv": lambda: write_csv(tmp_path / "a.csv", []),
            "ldac": lambda: write_ldac(tmp_path / "a.ldac", []),
        }
        assert len(read_catalogue(writers[form]())) == 0

    def test_200_000_rows_take_a_second(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits", *([{}] * 1000), columns=[*ROW, *(f"MAG_{n}" for n in range(7))])
        header, rows = path.read_text().split("\n")[:14], path.read_text().split("\n")[14:1014]
        path.write_text("\n".join(header + rows * 200))
        start = time.process_time()
        catalogue = read_catalogue(path)
        assert len(catalogue) == 200_000 and len(catalogue.extra) == 7
        assert time.process_time() - start < 2  # 0.6 s by itself


class TestPairing:
    @pytest.mark.parametrize("ending", ["_trl.dat", ".cat", "_trl.cat", "_trl.fits", ".ldac", "_trl.csv", ".csv"])
    def test_every_ending_of_a_catalogue(self, tmp_path, ending):
        write_frame(tmp_path / "in" / "a.fits.gz")
        write_ldac(tmp_path / "in" / f"a{ending}", ROWS)
        manifest = prepare(tmp_path / "in", CONFIG, tmp_path / "store").manifest
        assert [(entry["name"], entry["state"], entry["objects"]) for entry in manifest["frames"]] == [("a", "used", 2)]
        assert manifest["catalogues_without_frame"] == []

    def test_of_two_catalogues_one_is_read_and_it_is_said(self, tmp_path):
        frame = write_pair(tmp_path / "in", "a")
        write_ldac(frame.with_name("a.cat"), ROWS)
        write_csv(frame.with_name("a.csv"), ROWS)
        manifest = prepare(tmp_path / "in", CONFIG, tmp_path / "store").manifest
        assert manifest["frames"][0]["objects"] == 1
        assert manifest["warnings"] == ["a.fits.gz: the catalogue read is a_trl.dat, not a.cat, a.csv"]
        assert manifest["catalogues_without_frame"] == []

    def test_another_frames_catalogue(self, tmp_path):
        write_pair(tmp_path / "in", "bad", {"X_IMAGE": 900}, {"X_IMAGE": 800}, {})
        assert "2 of 3 positions lie outside" in rejection(tmp_path / "in", "bad")

    def test_another_frames_catalogue_of_the_same_size(self, tmp_path):
        rng = np.random.default_rng(0)
        places = rng.uniform(10, 246, (2, 40, 2))
        rows = [[{"X_IMAGE": x, "Y_IMAGE": y} for x, y in each] for each in places]
        y, x = np.mgrid[1:257, 1:257]
        for name, stars, listed in (("bad", places[1], rows[0]), ("right", places[0], rows[0])):
            pixels = rng.normal(1000, 10, (256, 256))
            for star in stars:
                pixels += 300 * np.exp(-((x - star[0]) ** 2 + (y - star[1]) ** 2) / 4)
            write_pair(tmp_path / "in", name, *listed, pixels=pixels.astype(np.float32))
        reason = rejection(tmp_path / "in", "bad")
        assert "bad_trl.dat: no signal at 3" in reason and "brightest positions; is it another frame's?" in reason
        assert states(prepare(tmp_path / "in", CONFIG, tmp_path / "store"))["right"] == "used"


class TestDamaged:
    def test_a_missing_column_is_named(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, columns=[name for name in ROW if name != "FWHM_WORLD"])
        with pytest.raises(CatalogueError, match=r"a_trl.dat: no column FWHM_WORLD; it has X_IMAGE"):
            read_catalogue(path)

    @pytest.mark.parametrize("name", ["FLUX_RADIUS", "X_IMAGE"])
    def test_a_cell_that_is_no_number_is_named_with_its_line(self, tmp_path, name):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {name: "2,5"})
        with pytest.raises(CatalogueError, match=rf"a_trl.dat line 9: {name} = '2,5' is not a number"):
            read_catalogue(path)
        path = write_csv(tmp_path / "a.csv", [ROW, ROW | {name: "none"}])
        with pytest.raises(CatalogueError, match=rf"a.csv line 3: {name} = 'none' is not a number"):
            read_catalogue(path)

    def test_what_no_box_is_made_of_may_be_no_number(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {"MAG_AUTO": "INDEF"}, columns=[*ROW, "MAG_AUTO"])
        catalogue = read_catalogue(path)
        assert catalogue.extra["MAG_AUTO"].tolist() == ["0", "INDEF"] and catalogue.x.tolist() == [32.5, 32.5]

    @pytest.mark.parametrize(("cut", "line"), [(" 16.0\n", 9), (" 16.0\n" + " 32.5 32.5", None)])
    def test_a_short_row_is_named_with_its_line(self, tmp_path, cut, line):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {})
        if line is None:
            path.write_text(path.read_text().replace(" 16.0\n", "\n"))
        else:
            path.write_text(path.read_text().removesuffix(cut))
        with pytest.raises(CatalogueError, match=rf"a_trl.dat line {line or 8}: 6 values for 7 columns"):
            read_catalogue(path)

    def test_a_short_row_of_csv_is_named_with_its_line(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ROWS)
        path.write_text(path.read_text().rstrip().rpartition(",")[0])
        with pytest.raises(CatalogueError, match=r"a.csv line 3: 6 values for 7 columns"):
            read_catalogue(path)

    @pytest.mark.parametrize("line", ["# 1 Y_IMAGE", "# 20 X_IMAGE", "# 0 AREA"])
    def test_a_header_that_contradicts_itself(self, tmp_path, line):
        path = write_catalogue(tmp_path / "a.fits.gz", {})
        path.write_text(line + "\n" + path.read_text())
        with pytest.raises(CatalogueError, match="repeats a name or a number"):
            read_catalogue(path)

    def test_a_csv_header_that_contradicts_itself(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", ROWS, columns=[*ROW, "X_IMAGE"])
        with pytest.raises(CatalogueError, match="names X_IMAGE more than once"):
            read_catalogue(path)

    def test_vectors_where_numbers_are_needed(self, tmp_path):
        path = write_catalogue(tmp_path / "a.fits.gz", {}, {})
        path.write_text(path.read_text().replace(" 16.0\n", " 16.0 17.0\n"))
        with pytest.raises(CatalogueError, match="MAG_CALIB does not hold one number a row"):
            read_catalogue(path)

    def test_a_vector_that_holds_something_not_a_number_is_named_with_its_line(self, tmp_path):
        (tmp_path / "a.cat").write_text("# 1 X_IMAGE\n1 2 3\n4 5 six\n")
        with pytest.raises(CatalogueError, match=r"a.cat line 3: X_IMAGE = 'six' is not a number"):
            read_catalogue(tmp_path / "a.cat")

    @pytest.mark.parametrize("content", [b"1 2 3\n", b"\x00\xff\xfe\n", b"# a remark\n", b"a,b\n1,2\n"])
    def test_no_header(self, tmp_path, content):
        frame = write_pair(tmp_path / "in", "bad")
        frame.with_name("bad_trl.dat").write_bytes(content)
        assert "no ASCII_HEAD header" in rejection(tmp_path / "in", "bad")

    def test_fits_without_a_table_or_cut_off(self, tmp_path):
        with pytest.raises(CatalogueError, match="a FITS file without a table"):
            read_catalogue(write_frame(tmp_path / "a.cat"))
        path = write_ldac(tmp_path / "b.cat", ROWS * 500)
        path.write_bytes(path.read_bytes()[:-9000])
        with pytest.raises(CatalogueError, match=r"b.cat: (cut off|unreadable or cut off)"):
            read_catalogue(path)

    def test_unreadable(self, tmp_path):
        with pytest.raises(CatalogueError, match=r"unreadable \(a folder\)"):
            read_catalogue(tmp_path)
        (tmp_path / "a.cat").write_bytes(b"")
        with pytest.raises(CatalogueError, match="an empty file"):
            read_catalogue(tmp_path / "a.cat")
