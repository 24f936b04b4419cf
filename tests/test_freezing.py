"""What is frozen stays as it is, what is not is trained, for every way of freezing."""

import copy
import logging

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from satdet.config import DetectorConfig, TrialConfig, with_values
from satdet.detector import build_detector, count_parameters, ever_trained, freeze
from satdet.detector.adapters import Adapter, LowRank
from satdet.training.learner import Learner

CPU = torch.device("cpu")
BASE = with_values(
    TrialConfig(),
    {
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.rpn_samples": 10**6,
        "detector.box_samples": 64,
        "detector.proposals_after_nms": 20,
        "optimizer.weight_decay": 0.1,
        "training.precision": "float32",
    },
)
MODES = {
    "none": {},
    "backbone": {},
    "stem_only": {},
    "stem_and_first_stage_only": {},
    "last_stages": {"stages": 2},
    "alternating": {"period": 2},
    "adapters": {"width": 4},
    "lora": {"rank": 2},
}
TRAINED_OF_THE_BODY = {
    "none": {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"},
    "backbone": set(),
    "stem_only": {"conv1", "bn1"},
    "stem_and_first_stage_only": {"conv1", "bn1", "layer1"},
    "last_stages": {"layer3", "layer4"},
    "alternating": set(),
    "adapters": {"conv1", "bn1", "adapter1", "adapter2", "adapter3", "adapter4"},
    "lora": {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"},
}
EVERY_MODE = [("resnet18", version, mode) for version in ("v1", "v2") for mode in MODES]
MODERN = [
    ("convnext_tiny", "v1", "lora"), ("convnext_tiny", "v2", "adapters"), ("efficientnet_v2_s", "v2", "last_stages"),
    ("efficientnet_v2_s", "v1", "lora"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One suits a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain():
    """Detectors without anything frozen, with statistics of batch norm that are not those of a new network."""
    made = {}

    def make(backbone="resnet18", version="v1"):
        if (backbone, version) not in made:
            torch.manual_seed(0)
            config = with_values(BASE, {"detector.backbone": backbone, "detector.version": version})
            made[backbone, version] = build_detector(config.detector)
        return made[backbone, version]

    return make


def configuration(mode, backbone="resnet18", version="v1", **more):
    freezing = {f"detector.freezing.{key}": value for key, value in ({"mode": mode} | MODES[mode]).items()}
    return with_values(BASE, {"detector.backbone": backbone, "detector.version": version} | freezing | more)


def tiles(count=2):
    target = {"boxes": torch.tensor([[2.0, 3, 14, 15], [16, 18, 28, 30]]), "labels": torch.ones(2, dtype=torch.int64)}
    return torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(3)), [target] * count


def learner_of(config, epoch=1):
    torch.manual_seed(1)
    learner = Learner(build_detector(config.detector), config, CPU, steps_per_epoch=2)
    learner.begin_epoch(epoch)
    return learner


@pytest.mark.parametrize(("backbone", "version", "mode"), EVERY_MODE + MODERN)
def test_what_is_frozen_does_not_move_and_all_else_has_a_gradient(backbone, version, mode):
    learner = learner_of(configuration(mode, backbone, version))
    detector = learner.detector
    before = copy.deepcopy(detector.state_dict())
    with_gradient = set()
    for _ in range(2):  # of a correction that begins at zero, one factor has a gradient only in the second step
        learner.step(*tiles())
        named = detector.named_parameters()
        with_gradient |= {name for name, each in named if each.grad is not None and each.grad.abs().max() > 0}
    trained = {name for name, each in detector.named_parameters() if each.requires_grad}
    assert with_gradient == trained
    body = {name.removeprefix("backbone.body.").split(".")[0] for name in trained if name.startswith("backbone.body.")}
    if backbone == "resnet18":
        assert body == TRAINED_OF_THE_BODY[mode]
    assert trained >= {name for name, _ in detector.named_parameters() if not name.startswith("backbone.body.")}
    for name, module in detector.named_modules():
        own = [f"{name}.{key}" for key in module.state_dict()] if not list(module.children()) else []
        if own and not any(key in trained for key in own):  # its statistics too
            assert all(torch.equal(before[key], detector.state_dict()[key]) for key in own), name


@pytest.mark.parametrize("mode", ["backbone", "lora"])
def test_frozen_batch_norm_rests_and_trained_batch_norm_does_not(mode):
    detector = learner_of(configuration(mode, version="v2")).detector
    detector.train()
    norms = {name: each for name, each in detector.named_modules() if isinstance(each, nn.BatchNorm2d)}
    resting = {name for name, each in norms.items() if not each.training}
    assert resting == {
        name
        for name in norms
        if name.startswith("backbone.body.") and not (mode == "lora" and name.endswith("body.bn1"))
    }
    assert not any(each.training for each in detector.eval().modules())


def test_stochastic_depth_falls_in_trained_parts_alone():
    with torch.device("meta"):
        detector = build_detector(configuration("last_stages", "convnext_tiny").detector)
    modes = {
        name.removeprefix("backbone.body.").split(".")[0]: module.training
        for name, module in detector.named_modules()
        if type(module).__name__ == "StochasticDepth"
    }
    assert modes == {"1": False, "3": False, "5": True, "7": True}


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "efficientnet_v2_s"])
@pytest.mark.parametrize("mode", ["adapters", "lora"])
def test_before_the_first_step_the_detector_is_the_pretrained_one_to_the_bit(plain, backbone, mode):
    images = tiles()[0].to(memory_format=torch.channels_last)  # as in training; another layout rounds otherwise
    detector = plain(backbone).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = detector.eval().backbone(images)
    config = configuration(mode, backbone).detector
    if mode == "adapters":
        widened = build_detector(config)
        missing = widened.load_state_dict(detector.state_dict(), strict=False).missing_keys
        assert len(missing) == 4 * 4
        assert sum(isinstance(module, Adapter) for module in widened.modules()) == 4
    else:
        torch.manual_seed(0)
        widened = build_detector(config)
        assert sum(isinstance(module, LowRank) for module in widened.modules()) >= 19
    with torch.inference_mode():
        found = widened.to(memory_format=torch.channels_last).eval().backbone(images)
    assert all(torch.equal(level, expected[name]) for name, level in found.items())


@pytest.mark.parametrize("mode", ["adapters", "lora", "alternating"])
def test_a_state_brings_back_the_same_structure_and_detections(mode):
    config = configuration(mode, **{"detector.score_threshold": 0.0})
    learner = learner_of(config, epoch=3)
    learner.step(*tiles())
    restored = build_detector(config.detector, initialise=False).to(memory_format=torch.channels_last)
    restored.load_state_dict(learner.detector.state_dict())
    with torch.inference_mode():
        found, wanted = (each.eval()(tiles()[0]) for each in (restored, learner.detector))
    assert len(wanted[0]["boxes"]) > 0
    assert torch.equal(found[0]["boxes"], wanted[0]["boxes"])


def test_alternating_is_a_function_of_the_epoch_and_momentum_moves_nothing_frozen(caplog):
    with caplog.at_level(logging.INFO):
        learner = learner_of(configuration("alternating", **{"optimizer.name": "adamw"}))
        shares = []
        for epoch in range(1, 8):
            learner.begin_epoch(epoch)
            shares.append(learner.parameters.trained == learner.parameters.total)
    assert shares == [False, False, True, True, False, False, True]
    assert [line for line in caplog.messages if "trained" in line] == [
        "from epoch 1: 28.28 M parameters, 17.11 M of them trained (60.5%)",
        "from epoch 3: 28.28 M parameters, 28.28 M of them trained (100.0%)",
        "from epoch 5: 28.28 M parameters, 17.11 M of them trained (60.5%)",
        "from epoch 7: 28.28 M parameters, 28.28 M of them trained (100.0%)",
    ]
    weight = learner.detector.backbone.body.layer1[0].conv1.weight
    norm = learner.detector.backbone.body.bn1
    learner.step(*tiles())
    moved, statistics = weight.detach().clone(), norm.running_mean.clone()
    assert learner.optimizer.state[weight]["exp_avg"].abs().max() > 0
    learner.begin_epoch(9)
    assert weight.grad is None
    learner.step(*tiles())
    assert torch.equal(weight, moved)
    assert torch.equal(norm.running_mean, statistics)
    assert torch.equal(learner.detector.backbone.body.bn1.weight, norm.weight)
    learner.begin_epoch(11)
    learner.step(*tiles())
    assert not torch.equal(weight, moved)
    assert not torch.equal(norm.running_mean, statistics)


def test_the_optimizer_holds_whatever_is_ever_trained(plain, monkeypatch):
    config = configuration("alternating").detector
    detector = copy.deepcopy(plain())
    freeze(detector, config)
    assert len(ever_trained(detector, config)) == len(list(detector.parameters()))
    kept = configuration("last_stages").detector
    freeze(detector, kept)
    assert {id(each) for each in ever_trained(detector, kept)} == {
        id(each) for each in detector.parameters() if each.requires_grad
    }
    monkeypatch.setattr(
        "satdet.training.learner.ever_trained", lambda detector, config: list(detector.rpn.parameters())
    )
    with pytest.raises(AssertionError, match=r"not in the optimizer: \['backbone.body.conv1.weight'"):
        learner_of(configuration("none"))


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"mode": "last_stages", "stages": 1}, {"mode": "last_stages", "stages": 3}),
        ({"mode": "adapters", "width": 4}, {"mode": "adapters", "width": 8}),
        ({"mode": "lora", "rank": 1}, {"mode": "lora", "rank": 2}),
    ],
)
def test_the_settings_of_freezing_change_what_is_trained(changes, other):
    counts = []
    for values in (changes, other):
        config = with_values(BASE, {f"detector.freezing.{key}": value for key, value in values.items()})
        with torch.device("meta"):
            counts.append(count_parameters(build_detector(config.detector)).trained)
    assert counts[0] < counts[1]


