"""Prediction on whole frames: seams, normalisation, files, the command."""

import csv
import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import ascii as astropy_ascii
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from scipy import ndimage

from satdet.config import TrialConfig, flatten, with_values
from satdet.data.boxes import FrameObjects
from satdet.data.frames import Frame, read_frame
from satdet.data.ingest import prepare
from satdet.data.loading import TileDataset
from satdet.data.normalisation import KINDS
from satdet.data.tables import read_table
from satdet.detector import build_detector
from satdet.errors import FrameError, UsageError
from satdet.metrics import measure_overlaps
from satdet.pictures import DETECTION_COLOUR, IGNORED_COLOUR, TRUTH_COLOUR
from satdet.predict import Detections, Predictor, write_catalogue, write_csv, write_picture, write_regions
from satdet.predict.__main__ import main
from satdet.predict.seams import TileDetections, TileLayout, join_tiles
from satdet.simulate import simulate_survey
from satdet.training import files
from satdet.training.export import FORMAT, KIND, Model

SIZE, OVERLAP = 64, 24
CONFIG = with_values(
    TrialConfig(),
    {
        "tiles.size": SIZE,
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.proposals_before_nms": 200,
        "detector.proposals_after_nms": 150,
        "detector.nms_threshold": 0.3,
        "detector.box_samples": 32,
        "detector.rpn_samples": 64,
        "training.precision": "float32",
        "training.channels_last": False,
        "evaluation.batch_size": 4,
    },
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread suits a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class SquareFinder:
    """Stands in for a detector: finds painted squares exactly, as far as the tile shows them."""

    def __init__(self, jitter=0.0):
        self.roi_heads = SimpleNamespace(score_thresh=0.05)
        self.batches = []
        self._jitter = jitter
        self._rng = np.random.default_rng(0)

    def candidates(self, images):
        self.batches.append(images)
        return [self._find(image[0].numpy()) for image in images]

    def _find(self, image):
        labels, _ = ndimage.label(image > 2)  # 10 sigma
        boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in ndimage.find_objects(labels)]
        boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        boxes = boxes + self._rng.uniform(-self._jitter, self._jitter, (len(boxes), 4)).astype(np.float32)
        scores = self._rng.uniform(0.6, 0.9, len(boxes)).astype(np.float32)
        return {"boxes": torch.from_numpy(boxes), "scores": torch.from_numpy(scores)}


def predictor(tmp_path, finder=None, *, size=SIZE, overlap=OVERLAP, batch_size=4, score=0.5, **values):
    config = with_values(CONFIG, {"tiles.size": size, **values})
    model = Model(tmp_path / "model.pt", finder or SquareFinder(), config, torch.device("cpu"), "", {})
    return Predictor(model, score=score, overlap=overlap, batch_size=batch_size)


def painted(shape, squares, seed=0):
    """A frame of noise with bright squares of (x, y, side); and their boxes."""
    pixels = np.random.default_rng(seed).normal(1000, 5, shape).astype(np.float32)
    for x, y, side in squares:
        pixels[y : y + side, x : x + side] += 300
    return Frame(pixels, 2e-4), np.array([(x, y, x + side, y + side) for x, y, side in squares], dtype=np.float32)


def in_order(boxes):
    return boxes[np.lexsort(boxes.T)]


# --- seams


