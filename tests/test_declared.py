"""Whatever can be declared of detector, optimizer and training changes something: no value is without effect."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from satdet.config import TrialConfig, flatten, leaf_paths, with_values
from satdet.data.loading import TileDataset, training_loader
from satdet.data.store import TileStore, TileStoreWriter
from satdet.detector import build_detector, required_weights
from satdet.detector.freezing import is_trained
from satdet.errors import TrainingError
from satdet.training.learner import Learner
from satdet.training.memory import halved
from satdet.training.optimizer import build_optimizer, learning_rate
from satdet.training.progress import Progress
from satdet.training.workers import Meeting, meet

CPU = torch.device("cpu")
SIDE = 64
BASE = with_values(
    TrialConfig(),
    {
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.batch_norm": "frozen",
        "detector.score_threshold": 0.4,
        "detector.proposals_before_nms": 60,
        "detector.proposals_after_nms": 40,
        "detector.max_detections": 30,
        "tiles.size": SIDE,
        "training.precision": "float32",
        "training.patience": None,
        "training.epochs": 4,
    },
)
TARGET = {
    "boxes": torch.tensor([[4.0, 5, 16, 17], [30, 40, 44, 54], [20, 8, 52, 40]]),
    "labels": torch.ones(3, dtype=torch.int64),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One suits a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return build_detector(BASE.detector).state_dict()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("tiles") / "store"
    with TileStoreWriter(path, SIDE) as writer:
        for number in range(10):
            boxes = TARGET["boxes"].numpy()[: number % 2]
            writer.add(np.ones((SIDE, SIDE)), boxes, np.empty((0, 4)), frame=0, split="train", origin=(0, 0))
        writer.finish({"config": {"size": SIDE}, "frames": [{"name": "frame"}], "counts": {}})
    return TileStore.open(path)


# --- what a configuration makes, as values that can be compared


def images(count=2):
    return torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def of_these_weights(config, weights):
    """The detector of `config` with weights that are always the same, and are not copied."""
    with torch.device("meta"):
        detector = build_detector(config.detector, initialise=False)
    detector.load_state_dict(weights, assign=True)
    return detector


def structure(config, weights, store):
    with torch.device("meta"):
        detector = build_detector(config.detector, initialise=False)
    kinds = sorted({type(module).__name__ for module in detector.modules()})
    return kinds, {name: tuple(value.shape) for name, value in detector.state_dict().items()}


def losses(config, weights, store):
    torch.manual_seed(0)
    with torch.no_grad():
        found = of_these_weights(config, weights).train()(images(), [TARGET, TARGET])
    return {name: loss.item() for name, loss in found.items()}


def detections(config, weights, store):
    with torch.inference_mode():
        found = of_these_weights(config, weights).eval()(images())
    return [tile["boxes"].tolist() for tile in found]


def weights_file(config, weights, store):
    return required_weights(config.detector)


def trained_names(config, weights, store):
    names = [f"backbone.body.{name}.weight" for name in ("conv1", *(f"layer{stage}.0.conv1" for stage in range(1, 5)))]
    return [[name for name in names if is_trained(name, config.detector, epoch)] for epoch in range(1, 7)]


def corrections(config, weights, store):
    torch.manual_seed(0)
    convolution = build_detector(config.detector, initialise=False).backbone.body.layer1[0].conv1
    with torch.no_grad():
        convolution.parametrizations.weight[0].up.fill_(1.0)
    return convolution.weight.sum().item()


def rates(config, weights, store):
    return [learning_rate(config.optimizer, step, epochs=3, steps_per_epoch=2) for step in range(6)]


def optimizer_steps(config, weights, store):
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer([weight], config.optimizer)
    for _ in range(2):
        weight.grad = torch.ones(1)
        optimizer.step()
    return weight.item()


def one_step(config, weights, store):
    """Of the learner: what was seen, and what became of the weights that are trained and evaluated."""
    torch.manual_seed(0)
    detector = of_these_weights(config, copy.deepcopy(weights))
    learner = Learner(detector, config, CPU, steps_per_epoch=2)
    learner.begin_epoch(1)
    sizes = []
    detector.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    for _ in range(2):
        loss = learner.step(images(), [TARGET, TARGET])
    first, predictor = detector.backbone.body.layer1[0].conv1.weight, learner.evaluated.roi_heads.box_predictor
    return sizes, loss.tolist(), first.stride(), predictor.cls_score.weight.tolist()


def epoch_of_tiles(config, weights, store):
    tiles = TileDataset(store.split("train", empty_tiles=config.training.empty_tiles), config.input)
    loader = training_loader(tiles, config.training)
    return loader.num_workers, [len(batch) for batch, _ in loader]


def course(config, weights, store):
    progress = Progress(config)
    for value in (0.5, 0.505, 0.51, 0.515, 0.52):
        if progress.stop_reason is None:
            progress.record({"loss": 1.0, "seconds_training": 1.0}, {"map_50": value, "seconds_evaluation": 1.0})
    return progress.epoch, progress.stop_reason


def pass_after_one_that_does_not_fit(config, weights, store):
    try:
        return halved(4, config, torch.OutOfMemoryError("CUDA out of memory."))
    except TrainingError as error:
        return str(error)


def layers_between_workers(config, weights, store):
    """The kinds of layers that a worker of several trains."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = Meeting(rank=0, count=1, file=Path(folder, "meeting"), seconds=60)
        with meet(meeting) as workers:
            detector = build_detector(config.detector)
            Learner(detector, config, CPU, steps_per_epoch=2, workers=workers)
            return sorted({type(module).__name__ for module in detector.modules()})


