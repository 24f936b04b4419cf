"""Reading the curator's labels."""

import pytest

from satdet.config import TilesConfig
from satdet.data.ingest import prepare
from satdet.data.labels import read_labels
from satdet.errors import DataError
from tests.surveys import CONFIG, states, write_pair


class TestLabels:
    def test_names_with_or_without_ending_and_several_labels(self, tmp_path):
        path = tmp_path / "labels.csv"
        rows = "frame,labels,note", "a.fits.gz,OK; GALAXY,", "b,,nothing", "night/c.fits,ESO,x"
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
        assert read_labels(path) == {"a": ("OK", "GALAXY"), "b": (), "c": ("ESO",)}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("name,labels\na,OK\n", "no column frame"),
            ("", "no column frame, labels"),
            ("frame,labels\na,OK\na,ESO\n", "line 3: frame a is listed twice"),
        ],
    )
    def test_a_bad_label_file(self, tmp_path, content, message):
        write_pair(tmp_path / "in", "a")
        (tmp_path / "other.csv").write_text(content)
        with pytest.raises(DataError, match=message):
            prepare(tmp_path / "in", CONFIG, tmp_path / "store", labels=tmp_path / "other.csv")

    def test_a_missing_label_file(self, tmp_path):
        write_pair(tmp_path / "in", "a")
        with pytest.raises(DataError, match=r"none.csv: the label file cannot be read"):
            prepare(tmp_path / "in", CONFIG, tmp_path / "store", labels=tmp_path / "none.csv")

    def test_a_label_file_of_ones_own_wins(self, tmp_path):
        write_pair(tmp_path / "in", "a")
        write_pair(tmp_path / "in", "b")
        (tmp_path / "in" / "labels.csv").write_text("frame,labels\na,ESO\nb,ESO\n")
        (tmp_path / "mine.csv").write_text("frame,labels\na,OK\nb,ESO\n")
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store", labels=tmp_path / "mine.csv")
        assert states(store) == {"a": "used", "b": "excluded"}
        taking_all = TilesConfig(size=64, accepted_labels=("ESO",))
        store = prepare(tmp_path / "in", taking_all, tmp_path / "store")
        assert states(store) == {"a": "used", "b": "used"}