@pytest.mark.parametrize("offset", range(0, 48, 3))
def test_squares_at_all_offsets_of_a_seam_are_found_once_and_exactly(tmp_path, offset):
    # Tiles of 64 px begin every 40 px; squares every 23 px, shifted in 16 steps, meet the seams at every offset.
    sides = [3, 5, 8, 11, 14, 17]
    squares = [
        (x, y, sides[(i + j) % len(sides)])
        for i, x in enumerate(range(offset // 3, 180, 23))
        for j, y in enumerate(range(offset // 2, 150, 23))
    ]
    frame, truth = painted((171, 203), squares)
    tiled = predictor(tmp_path).predict(frame)
    np.testing.assert_array_equal(in_order(tiled.boxes), in_order(truth))
    in_one = predictor(tmp_path, size=256).predict(frame)
    np.testing.assert_array_equal(in_order(tiled.boxes), in_order(in_one.boxes))


@pytest.mark.parametrize("seed", range(4))
def test_objects_that_tiles_place_differently_are_neither_lost_nor_doubled(tmp_path, seed):
    rng = np.random.default_rng(seed)
    squares = [
        (x + rng.integers(0, 9), y + rng.integers(0, 9), 11) for x in range(2, 180, 22) for y in range(2, 150, 22)
    ]
    frame, truth = painted((171, 203), squares)
    found = predictor(tmp_path, SquareFinder(jitter=1.4)).predict(frame)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    expected = (truth[:, :2] + truth[:, 2:]) / 2
    nearest = np.abs(centres[:, None] - expected[None]).max(axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(len(truth)))


@pytest.mark.parametrize("side", [30, 44, 58])
def test_objects_larger_than_the_overlap_are_found_once(tmp_path, side):
    for shift in range(0, 40, 4):
        frame, truth = painted((171, 203), [(50 + shift, 40 + shift // 2, side)])
        found = predictor(tmp_path).predict(frame)
        assert len(found) == 1, shift
        x1, y1, x2, y2 = found.boxes[0]
        share = (x2 - x1) * (y2 - y1) / side**2
        assert share > 0.4, shift
        centre = (x1 + x2) / 2, (y1 + y2) / 2
        assert (truth[0, :2] < centre).all(), shift
        assert (truth[0, 2:] > centre).all(), shift


def test_neighbours_across_a_seam_stay_two():
    layout = TileLayout((64, 104), SIZE, OVERLAP)
    assert layout.origins == [(0, 0), (40, 0)]
    left = np.array([(44, 10, 52, 18)], dtype=np.float32)
    right = np.array([(50, 10, 58, 18)], dtype=np.float32)
    tiles = [
        TileDetections(boxes, np.array([0.9], dtype=np.float32), layout.window(origin))
        for boxes, origin in zip((left, right), layout.origins, strict=True)
    ]
    boxes, scores = join_tiles(tiles, layout.shape, 0.5)
    assert (len(boxes), len(scores)) == (2, 2)


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (64, 64), (64, 200), (65, 63), (300, 127)])
@pytest.mark.parametrize("overlap", [0, 1, 24, 32])
def test_every_point_of_a_frame_is_owned_by_a_tile_that_sees_it(shape, overlap):
    layout = TileLayout(shape, SIZE, overlap)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.stack([columns.ravel(), rows.ravel()] * 2, axis=1).astype(np.float32)
    owners = np.zeros(len(points), dtype=int)
    for origin in layout.origins:
        owned = layout.owned(points, origin)
        x1, y1, x2, y2 = layout.window(origin)
        assert (points[owned] >= [x1, y1, x1, y1]).all()
        assert (points[owned] <= [x2, y2, x2, y2]).all()
        owners += owned
    assert owners.min() >= 1
    if overlap == 0 and max(shape) <= SIZE:
        assert owners.max() == 1


def test_a_frame_smaller_than_a_tile_is_padded_and_nothing_is_found_beyond_it(tmp_path):
    frame, truth = painted((30, 45), [(2, 3, 6), (35, 20, 10)])
    finder = SquareFinder()
    found = predictor(tmp_path, finder).predict(frame)
    assert finder.batches[0].shape == (1, 1, SIZE, SIZE)
    assert (finder.batches[0][0, 0, 30:] == 0).all()
    np.testing.assert_array_equal(in_order(found.boxes), in_order(truth))


def test_the_detector_never_gets_more_than_a_batch(tmp_path):
    frame, _ = painted((300, 300), [(5, 5, 8)])
    finder = SquareFinder()
    steps = []
    predictor(tmp_path, finder, batch_size=3).predict(frame, progress=lambda done, total: steps.append((done, total)))
    tiles = len(TileLayout((300, 300), SIZE, OVERLAP).origins)
    assert {len(batch) for batch in finder.batches} <= {1, 2, 3}
    assert steps == [(done, tiles) for done in range(1, tiles + 1)]


def test_detections_are_best_first_and_above_the_score(tmp_path):
    frame, truth = painted((171, 203), [(x, y, 9) for x in range(5, 180, 25) for y in range(5, 150, 25)])
    everything = predictor(tmp_path, SquareFinder()).predict(frame)
    assert (np.diff(everything.scores) <= 0).all()
    assert len(everything) == len(truth)
    best = predictor(tmp_path, SquareFinder(), score=0.75).predict(frame)
    assert 0 < len(best) < len(truth)
    assert best.scores.min() >= 0.75


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"score": 1.5}, "score = 1.5 is not between 0 and 1"),
        ({"overlap": 33}, "overlap = 33 is not between 0 and 32 px"),
        ({"batch_size": 0}, "batch = 0 is below 1"),
    ],
)
def test_values_out_of_range(tmp_path, values, complaint):
    with pytest.raises(UsageError, match=complaint):
        predictor(tmp_path, **values)


# --- the same input as in training


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Three simulated frames of 150 px with catalogues, and their tiles."""
    folder = tmp_path_factory.mktemp("survey")
    frames = simulate_survey(folder / "frames", frames=3, seed=1, size=150)
    (folder / "frames" / "labels.csv").unlink()
    store = prepare(folder / "frames", CONFIG.tiles, folder / "store")
    return frames, store


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_of_a_frame_equal_the_store_s_to_the_bit(tmp_path, survey, kind):
    frames, store = survey
    config = with_values(CONFIG, {"input.normalisation": kind})
    paths = {path.name.partition(".")[0]: path for path in frames}
    compared = 0
    for split in ("train", "validation", "test"):
        tiles = TileDataset(store.split(split), config.input)
        for name in {tiles.split.frame(position)["name"] for position in range(len(tiles))}:
            finder = SquareFinder()
            predictor(tmp_path, finder, overlap=0, **{"input.normalisation": kind}).predict(paths[name])
            origins = TileLayout((150, 150), SIZE, 0).origins
            seen = dict(zip(origins, torch.cat(finder.batches), strict=True))
            for position in range(len(tiles)):
                if tiles.split.frame(position)["name"] == name:
                    assert torch.equal(tiles[position][0], seen[tiles.split.origin(position)])
                    compared += 1
    assert compared == store.manifest["tiles"] > 8


# --- a real detector


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A detector that has learnt, in a few steps, to find bright blobs."""
    torch.manual_seed(0)
    detector = build_detector(CONFIG.detector)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=7e-4)
    rng = np.random.default_rng(0)
    for _ in range(60):
        images, targets = [], []
        for _ in range(3):
            image, boxes = blobs((SIZE, SIZE), rng.uniform(6, SIZE - 6, (4, 2)), rng)
            images.append(torch.from_numpy(np.clip(image, -5, 20) / 5).float()[None])
            targets.append({"boxes": torch.from_numpy(boxes), "labels": torch.ones(4, dtype=torch.int64)})
        losses = detector(torch.stack(images), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10)
        optimizer.step()
    content = {
        "kind": KIND,
        "format": FORMAT,
        "model": detector.state_dict(),
        "config": flatten(CONFIG),
        "normalisation": CONFIG.input.normalisation,
        "metrics": {"best_score": 0.4},
    }
    folder = tmp_path_factory.mktemp("trial")
    yield files.write_model(folder, content)
    shutil.rmtree(folder)


