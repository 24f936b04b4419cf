"""The data of a store in figures: right by hand-made data, and as the command writes them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from satdet.config import TilesConfig
from satdet.data.ingest import prepare
from satdet.data.store import SPLITS, TileStore
from satdet.describe import DataStatistics, collect, draw_figures, summarise, table
from satdet.describe import __main__ as command
from satdet.errors import DataError
from satdet.simulate import simulate_survey


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(folder, frames=10, seed=4, size=192)
    return folder


@pytest.fixture(scope="module")
def store(survey, tmp_path_factory):
    return prepare(survey, TilesConfig(size=64), tmp_path_factory.mktemp("stores") / "tiles")


def statistics(**values):
    empty = dict.fromkeys(
        ("frame_objects", "tile_objects", "box_areas", "box_sides", "magnitudes", "sky_levels", "noise_levels"),
        np.array([]),
    )
    return DataStatistics(**{**empty, "labels": {"OK": 2}, "states": {"used": 2}, **values})


def test_what_is_collected_is_what_the_store_holds(store):
    data = collect(store)
    used = [entry for entry in store.manifest["frames"] if entry["state"] == "used"]
    assert data.frame_objects.tolist() == [entry["objects"] for entry in used]
    assert data.tile_objects.sum() == sum(store.manifest["counts"][split]["objects"] for split in SPLITS)
    assert len(data.tile_objects) == store.manifest["tiles"]
    assert len(data.box_areas) == data.frame_objects.sum()
    np.testing.assert_allclose(data.box_sides**2, data.box_areas, rtol=1e-3)  # the report's boxes are square
    assert data.sky_levels.tolist() == [entry["background"] for entry in used]
    assert sum(data.labels.values()) == sum(len(entry["labels"]) or 1 for entry in store.manifest["frames"])
    assert sum(data.states.values()) == len(store.manifest["frames"])


def test_summaries_follow_their_definitions():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    (row,) = summarise(statistics(box_areas=values))
    assert (row.name, row.unit, row.count, row.mean, row.median) == ("box area", "px²", 5, 22.0, 3.0)
    assert (row.quartile_1, row.quartile_3, row.minimum, row.maximum) == (2.0, 4.0, 1.0, 100.0)
    assert row.outliers == 1  # beyond 4 + 1.5 * 2
    assert row.deviation == pytest.approx(values.std())
    assert table([row]).splitlines()[2].startswith("| box area | px² | 5 | 22 |")


def test_figures_are_drawn_even_of_nothing_and_of_one_value(tmp_path):
    for name, data in (("none", statistics()), ("one", statistics(box_areas=np.ones(3), sky_levels=np.zeros(2)))):
        for path in draw_figures(data, tmp_path / name):
            with Image.open(path) as picture:
                assert picture.width > 500


def test_the_command_writes_tables_and_pictures(store, tmp_path, capsys):
    assert command.main([str(store.path), "--out", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert {row["name"] for row in printed["summaries"]} >= {"objects a frame", "objects a tile", "box area"}
    assert printed["states"] == store.manifest["counts"]["frames"]
    assert "| objects a tile |" in (tmp_path / "out" / "statistics.md").read_text()
    assert len(list((tmp_path / "out").glob("*.png"))) == 5


def test_a_store_whose_frames_are_gone_says_so(survey, tmp_path, capsys):
    shutil.copytree(survey, tmp_path / "frames")
    store = prepare(tmp_path / "frames", TilesConfig(size=64), tmp_path / "tiles")
    shutil.rmtree(tmp_path / "frames")
    with pytest.raises(DataError, match="no longer there"):
        collect(TileStore.open(store.path))
    assert command.main([str(store.path), "--out", str(tmp_path / "out")]) == 4
    assert capsys.readouterr().err.count("\n") == 1