def test_a_correction_is_of_its_rank_and_scale():
    weight = torch.randn(6, 4, 3, 3)
    correction = LowRank(weight, rank=2, scale=0.5)
    assert torch.equal(correction(weight), weight)
    with torch.no_grad():
        correction.up.normal_()
    change = (correction(weight) - weight).detach().flatten(1)
    assert torch.linalg.matrix_rank(change, atol=1e-5) == 2
    torch.testing.assert_close(change, 0.5 * correction.up.detach() @ correction.down.detach(), rtol=1e-4, atol=1e-5)
    assert LowRank(torch.zeros(3, 1, 3, 3), rank=8, scale=1.0).up.shape == (3, 3)


@pytest.mark.parametrize("mode", MODES)
def test_the_policy_of_batch_norm_follows_the_weights_whatever_is_frozen(mode):
    """Pretrained v1 has fixed statistics in every part, also in those that are trained."""
    config = configuration(mode, **{"detector.weights": "backbone"}).detector
    with torch.device("meta"):
        body = build_detector(config, initialise=False).backbone.body
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in body.modules()) == 20
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())


def test_the_count_says_what_is_trained_in_words():
    layers = nn.Sequential(nn.Linear(999, 1000), nn.Linear(999, 1000).requires_grad_(False))
    assert str(count_parameters(layers)) == "2.00 M parameters, 1.00 M of them trained (50.0%)"
    assert DetectorConfig().freezing.mode == "none"
