"""Evaluation without training: the grid against separate evaluations, the command, figures, failures."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from satdet.config import TrialConfig, flatten, with_values
from satdet.data.loading import evaluation_loader
from satdet.data.normalisation import normalise
from satdet.data.store import TileStore, TileStoreWriter
from satdet.detector import build_detector, suppress
from satdet.errors import CheckpointError, ConfigError
from satdet.evaluate.__main__ import main
from satdet.evaluate.data import evaluation_tiles, leak_warning
from satdet.evaluate.failures import find_failures
from satdet.evaluate.grid import Cell, Found, evaluate_grid, grid_cells
from satdet.simulate import simulate_survey
from satdet.training import files
from satdet.training.evaluation import evaluate
from satdet.training.export import FORMAT, KIND, Model, open_model

SIZE = 64
CONFIG = with_values(
    TrialConfig(),
    {
        "tiles.size": SIZE,
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.proposals_before_nms": 300,
        "detector.proposals_after_nms": 100,
        "detector.max_detections": 60,
        "training.precision": "float32",
        "evaluation.batch_size": 3,
    },
)
NMS = (0.2, 0.35, 0.5, 0.65, 0.8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread suits a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model of random weights: a hundred candidates a tile, of scores around 0.46."""
    torch.manual_seed(0)
    content = {
        "kind": KIND,
        "format": FORMAT,
        "model": build_detector(CONFIG.detector).state_dict(),
        "config": flatten(CONFIG),
        "normalisation": CONFIG.input.normalisation,
        "store": "another",
        "metrics": {"best_score": 0.47},
    }
    folder = tmp_path_factory.mktemp("trial")
    yield files.write_model(folder, content)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def model(checkpoint):
    return open_model(checkpoint)


@pytest.fixture(scope="module")
def contents(model):
    """Image, objects, ignored regions and magnitudes of eleven tiles; objects lie near some of the candidates."""
    rng = np.random.default_rng(0)
    tiles = []
    for count in (0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4):
        image = rng.normal(size=(SIZE, SIZE)).astype(np.float16)
        (found,) = model.candidates(torch.from_numpy(normalise(image, CONFIG.input.normalisation))[None, None], 0.0)
        chosen = found["boxes"].numpy()[rng.choice(len(found["boxes"]), count, replace=False)]
        corner = rng.uniform(0, 40, (count % 3, 2))
        boxes = np.clip(chosen + rng.normal(0, 0.7, (count, 4)), 0, SIZE)
        tiles.append((image, boxes, np.hstack([corner, corner + 15]), rng.uniform(12, 18, count)))
    return tiles


def write_store(path, contents, **changes):
    """Ten test tiles and a validation tile."""
    with TileStoreWriter(path, SIZE) as writer:
        for number, (image, boxes, ignored, magnitudes) in enumerate(contents):
            split = "test" if number < 10 else "validation"
            writer.add(image, boxes, ignored, frame=0, split=split, origin=(0, 0), magnitudes=magnitudes)
        entry = {"name": "night", "pixel_scale": 2e-4, "background": 300.0, "rms": 5.0, "zscale": [-1.0, 4.0]}
        config = {**flatten(CONFIG.tiles), **changes}
        writer.finish({"config": config, "frames": [entry], "counts": {}})
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory, contents):
    return TileStore.open(write_store(tmp_path_factory.mktemp("tiles") / "store", contents))


def batches(tiles, config=CONFIG):
    return evaluation_loader(tiles, config.evaluation)


# --- the grid


