"""Conditions: what is documented holds, anything else is refused, and nothing is ever run."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satdet.config import ConfigError
from search_spaces.declare.expressions import Expression

VALUES = {
    "detector.backbone": "resnet101",
    "training.batch_size": 8,
    "training.patience": None,
    "training.empty_tiles": False,
    "optimizer.learning_rate": 1e-3,
    "detector.aspect_ratios": [0.5, 1.0, 2.0],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("detector.backbone == 'resnet101'", True),
        ("detector.backbone != 'resnet101'", False),
        ("training.batch_size < 8", False),
        ("training.batch_size <= 8", True),
        ("training.batch_size > 4 and detector.backbone == 'resnet18'", False),
        ("training.batch_size > 4 or detector.backbone == 'resnet18'", True),
        ("not training.batch_size > 4", False),
        ("4 < training.batch_size <= 8", True),
        ("4 < training.batch_size <= 7", False),
        ("training.batch_size * 2 + 1 == 17", True),
        ("training.batch_size / 4 - 1 >= 1.0", True),
        ("-training.batch_size < 0", True),
        ("training.batch_size in (4, 8)", True),
        ("training.batch_size in [4, 8]", True),
        ("training.batch_size not in {4, 8}", False),
        ("'101' in detector.backbone", True),
        ("training.empty_tiles == False", True),
        ("not training.empty_tiles", True),
        ("training.patience == None", True),
        ("training.patience != None", False),
        ("training.patience < 5", False),
        ("training.patience >= 5", False),
        ("1 < training.patience < 5", False),
        ("not training.patience < 5", True),
        ("detector.aspect_ratios == (0.5, 1, 2)", True),
        ("detector.aspect_ratios == [0.5, 1]", False),
        ("  training.batch_size == 8  ", True),
        ("(training.batch_size ==\n 8)", True),
        ("something.unset == None", True),
        ("something.unset == 'value'", False),
        ("detector.backbone == 'resnet18' and training.batch_size / 0 > 1", False),
    ],
)
def test_what_is_documented_holds(text, expected):
    assert Expression(text).holds(VALUES) is expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "detector.backbone.startswith('r')", "open('/etc/passwd')", "f().x == 1",
        "(1).real == x", "'a'.x == 1", "[x for x in y]", "{x for x in y}", "(x for x in y)", "{x: 1}", "lambda: x",
        "x if y else z", "x[0] == 1", "x[0:1] == 1", "*x", "x := 1", "(y := x) == 1", "x ** 9 > 1", "x % 2 == 0",
        "x // 2 == 0", "x @ y", "x & 1", "x | 1", "x ^ 1", "x << 9", "x >> 1", "~x", "+x > 1", "x is None",
        "x is not None", "f'{x}' == '1'", "x == b'1'", "x == 1j", "x == ...", "await x", "yield x", "x; y", "x = 1",
        "import os", "x ==", "", "   ", "1 > 0", "'resnet18'", "True", "x == '\0'", "x\n== 1", "9" * 5000 + " == x",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="condition"):
        Expression(text)


@pytest.mark.parametrize("text", [None, 3, True, b"x == 1", ("x", "==", 1)])
def test_only_a_text_is_a_condition(text):
    with pytest.raises(ConfigError, match="is not a text"):
        Expression(text)


@pytest.mark.parametrize(
    "text",
    ["-" * 90 + "x > 1", "-" * 100_000 + "x > 1", "(" * 5000 + "x" + ")" * 5000, "x" + " + x" * 5000 + " > 1",
     "x" + ".y" * 5000 + " == 1", "not " * 5000 + "x", "x in " + "[" * 5000 + "]" * 5000],
)  # fmt: skip
def test_endless_nesting_is_refused_without_running_out_of_stack(text):
    with pytest.raises(ConfigError):
        Expression(text)


@pytest.mark.parametrize(
    "text",
    ["detector.backbone < 3", "training.batch_size / 0 > 1", "training.patience + 1 > 2", "1 in training.batch_size",
     "detector.backbone * 1000000000 == 'a'", "'a' * 1000000000 == detector.backbone", "-detector.backbone == 1",
     "detector.aspect_ratios * 1000000000 == 1", "training.empty_tiles + 1 == 1",
     "training.batch_size * 1e300 * 1e300 - " + "9" * 400 + " * 1.0 > 0"],
)  # fmt: skip
def test_what_cannot_be_computed_names_condition_and_values(text):
    condition = Expression(text)
    with pytest.raises(ConfigError) as raised:
        condition.holds(VALUES)
    assert text in str(raised.value)
    assert "resnet101" in str(raised.value)


def test_paths_are_those_it_depends_on_in_order():
    condition = Expression("training.batch_size > 4 and (detector.backbone == 'a' or training.batch_size < epochs)")
    assert condition.paths == ("training.batch_size", "detector.backbone", "epochs")


_NUMBERS = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, -1.5]))
_TERMS = st.recursive(
    st.one_of(st.just("x"), st.just("y.z"), _NUMBERS.map(repr)),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=5,
)
_CONDITIONS = st.recursive(
    st.tuples(_TERMS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _TERMS).map(" ".join),
    lambda inner: st.one_of(
        inner.map(lambda text: f"(not ({text}))"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    ),
    max_leaves=5,
)


@given(_CONDITIONS, _NUMBERS, _NUMBERS)
def test_it_says_what_python_would_say(text, x, z):
    text = f"x == x and {text}"
    reference = eval(text, {"x": x, "y": type("Y", (), {"z": z})})
    assert Expression(text).holds({"x": x, "y.z": z}) is reference


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ConfigError):
        Expression(text)
