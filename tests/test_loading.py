"""From the tile store to batches: normalisation, augmentation, order, determinism."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from satdet.config import AugmentationConfig, EvaluationConfig, InputConfig, TrainingConfig
from satdet.data.augmentation import build_augmentation
from satdet.data.loading import TileDataset, evaluation_loader, normalise, training_loader
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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("clipped_sigma", [-1.0, -0.4, 0.0, 4.0]),
        ("asinh", [np.arcsinh(-9) / 3, np.arcsinh(-2) / 3, 0.0, np.arcsinh(100) / 3]),
    ],
)
def test_normalise_follows_its_formula(kind, expected):
    tile = np.array([[-9, -2], [0, 100]], dtype=np.float16)
    result = normalise(tile, kind)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.ravel(), expected, rtol=1e-6)


def test_normalise_by_tile_gives_mean_0_and_std_1():
    tile = np.random.default_rng(0).normal(3, 7, (64, 64)).astype(np.float16)
    result = normalise(tile, "tile")
    assert abs(result.mean()) < 1e-5
    assert abs(result.std() - 1) < 1e-5


@pytest.mark.parametrize("kind", ["clipped_sigma", "asinh", "tile"])
def test_normalise_is_finite_whatever_the_tile_holds(kind):
    tile = np.array([[np.nan, np.inf], [-np.inf, 65504]], dtype=np.float16)
    assert np.isfinite(normalise(tile, kind)).all()
    assert np.array_equal(normalise(np.full((4, 4), 2, np.float16), "tile"), np.zeros((4, 4)))


def test_normalise_takes_missing_pixels_for_background_and_leaves_the_tile_alone():
    tile = np.array([[np.nan, 5.0]], dtype=np.float16)
    assert normalise(tile, "clipped_sigma").tolist() == [[0.0, 1.0]]
    assert np.isnan(tile[0, 0])


def test_normalise_names_the_known_kinds():
    with pytest.raises(ConfigError, match=r"'zscale' is not one of clipped_sigma, asinh, tile"):
        normalise(np.zeros((2, 2), np.float16), "zscale")


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


@pytest.mark.parametrize(("kind", "count"), [("rotations", 4), ("dihedral", 8)])
@pytest.mark.parametrize("size", [32, 33])
def test_augmentation_is_an_exact_symmetry_of_pixels_and_boxes(kind, count, size):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size, size)).astype(np.float32)
    boxes = np.array([[0, 0, 3, 5], [7, 2, 20, 4], [10, 9, 11, size]], dtype=np.float32)
    augmentation = build_augmentation(kind)
    seen = set()
    for seed in range(80):
        moved, moved_boxes = augmentation(image, boxes, seed=seed)
        matches = [number for number, each in enumerate(symmetries(image)) if np.array_equal(each, moved)]
        assert len(matches) == 1
        seen.add(matches[0])
        assert np.array_equal(box_mask(moved_boxes, size), symmetries(box_mask(boxes, size))[matches[0]])
        assert moved_boxes.dtype == np.float32
        assert np.array_equal(moved_boxes, np.round(moved_boxes))
    assert seen == set(range(count))


def test_augmentation_keeps_boxes_that_reach_over_the_border_or_have_no_area():
    boxes = np.array([[-4.0, 2.0, 40.0, 5.0], [3.0, 3.0, 3.0, 3.0]], dtype=np.float32)
    _, moved = build_augmentation("dihedral")(np.zeros((32, 32), np.float32), boxes, seed=3)
    sides = np.sort(moved[:, 2:] - moved[:, :2], axis=1)
    assert sides.tolist() == [[3.0, 44.0], [0.0, 0.0]]


def test_importing_albumentations_asks_nothing_of_the_network():
    code = (
        "import socket, os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "def refuse(*_): raise SystemExit('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "import sys, satdet.data.augmentation as a; assert 'albumentations' not in sys.modules\n"
        "assert a.build_augmentation('none') is None and 'albumentations' not in sys.modules\n"
        "a.build_augmentation('dihedral'); assert 'albumentations' in sys.modules"
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