def blobs(shape, centres, rng):
    image = rng.normal(size=shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    for x, y in centres:
        image += 40 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 12)
    return image, np.hstack([centres - 6, centres + 6]).astype(np.float32)


def test_a_real_detector_finds_the_same_in_tiles_as_in_one(checkpoint):
    rng = np.random.default_rng(5)
    centres = np.array([(x, y) for x in range(14, 200, 28) for y in range(14, 160, 28)]) + rng.uniform(-4, 4, (42, 2))
    image, truth = blobs((180, 210), centres, rng)
    frame = Frame((1000 + 5 * image).astype(np.float32), 2e-4)
    tiled = Predictor.load(checkpoint, "cpu", score=0.6, overlap=OVERLAP).predict(frame)
    one = Predictor.load(checkpoint, "cpu", score=0.6)
    one = Predictor(
        Model(one.model.path, one.model.detector, with_values(CONFIG, {"tiles.size": 224}), one.model.device, "", {}),
        score=one.score, overlap=0, batch_size=1,
    ).predict(frame)  # fmt: skip
    nearest = [
        [int(np.hypot(*(truth[:, :2] + 6 - (box[:2] + box[2:]) / 2).T).argmin()) for box in found.boxes]
        for found in (tiled, one)
    ]
    assert len(set(nearest[1])) > 0.8 * len(truth)  # it has learnt something
    assert len(set(nearest[0]) ^ set(nearest[1])) <= 2
    doubles = [len(each) - len(set(each)) for each in nearest]
    assert doubles[0] <= doubles[1] + 1
    best = measure_overlaps(tiled.boxes, one.boxes, np.empty((0, 4))).iou.max(axis=1)
    assert np.median(best) > 0.8


