"""The typed configuration: what it accepts, what it refuses and how it says so."""

import pytest

from satdet.config import (
    ConfigError,
    DetectorConfig,
    TrainingConfig,
    TrialConfig,
    digest,
    flatten,
    leaf_paths,
    parse_value,
    unflatten,
    with_values,
)


def test_flat_form_is_complete_and_leads_back():
    changed = with_values(
        TrialConfig(), {"optimizer.learning_rate": 3e-4, "tiles.box.k": 2.5, "training.patience": None}
    )
    flat = flatten(changed)
    assert set(flat) == set(leaf_paths())
    assert unflatten(flat) == changed
    assert flat["optimizer.learning_rate"] == 3e-4


def test_misspelt_key_names_itself_the_nearest_and_the_legal_ones():
    with pytest.raises(ConfigError) as caught:
        with_values(TrialConfig(), {"optimizer.weigth_decay": 1e-4})
    message = str(caught.value)
    assert "'optimizer.weigth_decay'" in message
    assert "did you mean 'optimizer.weight_decay'" in message
    assert "optimizer.learning_rate" in message


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("optimizer.learning_rate", 0.0, "above 0"),
        ("optimizer.learning_rate", float("nan"), "not finite"),
        ("training.epochs", 0, "below its minimum 1"),
        ("training.epochs", 2.5, "not of type int"),
        ("training.epochs", True, "not of type int"),
        ("detector.backbone", "resnet19", "not one of resnet18"),
        ("detector.nms_threshold", 1.2, "above its maximum 1"),
        ("training.patience", "never", "not of type int"),
        ("detector.anchor_sizes", 8, "not a list"),
    ],
)
def test_value_outside_type_or_range_is_refused(path, value, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        with_values(TrialConfig(), {path: value})
    assert path in str(caught.value)


def test_fields_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ConfigError, match="resnet50 only"):
        DetectorConfig(backbone="resnet18", weights="detector")
    with pytest.raises(ConfigError, match="5 levels"):
        DetectorConfig(anchor_sizes=(8.0, 16.0))
    with pytest.raises(ConfigError, match="overlap = 512"):
        with_values(TrialConfig(), {"tiles.overlap": 512})
    with pytest.raises(ConfigError, match="batch_size"):
        TrainingConfig(batch_size=0)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("optimizer.learning_rate", "1e-3", 1e-3),
        ("optimizer.weight_decay", "0", 0.0),
        ("training.patience", "null", None),
        ("training.patience", "5", 5),
        ("training.channels_last", "false", False),
        ("detector.backbone", "resnet34", "resnet34"),
        ("tiles.accepted_labels", "[OK, ESO]", ("OK", "ESO")),
    ],
)
def test_text_of_a_flag_becomes_the_value_meant(path, text, value):
    assert parse_value(path, text) == value


def test_digest_follows_values_only():
    assert digest(TrialConfig()) == digest(TrialConfig())
    assert digest(TrialConfig()) != digest(with_values(TrialConfig(), {"training.epochs": 3}))
    assert digest(TrialConfig().tiles) == digest(with_values(TrialConfig(), {"training.epochs": 3}).tiles)
