"""From catalogue rows to boxes, and from those to the boxes of a tile."""

from pathlib import Path

import numpy as np
import pytest

from satdet.config import BoxConfig, TilesConfig
from satdet.data.boxes import clip_to_tile
from satdet.data.ingest import prepare
from satdet.data.store import TileStore
from satdet.simulate import simulate_survey
from tests.surveys import CONFIG, SCALE, all_tiles, write_pair


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


TILE = 256


@pytest.fixture(scope="module")
def stars(tmp_path_factory):
    """Frames whose stars' true positions are known."""
    folder = tmp_path_factory.mktemp("stars")
    simulate_survey(folder, frames=6, seed=4, size=512, truth=True)
    return folder


def centre_errors(stars: Path, out: Path) -> np.ndarray:
    """Distances [px] from the centres of whole boxes to the stars in them, bright ones that stand alone, (n, 2)."""
    errors = []
    for split, position in all_tiles(prepare(stars, TilesConfig(size=TILE), out)):
        entry, origin = split.frame(position), np.array(split.origin(position))
        truth = np.loadtxt(stars / f"{entry['name']}_truth.csv", delimiter=",", skiprows=1)
        # The centre of the first pixel is 1 in the truth and 0.5 in edge coordinates.
        places = truth[:, :2] - 0.5 - origin
        apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 99 * np.eye(len(places))
        alone = (apart.min(axis=1) > 12) & (truth[:, 2] > 400 * entry["rms"])
        for x1, y1, x2, y2 in split.boxes(position):
            if min(x1, y1) <= 0 or max(x2, y2) >= TILE or x2 - x1 > 30:
                continue
            offsets = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - places
            nearest = np.hypot(*offsets.T).argmin()
            if np.hypot(*offsets[nearest]) < 2 and alone[nearest]:
                errors.append(offsets[nearest])
    return np.array(errors)


class TestAgainstTheTruth:
    def test_boxes_are_centred_on_the_true_stars(self, stars, tmp_path):
        errors = centre_errors(stars, tmp_path / "store")
        assert len(errors) > 40
        assert np.median(np.hypot(*errors.T)) <= 0.05
        assert np.abs(np.median(errors, axis=0)).max() < 0.02

    @pytest.mark.parametrize("correction", [0.0, 1.0])
    def test_without_the_half_pixel_they_are_not(self, stars, tmp_path, monkeypatch, correction):
        monkeypatch.setattr("satdet.data.boxes._FIRST_CENTRE", correction)
        errors = centre_errors(stars, tmp_path / "store")
        assert len(errors) > 40
        assert np.median(np.hypot(*errors.T)) > 0.6
