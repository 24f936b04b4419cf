"""The steps of training: what moves, at which rate, over how many passes, and what is averaged."""

import copy

import pytest
import torch
from torch import nn

from satdet.config import OptimizerConfig, TrialConfig, with_values
from satdet.detector import build_detector
from satdet.training.averaging import WeightAverage
from satdet.training.learner import LOSSES, Learner
from satdet.training.optimizer import build_optimizer, learning_rate

CPU = torch.device("cpu")
BASE = with_values(
    TrialConfig(),
    {
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.batch_norm": "frozen",
        "detector.rpn_samples": 10**6,  # all: nothing is drawn at random
        "detector.box_samples": 10**6,
        "detector.proposals_after_nms": 10,  # so few that every tile has as many
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 1e-3,
        "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0,
        "training.precision": "float32",
    },
)
TARGET = {"boxes": torch.tensor([[2.0, 3, 14, 15], [16, 18, 28, 30]]), "labels": torch.ones(2, dtype=torch.int64)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One suits a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return build_detector(BASE.detector)


def tiles(count):
    return torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(3)), [TARGET] * count


def stepped(detector, values, *, count=2, steps=1):
    """A learner of a copy of `detector`, and the losses of its last step."""
    learner = Learner(copy.deepcopy(detector), with_values(BASE, values), CPU, steps_per_epoch=4)
    learner.begin_epoch(1)
    for _ in range(steps):
        losses = learner.step(*tiles(count))
    return learner, losses


# --- the rate


def test_the_learning_rate_warms_up_and_follows_its_schedule():
    def rates(config, steps):
        return [learning_rate(config, step, epochs=3, steps_per_epoch=4) for step in steps]

    cosine = OptimizerConfig(learning_rate=2.0, schedule="cosine", warmup_steps=4)
    assert rates(cosine, range(5)) == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates(cosine, [8, 12, 99]) == pytest.approx([1.0, 0.0, 0.0])
    assert rates(OptimizerConfig(learning_rate=2.0), [0, 10**6]) == [2.0, 2.0]
    step = OptimizerConfig(learning_rate=2.0, schedule="step", step_epochs=2, step_factor=0.5, warmup_steps=1)
    assert rates(step, [0, 7, 8, 15, 16, 24]) == [2.0, 2.0, 1.0, 1.0, 0.5, 0.25]
    assert rates(OptimizerConfig(learning_rate=2.0, schedule="step", warmup_steps=2), [0, 1]) == [1.0, 2.0]


def test_the_optimizer_has_the_rate_of_the_schedule(detector):
    learner, _ = stepped(detector, {"optimizer.warmup_steps": 4}, steps=3)
    assert learner.learning_rate == pytest.approx(0.75e-3)
    assert [group["lr"] for group in learner.optimizer.param_groups] == [learner.learning_rate]


# --- the optimizers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Two steps of gradient 1 from 1, rate 0.1, decay 0.5. Adam: the decay belongs to the gradient, whose size does
        # not matter; AdamW: to the weight; SGD with momentum 0.5: v = 1.5, then 0.75 + 1 + 0.5 * 0.85.
        ("adam", 0.8),
        ("adamw", ((1 * 0.95) - 0.1) * 0.95 - 0.1),
        ("sgd", 0.85 - 0.1 * (0.75 + 1 + 0.5 * 0.85)),
    ],
)
def test_each_optimizer_takes_the_steps_of_its_definition(name, expected):
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer([weight], OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5, momentum=0.5))
    for _ in range(2):
        weight.grad = torch.ones(1)
        optimizer.step()
    assert weight.item() == pytest.approx(expected, rel=2e-3)


def test_the_gradient_is_clipped_to_its_norm(detector):
    free, _ = stepped(detector, {})
    clipped, _ = stepped(detector, {"optimizer.max_gradient_norm": 1e-3})
    before, after = (
        torch.cat([each.grad.flatten() for each in learner.detector.parameters()]) for learner in (free, clipped)
    )
    assert before.norm() > 0.1
    assert after.norm().item() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(after / after.norm(), before / before.norm(), rtol=1e-3, atol=1e-6)