def test_every_cell_equals_a_separate_evaluation_to_the_bit(model, store, monkeypatch):
    tiles = evaluation_tiles(model, store, "test")
    cells = grid_cells(CONFIG.detector, nms_thresholds=NMS, score_thresholds=(0.05, 0.47), detections=(60, 7))
    results = evaluate_grid(model.candidates, batches(tiles), cells)
    assert len({tuple(result.metrics.compute().values()) for result in results}) > 5
    heads = model.detector.roi_heads
    for result in results[::3] + results[-1:]:  # every value of each axis
        monkeypatch.setattr(heads, "nms_thresh", result.cell.nms_threshold)
        monkeypatch.setattr(heads, "score_thresh", result.cell.score_threshold)
        monkeypatch.setattr(heads, "detections_per_img", result.cell.max_detections)
        alone = []

        def detect(images, alone=alone):
            with torch.inference_mode():
                alone += model.detector(images.contiguous(memory_format=torch.channels_last))
            return alone[-len(images) :]

        metrics = evaluate(detect, batches(tiles), max_detections=result.cell.max_detections)
        assert result.metrics.compute() == metrics, result.cell
        for own, other in zip(result.detections, alone, strict=True):
            assert np.array_equal(own.boxes, other["boxes"].numpy())
            assert np.array_equal(own.scores, other["scores"].numpy())


@pytest.mark.parametrize("seed", range(5))
def test_tied_scores_and_copies_are_suppressed_as_alone(seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 8, (120, 2)).astype(np.float32) * 4
    scores = rng.choice(np.float32([0.1, 0.3, 0.5, 0.5000001, 0.9]), 120)
    tile = {"boxes": torch.from_numpy(np.hstack([corner, corner + 10])), "scores": torch.from_numpy(scores)}
    target = {"boxes": tile["boxes"][:20], "labels": torch.ones(20, dtype=torch.int64)}
    cells = grid_cells(CONFIG.detector, nms_thresholds=NMS, score_thresholds=(0.1, 0.3, 0.5), detections=(60, 7))
    lowest = {key: value[tile["scores"] > 0.1] for key, value in tile.items()}
    results = evaluate_grid(lambda images, score: [lowest], [(torch.zeros(1, 1, 40, 40), [target])], cells)
    for result in results:
        cell = result.cell
        above = {key: value[tile["scores"] > cell.score_threshold] for key, value in tile.items()}
        (alone,) = suppress([above], cell.nms_threshold, cell.max_detections)
        assert np.array_equal(result.detections[0].boxes, alone["boxes"].numpy()), cell
        assert np.array_equal(result.detections[0].scores, alone["scores"].numpy()), cell


def test_one_forward_pass_serves_all_cells(model, store):
    passes = []

    def counted(images, score):
        passes.append(score)
        return model.candidates(images, score)

    tiles = evaluation_tiles(model, store, "test")
    cells = grid_cells(CONFIG.detector, nms_thresholds=NMS, score_thresholds=(0.5, 0.05))
    evaluate_grid(counted, batches(tiles), cells)
    assert passes == [0.05] * 4
    assert model.detector.roi_heads.score_thresh == CONFIG.detector.score_threshold


def test_cells_default_to_the_configuration_and_are_checked():
    (own,) = grid_cells(CONFIG.detector)
    assert own == Cell(nms_threshold=0.5, score_threshold=0.05, max_detections=60)
    with pytest.raises(ConfigError, match=r"detector\.nms_threshold = 1\.5 is above its maximum 1"):
        grid_cells(CONFIG.detector, nms_thresholds=[0.5, 1.5])
    with pytest.raises(ConfigError, match=r"detector\.max_detections = 2 is below its minimum 3"):
        grid_cells(CONFIG.detector, detections=[2])
    with pytest.raises(ConfigError, match=r"0\.5, 0\.5: a value is given twice"):
        grid_cells(CONFIG.detector, score_thresholds=[0.5, 0.5])


# --- the command


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_command_prints_a_table_and_writes_numbers_and_pictures(tmp_path, capsys, checkpoint, store):
    out = tmp_path / "out"
    status, printed, complaints = run(
        capsys, "--checkpoint", checkpoint, "--tiles", store.path, "--nms", "0.3", "0.5", "0.7", "--out", out,
        "--pictures", "0.3", "0.7", "--failures", "3", "--device", "cpu",
    )  # fmt: skip
    assert (status, complaints) == (0, "")
    header, titles, *rows = printed.splitlines()
    assert "on 10 test tiles with 21 objects" in header
    assert titles.split()[:4] == ["nms", "score", ">", "most"]
    assert [row.split()[:3] for row in rows] == [[f"{nms:.2f}", "0.05", "60"] for nms in (0.3, 0.5, 0.7)]
    results = json.loads((out / "results.json").read_text())
    assert results["digest"] == store.digest
    for cell in results["cells"]:
        assert sum(cell["completeness"]["objects"]) == results["number_of_objects"] == 21
        assert sum(cell["predictions_minus_objects"]["all"]["tiles"]) == 10
        assert np.mean(cell["precision_recall"]["precision"]) == pytest.approx(cell["metrics"]["map_50"])
    drawn = {path.name for path in out.glob("*.png")}
    assert drawn >= {"nms-0.30.png", "nms-0.70.png", "predictions_minus_objects.png", "completeness.png",
                     "precision_recall.png", "false.png"}  # fmt: skip
    for name in drawn:
        with Image.open(out / name) as image:
            assert min(image.size) > 200


