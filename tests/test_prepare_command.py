"""The command that prepares tiles."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from satdet import prepare as command
from satdet.config import ConfigError
from satdet.data.ingest import prepare, store_path
from satdet.data.store import TileStore
from satdet.errors import CatalogueError
from satdet.simulate import simulate_survey
from tests.surveys import CONFIG, write_catalogue, write_frame, write_pair


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Ten frames of 192 px; never written to."""
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(folder, frames=10, seed=4, size=192)
    return folder


@pytest.fixture(scope="module")
def store(survey, tmp_path_factory):
    return prepare(survey, CONFIG, tmp_path_factory.mktemp("stores") / "tiles")


class TestCommandLine:
    def run(self, *arguments: object) -> int:
        return command.main([str(argument) for argument in arguments])

    def test_summary(self, survey, tmp_path, capsys):
        arguments = survey, "--out", tmp_path / "store", "--set", "tiles.size=64", "--set", "tiles.overlap=8"
        assert self.run(*arguments) == 0
        text = capsys.readouterr().out
        store = TileStore.open(tmp_path / "store")
        assert f"{store.manifest['tiles']} tiles of 64 px" in text and "10 in all" in text and "train" in text
        assert store.manifest["config"]["overlap"] == 8
        assert self.run(*arguments, "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        assert sum(summary["frames"].values()) == 10 and summary["digest"] == store.digest

    def test_rejected_frames_are_listed_up_to_twenty(self, tmp_path, capsys):
        write_pair(tmp_path / "in", "good")
        for number in range(23):
            (tmp_path / "in" / f"bad{number:02d}.fits.gz").write_bytes(b"")
        assert self.run(tmp_path / "in", "--out", tmp_path / "store", "--set", "tiles.size=64") == 0
        text = capsys.readouterr().out
        assert text.count("rejected: ") == 21 and "and 3 more" in text and "bad19" in text and "bad20" not in text

    def test_duplicates_and_warnings_are_listed(self, tmp_path, capsys):
        frame = write_pair(tmp_path / "in", "a")
        frame.with_name("b.fits.gz").write_bytes(frame.read_bytes())
        write_catalogue(frame.with_name("b.fits.gz"), {})
        (tmp_path / "in" / "labels.csv").write_text("frame,labels\na,OKAY\n")
        arguments = tmp_path / "in", "--out", tmp_path / "store", "--set", "tiles.size=64", "--accept", "OKAY, GALAXY"
        assert self.run(*arguments) == 0
        text = capsys.readouterr().out
        assert "frames: 1 used, 0 apart, 0 excluded, 1 duplicate, 0 rejected, 2 in all" in text
        assert "  duplicate: b.fits.gz: the same pixels as a.fits.gz" in text
        assert "  warning: 1 frames: unknown label 'OKAY' (did you mean 'OK'?)" in text
        assert TileStore.open(tmp_path / "store").manifest["config"]["accepted_labels"] == ["OKAY", "GALAXY"]

    def test_strict_stops_at_the_first(self, tmp_path, capsys):
        write_pair(tmp_path / "in", "good")
        write_frame(tmp_path / "in" / "lonely.fits.gz")
        arguments = tmp_path / "in", "--out", tmp_path / "store", "--set", "tiles.size=64"
        assert self.run(*arguments) == 0
        capsys.readouterr()
        assert self.run(*arguments, "--strict") == 4
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "lonely.fits.gz: no catalogue" in error
        with pytest.raises(CatalogueError):
            self.run(*arguments, "--strict", "--debug")

    def test_wrong_input_is_one_line_and_a_status(self, tmp_path, capsys):
        for arguments, status in (
            ((tmp_path / "none",), 4),
            ((tmp_path, "--set", "tiles.sise=3"), 2),
            ((tmp_path, "--set", "tiles.size=many"), 2),
            ((tmp_path, "--set", "optimizer.name=adam"), 2),
            ((tmp_path, "--set", "tiles.size"), 2),
        ):
            assert self.run(*arguments) == status
            assert capsys.readouterr().err.count("\n") == 1
        with pytest.raises(ConfigError, match=r"tiles\.size"):
            self.run(tmp_path, "--set", "tiles.sise=3", "--debug")

    def test_the_default_place_is_the_platforms(self, survey, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert self.run(survey, "--set", "tiles.size=64") == 0
        expected = store_path(Path("runs/data"), survey, CONFIG)
        assert TileStore.open(expected).manifest["counts"]["frames"]["used"] > 0
        assert str(expected) in capsys.readouterr().out

    def test_an_interruption_leaves_nothing_and_blames_no_frame(self, survey, tmp_path, monkeypatch, capsys):
        def interrupt(**settings):
            raise KeyboardInterrupt

        monkeypatch.setattr("zlib.decompressobj", interrupt)
        assert self.run(survey, "--out", tmp_path / "out" / "store", "--set", "tiles.size=64") == 130
        assert capsys.readouterr().err == "interrupted\n"
        assert list((tmp_path / "out").iterdir()) == []

    def test_progress_counts_every_frame(self, tmp_path):
        seen = []
        write_pair(tmp_path / "in", "a")
        write_pair(tmp_path / "in", "b")
        prepare(tmp_path / "in", CONFIG, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 2), (2, 2)]

    def test_the_module_runs_and_its_help_imports_nothing_heavy(self):
        code = (
            "import sys; from satdet.prepare import main\n"
            "try: main(['--help'])\n"
            "except SystemExit: pass\n"
            "print([name for name in ('numpy', 'astropy', 'sep', 'torch') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("[]")
        module = [sys.executable, "-m", "satdet.prepare", "/nowhere"]
        assert subprocess.run(module, capture_output=True, check=False).returncode == 4