# --- accumulation


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_accumulated_gradients_and_losses_are_those_of_the_whole_batch(detector, micro_batch):
    """Three tiles, so that the last pass is smaller; all anchors and proposals are sampled, as many in every tile."""
    whole, losses = stepped(detector, {}, count=3)
    seen = []
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs[0])) if isinstance(module, type(whole.detector)) else None
    )
    try:
        accumulated, parts = stepped(detector, {"training.micro_batch_size": micro_batch}, count=3)
    finally:
        hook.remove()
    assert max(seen) == micro_batch
    assert sum(seen) == 3
    torch.testing.assert_close(parts, losses, rtol=1e-5, atol=1e-6)
    assert len(parts) == len(LOSSES)
    for (name, one), other in zip(whole.detector.named_parameters(), accumulated.detector.parameters(), strict=True):
        scale = one.grad.abs().max().item()
        torch.testing.assert_close(
            other.grad, one.grad, rtol=1e-3, atol=1e-4 * scale, msg=lambda text, n=name: n + text
        )
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


def test_a_micro_batch_as_large_as_the_batch_changes_no_bit(detector):
    (whole, losses), (other, parts) = (stepped(detector, {"training.micro_batch_size": size}) for size in (None, 2))
    assert torch.equal(losses, parts)
    assert all(map(torch.equal, whole.detector.state_dict().values(), other.detector.state_dict().values()))


# --- the average


def test_the_average_weighs_each_step_by_the_decay_and_is_not_biased_to_the_first():
    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))
            self.register_buffer("statistic", torch.zeros(1))
            self.register_buffer("count", torch.tensor(0))

    tiny = Tiny()
    average = WeightAverage(tiny, 0.9)
    values = [4.0, 1.0, 2.0]
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            tiny.weight.fill_(value)
        tiny.statistic.fill_(value)
        tiny.count += 1
        average.update(step)
    weights = [0.81, 0.9, 1.0]
    expected = sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
    assert average.detector.weight.tolist() == pytest.approx([expected] * 2)
    assert average.detector.statistic.item() == pytest.approx(expected)
    assert average.detector.count == 3
    assert not average.detector.weight.requires_grad
    assert tiny.weight.requires_grad


def test_the_average_is_what_is_evaluated_and_leaves_the_course_of_training_alone(detector):
    plain, _ = stepped(detector, {}, steps=3)
    averaging, _ = stepped(detector, {"training.ema_decay": 0.5}, steps=3)
    weights = averaging.detector.state_dict()
    assert all(map(torch.equal, plain.detector.state_dict().values(), weights.values()))
    assert plain.evaluated is plain.detector
    assert averaging.evaluated is not averaging.detector
    averages = averaging.evaluated.state_dict()
    assert any(not torch.equal(value, weights[name]) for name, value in averages.items())
    images, _ = tiles(1)
    with torch.no_grad():
        averaging.detector.roi_heads.box_predictor.cls_score.weight.fill_(torch.nan)  # the trained one must not matter
    assert torch.isfinite(averaging.detect(images)[0]["scores"]).all()


def test_a_state_goes_on_to_the_same_bits_with_the_average_and_the_momentum(detector):
    values = {"training.ema_decay": 0.5, "training.micro_batch_size": 1, "optimizer.momentum": 0.9}
    straight, _ = stepped(detector, values, steps=1)
    state = copy.deepcopy(straight.state_dict())
    straight.step(*tiles(2))
    resumed = Learner(copy.deepcopy(detector), with_values(BASE, values), CPU, steps_per_epoch=4)
    resumed.load_state_dict(state)
    resumed.begin_epoch(1)
    resumed.step(*tiles(2))
    for key in ("model", "ema"):
        first, second = straight.state_dict()[key], resumed.state_dict()[key]
        assert all(torch.equal(value, second[name]) for name, value in first.items())