def test_command_prints_json(capsys, checkpoint, store):
    status, printed, _ = run(
        capsys, "--checkpoint", checkpoint, "--tiles", store.path, "--split", "all", "--score", "0.05", "0.47",
        "--json", "--check",
    )  # fmt: skip
    results = json.loads(printed)
    assert status == 0
    assert results["number_of_tiles"] == 11
    assert [cell["score_threshold"] for cell in results["cells"]] == [0.05, 0.47]
    for cell in results["cells"]:
        assert cell["torchmetrics"]["map_50"] > 0
        for name, value in cell["torchmetrics"].items():
            assert cell["metrics"][name] == pytest.approx(value, abs=1e-6), name


def test_frames_are_cut_by_the_checkpoint_s_own_rule(tmp_path, capsys, monkeypatch, checkpoint):
    simulate_survey(tmp_path / "frames", frames=3, seed=3, size=128)
    monkeypatch.chdir(tmp_path)
    status, printed, _ = run(
        capsys, "--checkpoint", checkpoint, "--data", tmp_path / "frames", "--split", "all", "--json"
    )
    results = json.loads(printed)
    assert status == 0
    assert TileStore.open(tmp_path / results["tiles"]).manifest["config"] == flatten(CONFIG.tiles)
    assert results["number_of_tiles"] % 4 == 0 < results["number_of_objects"]


@pytest.mark.parametrize(
    ("changes", "flags", "complaint"),
    [
        ({"box.k": 3.0}, [], "made with tiles.box.k = 3.0, but"),
        ({"size": 32}, [], "made with tiles.size = 32, but"),
        ({"box.min_visible": 0.5}, ["--any-tile-size"], "made with tiles.box.min_visible = 0.5, but"),
    ],
)
def test_tiles_of_another_rule_are_refused(tmp_path, capsys, checkpoint, contents, changes, flags, complaint):
    path = write_store(tmp_path / "store", contents, **(changes if "size" not in changes else {}))
    if "size" in changes:
        with TileStoreWriter(path, 32) as writer:
            writer.add(np.zeros((32, 32)), np.empty((0, 4)), np.empty((0, 4)), frame=0, split="test", origin=(0, 0))
            writer.finish({"config": {**flatten(CONFIG.tiles), "size": 32}, "frames": [{"name": "f"}], "counts": {}})
    status, _, complaints = run(capsys, "--checkpoint", checkpoint, "--tiles", path, *flags)
    assert status == 4
    assert complaint in complaints
    assert str(checkpoint) in complaints
    if "size" in changes:
        assert run(capsys, "--checkpoint", checkpoint, "--tiles", path, "--any-tile-size")[0] == 0