# --- files


@pytest.fixture
def detections(tmp_path, survey):
    """Of a simulated frame, whose header places it on the sky; boxes by hand, one at the frame's edge."""
    frame = read_frame(survey[0][0])
    found = predictor(tmp_path).predict(frame, name="night")
    boxes = np.array([(10, 20, 18, 30), (70.25, 80.5, 76.75, 88.5), (0, 100, 9, 109)], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    return Detections(
        name=found.name, boxes=boxes, scores=scores, wcs=found.wcs, pixel_scale=frame.pixel_scale, box_k=2.0,
        noise_units=found.noise_units,
    )  # fmt: skip


def test_catalogue_round_trip_through_astropy_and_our_reader(tmp_path, survey, detections):
    write_catalogue(tmp_path / "night.cat", detections)
    table = astropy_ascii.read(tmp_path / "night.cat", format="sextractor")
    assert table["NUMBER"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table["X_IMAGE"], [14.5, 74.0, 5.0])  # the first pixel's centre is 1
    np.testing.assert_allclose(table["Y_IMAGE"], [25.5, 85.0, 105.0])
    np.testing.assert_allclose(table["XMIN_IMAGE"], [10.5, 70.75, 0.5])
    np.testing.assert_allclose(table["YMAX_IMAGE"], [30.5, 89.0, 109.5])
    np.testing.assert_allclose(table["FWHM_IMAGE"], [9 / 4, 7.25 / 4, 9 / 4], atol=1e-3)
    np.testing.assert_allclose(table["FWHM_WORLD"], table["FWHM_IMAGE"] * detections.pixel_scale, atol=1e-6)
    assert table["FLAGS"].tolist() == [0, 0, 8]
    np.testing.assert_allclose(table["SCORE"], [0.9, 0.8, 0.7])
    assert str(table["X_IMAGE"].unit) == "pix"
    header = fits.getheader(survey[0][0])
    expected = WCS(header, fix=False).wcs_pix2world(np.array([[14.5, 25.5], [74, 85], [5, 105]]), 1)
    np.testing.assert_allclose(np.stack([table["ALPHA_J2000"], table["DELTA_J2000"]], axis=1), expected, atol=1e-6)
    own = read_table(tmp_path / "night.cat", ("X_IMAGE", "SCORE", "FLAGS"))
    for name in ("X_IMAGE", "SCORE", "FLAGS"):
        np.testing.assert_array_equal(own[name], table[name])


def test_csv_has_the_catalogue_s_columns(tmp_path, detections):
    write_catalogue(tmp_path / "night.cat", detections)
    write_csv(tmp_path / "night.csv", detections)
    table = astropy_ascii.read(tmp_path / "night.cat", format="sextractor")
    with (tmp_path / "night.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == table.colnames
    for name in table.colnames:
        np.testing.assert_array_equal([float(row[name]) for row in rows], table[name])


def test_regions_of_the_image_count_from_1(tmp_path, detections):
    write_regions(tmp_path / "night.reg", detections)
    lines = (tmp_path / "night.reg").read_text().splitlines()
    assert lines[0] == "# Region file format: DS9 version 4.1"
    assert lines[2] == "image"
    shapes = [
        re.fullmatch(r"box\(([-\d.]+),([-\d.]+),([\d.]+),([\d.]+),0\) # text=\{([\d.]+)\}", each) for each in lines[3:]
    ]
    values = np.array([[float(value) for value in shape.groups()] for shape in shapes])
    np.testing.assert_allclose(values, [[14.5, 25.5, 8, 10, 0.9], [74, 85, 6.5, 8, 0.8], [5, 105, 9, 9, 0.7]])


def test_regions_of_the_sky_lie_on_the_same_pixels(tmp_path, detections):
    write_regions(tmp_path / "night_fk5.reg", detections, sky=True)
    lines = (tmp_path / "night_fk5.reg").read_text().splitlines()
    assert lines[2] == "fk5"
    corners = np.array(
        [re.fullmatch(r"polygon\((.*)\) # text=.*", line)[1].split(",") for line in lines[3:]], dtype=float
    )
    pixels = detections.wcs.wcs_world2pix(corners.reshape(-1, 2), 0).reshape(-1, 4, 2) + 0.5
    np.testing.assert_allclose(pixels.min(axis=1), detections.boxes[:, :2], atol=2e-3)
    np.testing.assert_allclose(pixels.max(axis=1), detections.boxes[:, 2:], atol=2e-3)


def test_a_frame_without_a_place_on_the_sky_gets_no_sky_columns(tmp_path, detections):
    frame, _ = painted((60, 60), [(5, 5, 8)])
    lost = predictor(tmp_path).predict(Frame(frame.pixels, float("nan")))
    assert (lost.wcs, lost.sky) == (None, None)
    write_catalogue(tmp_path / "lost.cat", lost)
    columns = astropy_ascii.read(tmp_path / "lost.cat", format="sextractor").colnames
    assert not {"ALPHA_J2000", "DELTA_J2000", "FWHM_WORLD"} & set(columns)
    assert {"X_IMAGE", "FWHM_IMAGE", "SCORE"} <= set(columns)


def test_positions_in_another_system_become_j2000(tmp_path, detections):
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 75, "CRPIX2": 75,
            "CDELT1": -2e-4, "CDELT2": 2e-4, "RADESYS": "FK4", "EQUINOX": 1950.0,
        }
    )  # fmt: skip
    fields = {name: getattr(detections, name) for name in Detections.__dataclass_fields__}
    old = Detections(**{**fields, "wcs": WCS(header, fix=False)})
    moved = old.sky - WCS(header, fix=False).wcs_pix2world(old.centres, 1)
    np.testing.assert_allclose(moved, [[0.645, -0.245]] * 3, atol=0.01)  # fifty years of precession


