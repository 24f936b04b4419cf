"""From catalogue rows to boxes, and from those to the boxes of a tile."""

from pathlib import Path

import numpy as np
import pytest

from satdet.config import BoxConfig, TilesConfig
from satdet.data.boxes import clip_to_tile
from satdet.data.ingest import prepare
from satdet.data.store import TileStore
from tests.surveys import CONFIG, SCALE, write_pair


class TestBoxes:
    def store_of(self, tmp_path: Path, *rows: dict, **kwargs) -> TileStore:
        write_pair(tmp_path / "in", "one", *rows, **kwargs)
        return prepare(tmp_path / "in", CONFIG, tmp_path / "store")

    @pytest.mark.parametrize(
        ("row", "half"),
        [
            ({}, 8),
            ({"ELLIPTICITY": 0.6}, 16),
            ({"ELLIPTICITY": 0.5}, 8),
            ({"MAG_CALIB": 13.9}, 12),
            ({"ELLIPTICITY": 0.6, "MAG_CALIB": 13.9}, 12),
        ],
    )
    def test_the_reports_rule(self, tmp_path, row, half):
        split = self.store_of(tmp_path, row).split("train")
        assert np.allclose(split.boxes(0), [[32 - half, 32 - half, 32 + half, 32 + half]], atol=1e-3)

    @pytest.mark.parametrize(
        ("rule", "row", "half"),
        [
            ({"k": 1.0}, {}, 4),
            ({"elongated_k": 3.5, "elongated_ellipticity": 0.2}, {"ELLIPTICITY": 0.3}, 14),
            ({"bright_k": 2.5, "bright_magnitude": 15.0}, {"MAG_CALIB": 14.5}, 10),
        ],
    )
    def test_the_rule_is_the_configurations(self, tmp_path, rule, row, half):
        write_pair(tmp_path / "in", "one", row)
        config = TilesConfig(size=64, box=BoxConfig(**rule))
        split = prepare(tmp_path / "in", config, tmp_path / "store").split("train")
        assert np.allclose(split.boxes(0), [[32 - half, 32 - half, 32 + half, 32 + half]], atol=1e-3)

    @pytest.mark.parametrize(
        ("rule", "rows", "counts"),
        [
            ({"max_flags": 2}, [{"FLAGS": 2}, {"FLAGS": 3}], (1, 1)),
            ({"unmeasured_flux_radius": 77.0}, [{"FLUX_RADIUS": 77}, {"FLUX_RADIUS": 99}], (1, 0)),
            ({"max_flux_radius": 5.0}, [{"FLUX_RADIUS": 5}, {"FLUX_RADIUS": 4.9}], (1, 0)),
        ],
    )
    def test_thresholds_are_the_configurations(self, tmp_path, rule, rows, counts):
        write_pair(tmp_path / "in", "one", *rows)
        config = TilesConfig(size=64, box=BoxConfig(**rule))
        entry = prepare(tmp_path / "in", config, tmp_path / "store").manifest["frames"][0]
        assert (entry["objects"], entry["ignored"]) == counts

    def test_rows_that_are_no_objects_are_ignored_or_counted(self, tmp_path):
        store = self.store_of(
            tmp_path,
            {},
            {"FLAGS": 4, "X_IMAGE": 10.5},
            {"FLUX_RADIUS": 0},
            {"FLUX_RADIUS": 99},
            {"FLUX_RADIUS": 50000},
            {"FWHM_WORLD": 0},
            {"X_IMAGE": "nan"},
            {"X_IMAGE": 900},
        )
        entry = store.manifest["frames"][0]
        assert (entry["objects"], entry["ignored"]) == (1, 1)
        assert entry["dropped"] == {
            "position or size not finite": 1,
            "FWHM_WORLD not above 0": 1,
            "outside the frame": 1,
            "FLUX_RADIUS out of range": 3,
        }
        assert np.allclose(store.split("train").ignored(0), [[2, 24, 18, 40]], atol=1e-3)

    def test_a_pixel_scale_from_any_header(self, tmp_path):
        turned = {"CD1_1": 0.0, "CD1_2": SCALE, "CD2_1": SCALE, "CD2_2": 0.0}
        steps = {"CDELT1": -SCALE, "CDELT2": SCALE}
        unit = {"CDELT1": 1.0, "CDELT2": 1.0, "PC1_1": SCALE, "PC2_2": -SCALE}
        for number, header in enumerate((turned, steps, unit)):
            write_pair(tmp_path / "in", f"frame{number}", header=header)
        store = prepare(tmp_path / "in", CONFIG, tmp_path / "store")
        assert [entry["pixel_scale"] for entry in store.manifest["frames"]] == pytest.approx([SCALE] * 3)

    def test_clipping_keeps_what_is_visible_enough(self):
        boxes = np.array([[10, 10, 20, 20], [-5, 0, 5, 10], [-7, 0, 3, 10], [70, 0, 80, 10]], dtype=np.float32)
        ignored = np.array([[60, 60, 70, 70], [-10, -10, 0, 0]], dtype=np.float32)
        corner = np.array([100, 200, 100, 200], dtype=np.float32)
        kept, regions = clip_to_tile(boxes + corner, ignored + corner, (100, 200), 64, 0.4)
        assert kept.tolist() == [[10, 10, 20, 20], [0, 0, 5, 10]]
        assert regions.tolist() == [[60, 60, 64, 64], [0, 0, 3, 10]]
