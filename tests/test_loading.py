"""From the tile store to batches: normalisation, augmentation, order, determinism."""

import os
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from satdet.config import AugmentationConfig, EvaluationConfig, InputConfig, TrainingConfig
from satdet.data.augmentation import Augmentation, Sample
from satdet.data.loading import TileDataset, evaluation_loader, training_loader
from satdet.data.normalisation import KINDS, FrameScale, normalise
from satdet.data.store import TileStore, TileStoreWriter
from satdet.errors import ConfigError, TileStoreError

SIZE = 32
OBJECTS = [np.array([[4.0, 6.25, 10.5, 12.0], [0.0, 20.0, 5.0, 32.0]]), np.empty((0, 4)), np.array([[1.0, 2, 3, 4]])]
IGNORED = np.array([[7.0, 0.0, 9.0, 4.0]])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Nine training tiles, of which three have no object; one validation tile; no test tile."""
    path = tmp_path_factory.mktemp("tiles") / "store"
    rng = np.random.default_rng(0)
    with TileStoreWriter(path, SIZE) as writer:
        for number in range(10):
            writer.add(
                rng.normal(size=(SIZE, SIZE)),
                OBJECTS[number % 3],
                IGNORED if number % 2 == 0 else np.empty((0, 4)),
                frame=0,
                split="train" if number < 9 else "validation",
                origin=(0, 0),
            )
        writer.finish({"config": {"size": SIZE}, "frames": [{"name": "frame"}], "counts": {}})
    return TileStore.open(path)


def dataset(store, *, augmentation="dihedral", augment=True, seed=0, split="train", empty_tiles=True):
    augmentation = AugmentationConfig(orientation=augmentation) if augment else None
    return TileDataset(store.split(split, empty_tiles=empty_tiles), InputConfig(), augmentation, seed=seed)


def everything(loader):
    return [(images, targets) for images, targets in loader]


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for (images, targets), (other_images, other_targets) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        for target, other in zip(targets, other_targets, strict=True):
            assert all(torch.equal(target[key], other[key]) for key in ("boxes", "labels", "ignored"))


# --- normalisation

FRAME = FrameScale(background=300.0, rms=2.0, zscale=(-2.0, 8.0))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("clipped_sigma", [-1.0, -0.4, 0.0, 4.0]),
        ("asinh", [np.arcsinh(-9) / 3, np.arcsinh(-2) / 3, 0.0, np.arcsinh(100) / 3]),
        ("zscale", [0.0, 0.0, 0.2, 1.0]),
        ("counts", [2 * 282 - 1, 2 * 296 - 1, 2 * 300 - 1, 2 * 500 - 1]),
    ],
)
def test_normalise_follows_its_formula(kind, expected):
    tile = np.array([[-9, -2], [0, 100]], dtype=np.float16)
    result = normalise(tile, kind, FRAME)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.ravel(), expected, rtol=1e-6)


def test_normalise_by_tile_gives_mean_0_and_std_1():
    tile = np.random.default_rng(0).normal(3, 7, (64, 64)).astype(np.float16)
    result = normalise(tile, "tile")
    assert abs(result.mean()) < 1e-5
    assert abs(result.std() - 1) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_normalise_is_finite_whatever_the_tile_holds(kind):
    tile = np.array([[np.nan, np.inf], [-np.inf, 65504]], dtype=np.float16)
    flat = FrameScale(300.0, 2.0, (1.0, 1.0))
    assert np.isfinite(normalise(tile, kind, flat)).all()
    assert np.array_equal(normalise(np.full((4, 4), 2, np.float16), "tile"), np.zeros((4, 4)))


def test_normalise_takes_missing_pixels_for_background_and_leaves_the_tile_alone():
    tile = np.array([[np.nan, 5.0]], dtype=np.float16)
    assert normalise(tile, "clipped_sigma").tolist() == [[0.0, 1.0]]
    assert np.isnan(tile[0, 0])


def test_normalise_names_the_known_kinds_and_what_it_misses():
    with pytest.raises(ConfigError, match=r"'raw' is not one of clipped_sigma, asinh, zscale, tile, counts"):
        normalise(np.zeros((2, 2), np.float16), "raw")
    with pytest.raises(ConfigError, match="counts needs the scale of the tile's frame"):
        normalise(np.zeros((2, 2), np.float16), "counts")


def test_the_configuration_and_the_function_know_the_same_kinds():
    assert typing.get_args(typing.get_type_hints(InputConfig)["normalisation"]) == KINDS


# --- augmentation


def box_mask(boxes, size):
    """A picture that holds the number of each box in the pixels it covers, exact for whole-pixel boxes."""
    mask = np.zeros((size, size), dtype=np.float32)
    for number, (x1, y1, x2, y2) in enumerate(boxes.astype(int), start=1):
        mask[y1:y2, x1:x2] = number
    return mask


def symmetries(image):
    rotated = [np.rot90(image, quarter) for quarter in range(4)]
    return rotated + [np.fliplr(each) for each in rotated]


def change(**values):
    """The augmentation that does one thing alone."""
    return Augmentation(AugmentationConfig(**{"orientation": "none", **values}), min_visible=0.4)


def sample(pixels, boxes=(), ignored=()):
    return Sample(
        np.asarray(pixels, np.float32),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(ignored, np.float32).reshape(-1, 4),
    )


def noise(size=256, seed=0):
    return np.random.default_rng(seed).normal(size=(size, size))


def blob(size, centre, sigma, height):
    y, x = np.mgrid[:size, :size] + 0.5
    return height * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(("kind", "count"), [("rotations", 4), ("dihedral", 8)])
@pytest.mark.parametrize("size", [32, 33])
def test_an_orientation_is_an_exact_symmetry_of_pixels_and_boxes(kind, count, size):
    boxes = np.array([[0, 0, 3, 5], [7, 2, 20, 4], [10, 9, 11, size]], dtype=np.float32)
    tile = sample(noise(size), boxes[:2], boxes[2:])
    augmentation = change(orientation=kind)
    seen = set()
    for seed in range(80):
        moved = augmentation(tile, seed=seed)
        matches = [number for number, each in enumerate(symmetries(tile.pixels)) if np.array_equal(each, moved.pixels)]
        assert len(matches) == 1
        seen.add(matches[0])
        moved_boxes = np.concatenate([moved.boxes, moved.ignored])
        assert np.array_equal(box_mask(moved_boxes, size), symmetries(box_mask(boxes, size))[matches[0]])
        assert moved_boxes.dtype == np.float32
        assert np.array_equal(moved_boxes, np.round(moved_boxes))
    assert seen == set(range(count))


def test_an_orientation_keeps_boxes_that_reach_over_the_border_or_have_no_area():
    boxes = [[-4.0, 2.0, 40.0, 5.0], [3.0, 3.0, 3.0, 3.0]]
    moved = change(orientation="dihedral")(sample(np.zeros((32, 32)), boxes), seed=3).boxes
    sides = np.sort(moved[:, 2:] - moved[:, :2], axis=1)
    assert sides.tolist() == [[3.0, 44.0], [0.0, 0.0]]


@pytest.mark.parametrize("values", [{"zoom": 2.0}, {"zoom": 4.0}, {"noise": 2.0}, {"zoom": 2.0, "noise": 1.5}])
def test_noise_has_a_standard_deviation_of_1_before_and_after_every_change(values):
    augmentation = change(**values)
    spreads = [augmentation(sample(noise(seed=seed)), seed=seed).pixels.std() for seed in range(20)]
    assert np.allclose(spreads, 1, atol=0.04), spreads
    assert abs(np.mean(spreads) - 1) < 0.015


def test_zoom_moves_boxes_with_what_they_hold_and_keeps_its_light():
    centre, sigma = (70.0, 52.0), 4.0
    box = [centre[0] - 12, centre[1] - 12, centre[0] + 12, centre[1] + 12]
    tile = sample(blob(128, centre, sigma, 500.0), [box], [box])
    augmentation, factors = change(zoom=2.0), []
    for seed in range(30):
        moved = augmentation(tile, seed=seed)
        (x1, y1, x2, y2), light = moved.boxes[0], np.clip(moved.pixels - 4, 0, None)
        assert moved.pixels.shape == (128, 128)
        assert np.array_equal(moved.boxes, moved.ignored[:1])
        factor = float(x2 - x1) / 24
        factors.append(factor)
        y, x = np.mgrid[:128, :128] + 0.5
        found = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
        assert np.allclose(found, ((x1 + x2) / 2, (y1 + y2) / 2), atol=0.3 * max(1, factor))
        # In noise units the light of one source, spread over factor^2 pixels of 1 / factor the noise, grows as factor.
        assert moved.pixels[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].sum() == pytest.approx(
            tile.pixels.sum() * factor, rel=0.05
        )
    assert min(factors) < 0.7
    assert max(factors) > 1.4


def test_a_crop_holds_an_object_if_the_tile_does_and_cut_objects_follow_the_tiles_rule():
    boxes = [[10, 10, 20, 20], [50, 52, 60, 62], [30, 8, 34, 12]]
    tile, augmentation = sample(noise(64), boxes, [[0, 0, 64, 64]]), change(crop=32)
    cut_some = 0
    for seed in range(40):
        cut = augmentation(tile, seed=seed)
        assert cut.pixels.shape == (32, 32)
        whole = [box for box in cut.boxes.tolist() if min(box) > 0 and max(box) < 32]
        assert len(cut.boxes) >= 1
        (y,), (x,) = np.where(tile.pixels == cut.pixels[0, 0])
        for box in whole:
            assert (np.array(box) + np.array([x, y, x, y])).tolist() in boxes
        cut_some += len(cut.ignored) > 1
        assert [0, 0, 32, 32] in cut.ignored.tolist()
    assert cut_some
    assert change(crop=32)(sample(noise(64)), seed=1).boxes.shape == (0, 4)


def test_a_brighter_sky_fades_objects_as_much_as_it_raises_the_noise():
    augmentation = change(noise=2.0)
    ratios = [augmentation(sample(np.full((256, 256), 40.0)), seed=seed).pixels.mean() / 40 for seed in range(30)]
    assert 0.5 <= min(ratios) < 0.6
    assert 0.9 < max(ratios) <= 1.01


def test_a_wrong_background_is_a_plane():
    added = change(sky=0.5)(sample(np.zeros((64, 48))), seed=4).pixels
    assert added.std() > 0.05
    assert np.abs(np.diff(added, 2, axis=0)).max() < 1e-5
    assert np.abs(np.diff(added, 2, axis=1)).max() < 1e-5


ALL_CHANGES = {"orientation": "dihedral", "zoom": 1.5, "crop": 48, "noise": 1.3, "sky": 0.2}


def test_the_same_seed_makes_the_same_changes_and_leaves_the_tile_alone():
    tile = sample(noise(64), [[10, 10, 20, 20]], [[40, 40, 50, 50]])
    before = tile.pixels.copy()
    augmentation = change(**ALL_CHANGES)
    first, again, other = (augmentation(tile, seed=seed) for seed in (7, 7, 8))
    for key in ("pixels", "boxes", "ignored"):
        assert np.array_equal(getattr(first, key), getattr(again, key))
    assert not np.array_equal(first.pixels, other.pixels)
    assert np.array_equal(tile.pixels, before)
    assert first.pixels.dtype == first.boxes.dtype == np.float32


def test_importing_albumentations_asks_nothing_of_the_network():
    code = (
        "import socket, os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "def refuse(*_): raise SystemExit('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "import sys, satdet.data.augmentation as a; assert 'albumentations' not in sys.modules\n"
        "from satdet.config import AugmentationConfig\n"
        "a.Augmentation(AugmentationConfig(), 0.4); assert 'albumentations' in sys.modules"
    )
    finished = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr


# --- data set


def test_items_have_the_documented_shapes_and_separate_objects_from_ignored_regions(store):
    image, target = dataset(store, augment=False)[0]
    assert image.shape == (1, SIZE, SIZE)
    assert image.dtype == torch.float32
    assert torch.equal(target["boxes"], torch.tensor(OBJECTS[0], dtype=torch.float32))
    assert torch.equal(target["ignored"], torch.tensor(IGNORED, dtype=torch.float32))
    assert torch.equal(target["labels"], torch.ones(2, dtype=torch.int64))
    _, empty = dataset(store, augment=False)[1]
    assert empty["boxes"].shape == (0, 4)
    assert empty["ignored"].shape == (0, 4)
    assert empty["labels"].shape == (0,)


def test_boxes_and_ignored_regions_move_with_the_pixels(store):
    plain, moved = dataset(store, augment=False), dataset(store)
    for epoch in range(6):
        moved.set_epoch(epoch)
        image, target = moved[6]
        original, truth = plain[6]
        which = [each for each in range(8) if np.array_equal(symmetries(original[0].numpy())[each], image[0].numpy())]
        assert len(which) == 1
        for key in ("boxes", "ignored"):
            corners = box_mask(truth[key].numpy().round(), SIZE)
            assert np.array_equal(box_mask(target[key].numpy().round(), SIZE), symmetries(corners)[which[0]]), key


def test_augmentation_depends_on_seed_epoch_and_tile_alone(store):
    first, second = dataset(store, empty_tiles=True), dataset(store, empty_tiles=False)
    first.set_epoch(5)
    second.set_epoch(5)
    forwards = [first[position][0] for position in range(9)]
    backwards = [first[position][0] for position in reversed(range(9))][::-1]
    assert all(torch.equal(one, other) for one, other in zip(forwards, backwards, strict=True))
    kept = [forwards[position] for position in range(9) if position % 3 != 1]
    assert all(torch.equal(second[position][0], kept[position]) for position in range(6))
    first.set_epoch(6)
    assert any(not torch.equal(first[position][0], forwards[position]) for position in range(9))
    other_seed = dataset(store, seed=1)
    other_seed.set_epoch(5)
    assert any(not torch.equal(other_seed[position][0], forwards[position]) for position in range(9))


def test_without_augmentation_every_epoch_is_the_same(store):
    tiles = dataset(store, augment=False)
    before = [tiles[position][0] for position in range(9)]
    tiles.set_epoch(9)
    assert all(torch.equal(tiles[position][0], before[position]) for position in range(9))


# --- loaders


def test_training_batches_are_a_new_permutation_each_epoch_and_drop_the_rest(store):
    tiles = dataset(store, augmentation="none")
    loader = training_loader(tiles, TrainingConfig(batch_size=2, empty_tiles=True))
    assert len(loader) == 4
    tiles.set_epoch(1)
    first, again = everything(loader), everything(loader)
    assert_equal_batches(first, again)
    assert [images.shape for images, _ in first] == [(2, 1, SIZE, SIZE)] * 4
    assert sorted(tiles.order()) == list(range(9))
    orders = []
    for epoch in range(4):
        tiles.set_epoch(epoch)
        orders.append(tuple(tiles.order()))
    assert len(set(orders)) == 4


def test_tiles_per_epoch_takes_the_first_of_the_permutation(store):
    tiles = dataset(store)
    assert tiles.order(4) == tiles.order()[:4]
    assert len(training_loader(tiles, TrainingConfig(batch_size=2, tiles_per_epoch=4))) == 2
    only = everything(training_loader(tiles, TrainingConfig(batch_size=4, tiles_per_epoch=3)))
    assert [len(images) for images, _ in only] == [3]


def test_loader_workers_change_nothing(store):
    alone, helped = (
        training_loader(dataset(store), TrainingConfig(batch_size=2, loader_workers=workers)) for workers in (0, 2)
    )
    for loader in (alone, helped):
        loader.dataset.set_epoch(3)
    assert_equal_batches(everything(alone), everything(helped))


def test_a_loader_leaves_the_global_random_stream_alone(store):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    everything(training_loader(dataset(store), TrainingConfig(batch_size=2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_larger_than_the_data_names_both_numbers(store):
    with pytest.raises(ConfigError, match=r"training.batch_size = 16 is larger than the 9 training tiles"):
        training_loader(dataset(store), TrainingConfig(batch_size=16))


def test_evaluation_covers_every_tile_in_order(store):
    tiles = dataset(store, augment=False)
    batches = everything(evaluation_loader(tiles, EvaluationConfig(batch_size=4)))
    assert [len(images) for images, _ in batches] == [4, 4, 1]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, torch.stack([tiles[position][0] for position in range(9)]))


def test_a_split_without_tiles_is_named(store):
    with pytest.raises(TileStoreError, match="no tile in the test split"):
        evaluation_loader(dataset(store, augment=False, split="test"), EvaluationConfig(split="test"))
    with pytest.raises(TileStoreError, match="no tile with an object"):
        training_loader(dataset(store, split="test", empty_tiles=False), TrainingConfig())


# --- the store's files


def test_a_store_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, named = set(), []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_rename(path, target):
        named.append({name.name: name.stat().st_ino in synced for name in (path, *path.iterdir())})
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    with TileStoreWriter(tmp_path / "store", 8) as writer:
        writer.add(np.zeros((8, 8)), np.empty((0, 4)), np.empty((0, 4)), frame=0, split="train", origin=(0, 0))
        writer.finish({"config": {"size": 8}, "frames": [{"name": "frame"}], "counts": {}})
    (files,) = named
    assert {"manifest.json", "tiles.f16", "table.npy", "boxes.npy"} <= files.keys()
    assert all(files.values()), files
    assert tmp_path.stat().st_ino in synced