def test_no_detection_at_all_is_written_too(tmp_path, detections):
    fields = {name: getattr(detections, name) for name in Detections.__dataclass_fields__}
    none = Detections(**{**fields, "boxes": detections.boxes[:0], "scores": detections.scores[:0]})
    write_catalogue(tmp_path / "none.cat", none)
    write_csv(tmp_path / "none.csv", none)
    write_regions(tmp_path / "none.reg", none, sky=True)
    write_picture(tmp_path / "none.png", none)
    assert len(read_table(tmp_path / "none.cat", ("X_IMAGE",))["X_IMAGE"]) == 0
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 1
    assert len((tmp_path / "none.reg").read_text().splitlines()) == 3


def test_picture_shows_catalogue_and_detections(tmp_path, detections):
    catalogue = FrameObjects(detections.boxes + 20, np.zeros(3), detections.boxes[:1] + 60, {})
    write_picture(tmp_path / "night.png", detections, catalogue)
    with Image.open(tmp_path / "night.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert max(pixels.shape) >= 900
    for colour in (TRUTH_COLOUR, DETECTION_COLOUR, IGNORED_COLOUR):
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=2) < 24).sum() > 30, colour


# --- the command


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_command_predicts_what_it_can_and_says_what_it_cannot(tmp_path, capsys, checkpoint, survey):
    frames, _ = survey
    broken = tmp_path / "broken.fits.gz"
    broken.write_bytes(frames[0].read_bytes()[:5000])
    alone = tmp_path / "alone.fits.gz"  # no catalogue beside it
    alone.write_bytes(frames[0].read_bytes())
    small = tmp_path / "small.fits"
    fits.PrimaryHDU(painted((40, 50), [(20, 20, 9)])[0].pixels).writeto(small)  # neither catalogue nor sky
    out = tmp_path / "out"
    status, printed, complaints = run(
        capsys, broken, frames[0], alone, small, "--checkpoint", checkpoint, "--out", out, "--device", "cpu", "--json"
    )
    assert status == 4
    assert complaints.count("broken.fits.gz") == 1
    assert "1 of 4 frames could not be used; the others are done" in complaints
    summary = json.loads(printed)
    assert summary["score"] == 0.4  # the checkpoint's best
    assert list(summary["failed"]) == [str(broken)]
    with_catalogue, without, tiny = summary["frames"]
    assert with_catalogue["objects"] > 0 <= with_catalogue["found"] <= with_catalogue["objects"]
    assert "objects" not in without
    stems = [frames[0].name.partition(".")[0], "alone", "small"]
    ends = [".cat", ".csv", ".reg", ".png"]
    expected = {f"{stem}_satdet{end}" for stem in stems for end in ends} | {f"{s}_satdet_fk5.reg" for s in stems[:2]}
    assert {path.name for path in out.iterdir()} == expected
    assert {name for entry in summary["frames"] for name in entry["files"]} == {str(out / name) for name in expected}
    assert tiny["detections"] == len(read_table(out / "small_satdet.cat", ("X_IMAGE",))["X_IMAGE"])