def test_a_possible_leak_is_warned_of(tmp_path, capsys, model, checkpoint, contents):
    other = write_store(tmp_path / "store", contents, split_seed=1)
    status, _, complaints = run(capsys, "--checkpoint", checkpoint, "--tiles", other)
    assert status == 0
    assert "warning:" in complaints
    assert "split with tiles.split_seed = 1, the model's tiles with 0" in complaints
    same = TileStore.open(other)
    trained_on_it = Model(model.path, model.detector, model.config, model.device, same.digest, {})
    assert leak_warning(trained_on_it, same) is None


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--pictures", "0.3"], "--pictures and --failures need a folder"),
        (["--pictures", "0.3", "--out", "unused"], "--pictures 0.3 is not among the NMS thresholds 0.5"),
        (["--nms", "-1"], "detector.nms_threshold = -1.0 is below its minimum 0"),
    ],
)
def test_wrong_flags(tmp_path, monkeypatch, capsys, checkpoint, store, flags, complaint):
    monkeypatch.chdir(tmp_path)
    status, _, complaints = run(capsys, "--checkpoint", checkpoint, "--tiles", store.path, *flags)
    assert status == 2
    assert complaint in complaints
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_tiles(capsys, checkpoint, store):
    status, _, complaints = run(capsys, "--checkpoint", checkpoint, "--tiles", store.path, "--split", "train")
    assert status == 4
    assert "no tile in the train split" in complaints


# --- checkpoints


def altered(checkpoint, folder, **changes):
    content = {**files.read(checkpoint), **changes}
    folder.mkdir()
    return files.write_model(folder, {key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "another"}, r"not a model of satdet \(kind 'another'\)"),
        ({"format": 99}, "a model of format 99, this version reads 1"),
        ({"normalisation": "asinh"}, "normalisation = 'asinh', but its configuration has input.normalisation = 'clip"),
        ({"normalisation": None}, "lacks normalisation; export it again"),
        ({"config": {**flatten(CONFIG), "tiles.colour": 1}}, "configuration that this version does not know: unknown"),
        ({"config": {**flatten(CONFIG), "detector.version": "v2"}}, "its weights do not fit its configuration"),
        ({"kind": None, "learner": {}, "identity": {}}, r"checkpoint for training to go on from; give the model\.pt"),
    ],
)
def test_mismatched_checkpoints_are_refused(tmp_path, checkpoint, changes, complaint):
    path = altered(checkpoint, tmp_path / "altered", **changes)
    with pytest.raises(CheckpointError, match=complaint) as raised:
        open_model(path)
    assert str(path) in str(raised.value)
    shutil.rmtree(path.parent)


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def test_a_checkpoint_with_code_in_it_runs_nothing(tmp_path):
    torch.save({"kind": KIND, "format": FORMAT, "model": Evil(tmp_path / "created")}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        open_model(tmp_path / "model.pt")
    assert not (tmp_path / "created").exists()


# --- failures


def test_failures_are_sorted_into_missed_merged_and_false(tmp_path):
    objects = [(4, 4, 16, 16), (40, 4, 52, 16), (40, 40, 52, 52), (44, 41, 56, 53)]
    with TileStoreWriter(tmp_path / "store", SIZE) as writer:
        for magnitudes in ([12.0, 15.0, 14.0, 16.0], [13.0, np.nan, 14.0, 16.0]):
            writer.add(np.zeros((SIZE, SIZE)), np.array(objects), np.array([(0, 50, 12, 62)]), frame=0, split="test",
                       origin=(0, 0), magnitudes=np.array(magnitudes))  # fmt: skip
        writer.finish({"config": {"size": SIZE}, "frames": [{"name": "frame"}], "counts": {}})
    split = TileStore.open(tmp_path / "store").split("test")
    # Of the four objects the close pair has one detection; a false one, one on the ignored region, and one too weak.
    boxes = np.array([(40, 40, 52, 52), (20, 20, 30, 30), (1, 51, 11, 61), (4, 4, 16, 16)], dtype=np.float32)
    found = [Found(boxes, np.array([0.9, first, 0.8, 0.1], dtype=np.float32)) for first in (0.6, 0.7)]
    failures = find_failures(split, found, score_threshold=0.5, count=3)
    assert [(each.tile, each.magnitude) for each in failures["missed"]] == [(0, 12.0), (1, 13.0), (0, 15.0)]
    assert [(each.tile, each.box.tolist()) for each in failures["merged"]] == [
        (0, [44, 41, 56, 53]),
        (1, [44, 41, 56, 53]),
    ]
    assert [each.score for each in failures["false"]] == pytest.approx([0.7, 0.6])
    everything = find_failures(split, found, score_threshold=0.5, count=99)
    assert np.isnan(everything["missed"][-1].magnitude)
    assert len(everything["missed"]) == 4
