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

    @pytest.mark.parametrize("cell", ["OK;GALAXY", "OK|GALAXY", '"OK, GALAXY"', " OK ;; GALAXY;"])
    def test_any_separator(self, tmp_path, cell):
        (tmp_path / "labels.csv").write_text(f"frame,labels\na,{cell}\n")
        assert read_labels(tmp_path / "labels.csv") == {"a": ("OK", "GALAXY")}

    def test_notes_and_labels_are_kept_and_unknown_ones_are_said(self, tmp_path):
        folder = tmp_path / "in"
        for name in "abc":
            write_pair(folder, name)
        (folder / "labels.csv").write_text("frame,labels,note\na,OK,fine, really\nb,TRACES,sat?\nc,OK;TRACES;MINE,\n")
        manifest = prepare(folder, CONFIG, tmp_path / "store").manifest
        found = [(entry["labels"], entry["note"], entry["state"]) for entry in manifest["frames"]]
        assert found == [
            (["OK"], "fine, really", "used"),
            (["TRACES"], "sat?", "excluded"),
            (["OK", "TRACES", "MINE"], "", "excluded"),
        ]
        mine, traces = manifest["warnings"]
        assert mine.startswith("1 frames: unknown label 'MINE'") and "GALAXY, GRADIENT" in mine
        assert traces.startswith("2 frames: unknown label 'TRACES' (did you mean 'TRACE'?)")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("name,labels\na,OK\n", "no column frame"),
            ("", "no column frame, labels"),
            ("frame,labels\na,OK\na,ESO\n", "line 3: frame a is listed twice"),
            ("frame,labels\na,OK,GALAXY\n", "line 2: more cells than columns; put labels in quotes"),
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