def test_command_prints_a_line_a_frame(tmp_path, capsys, checkpoint, survey):
    frame = survey[0][0]
    catalogue = tmp_path / "other.dat"
    catalogue.write_bytes(frame.with_name(f"{frame.name.partition('.')[0]}_trl.dat").read_bytes())
    status, printed, complaints = run(
        capsys, frame, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--catalogue", catalogue,
        "--score", "0.6", "--overlap", "10", "--batch", "2",
    )  # fmt: skip
    assert (status, complaints) == (0, "")
    first, last = printed.splitlines()
    assert re.search(r": \d+ detections, \d+ of \d+ catalogue objects found; .*_satdet\.cat$", first)
    assert last == "1 frames, score at least 0.600; 0 failed"


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["a/x.fits", "b/x.fits.gz"], 2, "a/x.fits and b/x.fits.gz have one name"),
        (["x.fits", "y.fits", "--catalogue", "z.dat"], 2, "--catalogue z.dat is of one frame, not of 2"),
        (["x.fits", "--overlap", "40"], 2, "overlap = 40 is not between 0 and 32 px"),
        (["x.fits"], 4, "x.fits: unreadable"),
    ],
)
def test_wrong_use(tmp_path, monkeypatch, capsys, checkpoint, arguments, status, complaint):
    monkeypatch.chdir(tmp_path)
    found, _, complaints = run(capsys, *arguments, "--checkpoint", checkpoint, "--out", "out")
    assert found == status
    assert complaint in complaints


def test_a_missing_checkpoint(tmp_path, capsys):
    status, _, complaints = run(capsys, "x.fits", "--checkpoint", tmp_path / "model.pt", "--out", tmp_path)
    assert status == 3
    assert "there is no such checkpoint" in complaints


def test_a_broken_catalogue_is_warned_of_unless_it_was_asked_for(tmp_path, capsys, checkpoint, survey):
    frame = tmp_path / "night.fits.gz"
    frame.write_bytes(survey[0][0].read_bytes())
    catalogue = tmp_path / "night_trl.dat"
    catalogue.write_text("nothing")
    common = ["--checkpoint", checkpoint, "--out", tmp_path / "out"]
    status, _, complaints = run(capsys, frame, *common)
    assert status == 0
    assert complaints.startswith("warning: ")
    status, _, complaints = run(capsys, frame, *common, "--catalogue", catalogue)
    assert status == 4
    assert "night_trl.dat" in complaints


def test_unreadable_frames_raise_in_the_api(tmp_path, checkpoint):
    with pytest.raises(FrameError, match=r"missing\.fits"):
        Predictor.load(checkpoint, "cpu").predict(tmp_path / "missing.fits")


@pytest.mark.parametrize("module", ["satdet.predict", "satdet.evaluate"])
def test_help_imports_nothing_heavy(module):
    probe = (
        f"import sys; from {module}.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'astropy', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_api_is_found_by_name_and_nothing_else_is():
    import satdet.predict

    assert {getattr(satdet.predict, name).__name__ for name in satdet.predict.__all__} == set(satdet.predict.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Predictions'"):
        satdet.predict.Predictions  # noqa: B018