CASES = {
    "detector.backbone": (structure, "resnet34", {}),
    "detector.version": (structure, "v2", {}),
    "detector.weights": (weights_file, "backbone", {}),
    "detector.input_adaptation": (structure, "replicate", {}),
    "detector.batch_norm": (structure, "trainable", {}),
    "detector.freezing.mode": (trained_names, "backbone", {}),
    "detector.freezing.stages": (trained_names, 3, {"detector.freezing.mode": "last_stages"}),
    "detector.freezing.period": (trained_names, 2, {"detector.freezing.mode": "alternating"}),
    "detector.freezing.width": (structure, 8, {"detector.freezing.mode": "adapters"}),
    "detector.freezing.rank": (structure, 2, {"detector.freezing.mode": "lora"}),
    "detector.freezing.lora_scale": (corrections, 2.0, {"detector.freezing.mode": "lora"}),
    "detector.anchor_sizes": (losses, [10.0, 20.0, 30.0, 40.0, 50.0], {}),
    "detector.aspect_ratios": (structure, [1.0], {}),
    "detector.enlargement": (losses, 1.5, {}),
    "detector.roi_levels": (losses, 1, {"detector.enlargement": 4.0}),  # the second takes boxes from 112 px
    "detector.rpn_samples": (losses, 32, {}),
    "detector.box_samples": (losses, 16, {}),
    "detector.proposals_before_nms": (losses, 20, {}),
    "detector.proposals_after_nms": (losses, 5, {}),
    "detector.max_detections": (detections, 6, {}),
    "detector.score_threshold": (detections, 0.6, {}),
    "detector.nms_threshold": (detections, 0.1, {}),
    "optimizer.name": (optimizer_steps, "adamw", {"optimizer.weight_decay": 0.5}),
    "optimizer.learning_rate": (rates, 1e-2, {}),
    "optimizer.weight_decay": (optimizer_steps, 0.5, {"optimizer.name": "adamw"}),
    "optimizer.momentum": (optimizer_steps, 0.5, {"optimizer.name": "sgd"}),
    "optimizer.schedule": (rates, "cosine", {}),
    "optimizer.step_epochs": (rates, 1, {"optimizer.schedule": "step"}),
    "optimizer.step_factor": (rates, 0.5, {"optimizer.schedule": "step", "optimizer.step_epochs": 1}),
    "optimizer.warmup_steps": (rates, 3, {}),
    "optimizer.max_gradient_norm": (one_step, 1e-3, {"optimizer.name": "sgd"}),
    "training.epochs": (course, 5, {}),
    "training.batch_size": (epoch_of_tiles, 3, {}),
    "training.micro_batch_size": (one_step, 1, {}),
    "training.on_out_of_memory": (pass_after_one_that_does_not_fit, "halve_micro_batch", {}),
    "training.ema_decay": (one_step, 0.9, {}),
    "training.tiles_per_epoch": (epoch_of_tiles, 2, {}),
    "training.empty_tiles": (epoch_of_tiles, True, {}),
    "training.patience": (course, 1, {"training.min_improvement": 0.1}),
    "training.min_improvement": (course, 0.1, {"training.patience": 2}),
    "training.precision": (one_step, "bfloat16", {}),
    "training.channels_last": (one_step, False, {}),
    "training.sync_batch_norm": (layers_between_workers, False, {"detector.batch_norm": "trainable"}),
    "training.loader_workers": (epoch_of_tiles, 1, {}),
}


def test_every_declared_value_is_tried():
    sections = ("detector.", "optimizer.", "training.")
    assert sorted(CASES) == sorted(path for path in leaf_paths() if path.startswith(sections))


@pytest.mark.parametrize("path", CASES)
def test_a_declared_value_changes_what_is_made(path, weights, store):
    probe, value, before = CASES[path]
    config = with_values(BASE, before)
    changed = with_values(config, {path: value})
    assert flatten(config)[path] != flatten(changed)[path]
    first = probe(config, weights, store)
    assert probe(config, weights, store) == first  # or else a difference would say nothing
    assert probe(changed, weights, store) != first
