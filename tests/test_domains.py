"""Domains: each is its quantile function, which is all that sampling needs."""

import json
import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from satdet.config import ConfigError, leaf
from search_spaces.declare import (
    Beta,
    Choice,
    Constant,
    Fragments,
    IntUniform,
    InverseLogUniform,
    LinearGrid,
    LogGrid,
    LogNormal,
    LogUniform,
    Normal,
    Permutation,
    Quantised,
    SearchSpace,
    Uniform,
)
from search_spaces.declare.domains import DOMAINS, domain_of_json

EXAMPLES = [
    Constant("adam"), Constant(None), Constant((0.5, 1.0)), Choice("a", None, 3, True, 2.5, (1, 2)), Choice(4),
    Choice(1, 2, 3, weights=(1, 0, 3)), Permutation("a", "b", "c"), Permutation((8.0, 16.0), 32.0, (64.0, 128.0)),
    Fragments(small={"tiles.size": 128, "training.batch_size": 8}, large={"detector.aspect_ratios": (0.5, 1.0)}),
    IntUniform(1, 64), IntUniform(-5, 9, 3), IntUniform(3, 3), IntUniform(0, 10**12), Uniform(-1.5, 2.0),
    Uniform(0.0, 5e-324), LogUniform(1e-6, 1e-2), InverseLogUniform(1e-6, 1e-2), Normal(0.4, 0.1), Normal(-1e6, 1e3),
    LogNormal(-7.0, 2.0), Beta(2.0, 5.0), Beta(0.5, 0.5), Quantised(Uniform(3, 14), 2), Quantised(Uniform(0, 1), 0.1),
    Quantised(Normal(60, 9), 5), Quantised(LogNormal(0, 1), 1), Quantised(Beta(2, 2), 0.25),
    Quantised(LogUniform(1e-20, 1e-10), 1e-15), Quantised(Uniform(1e-15, 9e-15), 2e-15),
    Quantised(InverseLogUniform(1, 64), 4), Quantised(Uniform(0, 1e6), 1e-3),
]  # fmt: skip
NUMERIC = [each for each in EXAMPLES if isinstance(each, IntUniform | Quantised) or each.values is None]
SHARES = [place / 500 for place in range(500)] + [1 - 2**-53]


def test_every_domain_has_an_example():
    assert {type(each).__name__ for each in EXAMPLES} == set(DOMAINS)


@pytest.mark.parametrize("domain", EXAMPLES, ids=repr)
def test_share_is_the_inverse_of_quantile(domain):
    for value in map(domain.quantile, SHARES):
        share = domain.share(value)
        assert share is not None and 0 <= share <= 1
        again = domain.quantile(share)
        assert again == (value if domain.values is not None or isinstance(domain, Quantised) else pytest.approx(value))


@pytest.mark.parametrize("domain", NUMERIC, ids=repr)
def test_quantiles_never_fall_and_never_leave_the_bounds(domain):
    drawn = [domain.quantile(share) for share in [*SHARES, 1.0]]
    assert all(one <= other for one, other in pairwise(drawn))
    for end in ("low", "high"):
        bound = getattr(domain, end, None) or getattr(getattr(domain, "of", None), end, None)
        if bound is not None:
            assert all(value >= bound if end == "low" else value <= bound for value in drawn)
    assert all(math.isfinite(value) for value in drawn)


@pytest.mark.parametrize("domain", EXAMPLES, ids=repr)
def test_it_comes_back_from_json_equal(domain):
    data = domain.to_json()
    back = domain_of_json(json.loads(json.dumps(data)))
    assert back == domain
    assert hash(back) == hash(domain)
    assert back.to_json() == data == json.loads(json.dumps(data))


def test_domains_that_differ_are_not_equal():
    assert all(one != other for one, other in permutations(EXAMPLES, 2))


@pytest.mark.parametrize("domain", EXAMPLES, ids=repr)
def test_what_it_does_not_hold_has_no_share(domain):
    for foreign in ("no such value", [], {}, math.nan, 1e300, -1e300, object()):
        assert domain.share(foreign) is None
    if domain in NUMERIC:
        assert domain.share(True) is None and domain.share(None) is None


@pytest.mark.parametrize("domain", [each for each in EXAMPLES if each.values is not None], ids=repr)
def test_values_are_what_can_be_drawn(domain):
    values = domain.values
    if len(values) > 1000:
        values = [values[0], values[1], values[-1]]
    for value in values:
        share = domain.share(value)
        assert share is not None
        if not (isinstance(domain, Choice) and domain.weights) and not isinstance(domain, Quantised):
            assert domain.quantile(share) == value


CONTINUOUS = [
    (Uniform(-1.5, 2.0), stats.uniform(-1.5, 3.5)),
    (LogUniform(1e-6, 1e-2), stats.loguniform(1e-6, 1e-2)),
    (InverseLogUniform(1e-6, 1e-2), stats.loguniform(1e-6, 1e-2)),
    (Normal(0.4, 0.1), stats.norm(0.4, 0.1)),
    (LogNormal(-7.0, 2.0), stats.lognorm(s=2.0, scale=math.exp(-7.0))),
    (Beta(2.0, 5.0), stats.beta(2.0, 5.0)),
    (Beta(0.5, 0.5), stats.beta(0.5, 0.5)),
]


@pytest.mark.parametrize(("domain", "reference"), CONTINUOUS, ids=lambda each: repr(each)[:40])
def test_real_numbers_have_the_declared_distribution(domain, reference):
    shares = (np.arange(4000) + 0.5) / 4000
    drawn = np.array([domain.quantile(share) for share in shares])
    assert stats.kstest(drawn, reference.cdf).statistic < 1e-3
    np.testing.assert_allclose(drawn, reference.ppf(shares), rtol=1e-9)
    np.testing.assert_allclose([domain.share(value) for value in drawn], shares, rtol=1e-6)


@pytest.mark.parametrize(
    ("domain", "probabilities"),
    [
        (Choice("a", "b", "c"), {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        (Choice("a", "b", "c", weights=(2, 0, 6)), {"a": 0.25, "b": 0.0, "c": 0.75}),
        (Choice("a", "b", "c", weights=(0, 1, 0)), {"a": 0.0, "b": 1.0, "c": 0.0}),
        (Permutation(1, 2, 3), dict.fromkeys(permutations((1, 2, 3)), 1 / 6)),
        (Fragments(a={"tiles.size": 64}, b={"tiles.size": 128}), {"a": 0.5, "b": 0.5}),
        (IntUniform(2, 12, 3), {2: 0.25, 5: 0.25, 8: 0.25, 11: 0.25}),
        (Quantised(Uniform(0, 4), 1), {0: 1 / 8, 1: 1 / 4, 2: 1 / 4, 3: 1 / 4, 4: 1 / 8}),
        (Quantised(Beta(2, 2), 0.5), {0.0: stats.beta(2, 2).cdf(0.25), 0.5: 0.6875, 1.0: stats.beta(2, 2).sf(0.75)}),
    ],
)
def test_values_have_the_declared_probabilities(domain, probabilities):
    drawn = [domain.quantile((place + 0.5) / 6000) for place in range(6000)]
    counts = {value: drawn.count(value) / 6000 for value in probabilities}
    assert set(drawn) <= set(probabilities)
    assert counts == pytest.approx(probabilities, abs=1e-3)


def test_a_permutation_has_every_order_of_its_fragments_once():
    domain = Permutation((1, 2), 3, (4,))
    assert domain.values == ((1, 2, 3, 4), (1, 2, 4, 3), (3, 1, 2, 4), (3, 4, 1, 2), (4, 1, 2, 3), (4, 3, 1, 2))
    assert domain.share([3, 1, 2, 4]) == domain.share((3, 1, 2, 4))
    assert len(Permutation(1, 1, 2).values) == 3


def test_fragments_know_their_paths_and_do_not_change_with_what_they_were_made_of():
    part = {"tiles.size": 128, "detector.aspect_ratios": [0.5, 1.0]}
    domain = Fragments(small=part, large={"training.batch_size": 2})
    before = domain.to_json()
    part["tiles.size"] = 64
    part["detector.aspect_ratios"].append(9.0)
    assert domain.to_json() == before
    assert domain.paths == ("tiles.size", "detector.aspect_ratios", "training.batch_size")
    swapped = Fragments(large={"training.batch_size": 2}, small=before["parts"]["small"])
    assert swapped != domain  # their shares are others


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: Choice(), "no values"),
        (lambda: Choice(1, 2, 1), "(1, 2, 1)"),
        (lambda: Choice(1, 2, weights=(1,)), "2 values and 1 weights"),
        (lambda: Choice(1, 2, weights=(1, -3)), "-3.0"),
        (lambda: Choice(1, 2, weights=(0, 0)), "(0.0, 0.0)"),
        (lambda: Choice(1, 2, weights=(1, math.nan)), "nan"),
        (lambda: Choice(1, 2, weights=(1, math.inf)), "inf"),
        (lambda: Choice(1, 2, weights=(1, "two")), "two"),
        (lambda: Permutation(1), "1 fragments"),
        (lambda: Permutation(*range(7)), "7 fragments"),
        (lambda: Fragments(), "no parts"),
        (lambda: Fragments(a=3), "3"),
        (lambda: IntUniform(5, 4), "low = 5"),
        (lambda: IntUniform(1.5, 4), "1.5"),
        (lambda: IntUniform(True, 4), "True"),
        (lambda: IntUniform(1, 4, 0), "0"),
        (lambda: Uniform(2, 1), "low = 2"),
        (lambda: Uniform(1, 1), "low = 1"),
        (lambda: Uniform(0, math.inf), "inf"),
        (lambda: Uniform(math.nan, 1), "nan"),
        (lambda: Uniform("0", 1), "'0'"),
        (lambda: Uniform(-1e308, 1e308), "1e+308"),
        (lambda: LogUniform(0, 1), "low = 0"),
        (lambda: InverseLogUniform(-1, 1), "low = -1"),
        (lambda: Normal(0, 0), "0.0"),
        (lambda: Normal(0, -1), "-1"),
        (lambda: Normal(math.inf, 1), "inf"),
        (lambda: LogNormal(1e9, 1), "mean = 1000000000.0"),
        (lambda: LogNormal(0, 1000), "std = 1000"),
        (lambda: Beta(0, 1), "Beta.a = 0"),
        (lambda: Beta(1, -2), "Beta.b = -2"),
        (lambda: Quantised(IntUniform(1, 4), 2), "IntUniform"),
        (lambda: Quantised(Uniform(0, 1), 0), "0"),
        (lambda: Quantised(Uniform(0.2, 0.8), 1), "no multiple of 1"),
        (lambda: Quantised(Uniform(0, 1), 1e-300), "step = 1e-300"),
        (lambda: Quantised(Uniform(0, 1), 5e-324), "step = 5e-324"),
        (lambda: LinearGrid(0, 1, 1), "1 points"),
        (lambda: LogGrid(0, 1, 3), "low = 0"),
        (lambda: domain_of_json({"kind": "Unifrom"}), "did you mean 'Uniform'"),
        (lambda: domain_of_json({"kind": "Uniform", "low": 0}), "high"),
        (lambda: domain_of_json({"kind": "Uniform", "low": 0, "high": 1, "step": 2}), "step"),
        (lambda: domain_of_json({}), "None"),
    ],
)
def test_bad_arguments_are_named(wrong, named):
    with pytest.raises(ConfigError) as raised:
        wrong()
    assert named in str(raised.value)


@pytest.mark.parametrize(
    ("path", "domain"),
    [
        ("optimizer.learning_rate", Beta(1, 10)),
        ("optimizer.learning_rate", LogNormal(-7, 2)),
        ("optimizer.learning_rate", Quantised(Beta(2, 2), 0.25)),
        ("optimizer.learning_rate", Normal(0.0, 1e-3)),
        ("training.batch_size", Quantised(LogNormal(2, 1), 1)),
        ("training.batch_size", Quantised(Normal(8, 4), 2)),
        ("optimizer.weight_decay", Normal(-1e-4, 1e-4)),
        ("training.batch_size", Quantised(LogUniform(1, 64), 1)),
        ("training.patience", Quantised(Normal(0, 2), 1)),
    ],
)
def test_open_ends_are_not_taken_for_draws(path, domain):
    space = SearchSpace({path: domain})
    assert space.domains[path] == domain


@pytest.mark.parametrize(
    ("path", "domain", "named"),
    [
        ("optimizer.learning_rate", Uniform(0, 1), "0.0 must be above 0"),
        ("optimizer.learning_rate", Normal(-1, 0.01), "-1.0 must be above 0"),
        ("optimizer.momentum", LogNormal(5, 0.1), "above its maximum"),
        ("training.batch_size", Beta(2, 2), "is not of type int"),
        ("training.batch_size", Quantised(Uniform(0, 8), 2), "0 is below its minimum"),
        ("training.batch_size", Quantised(Normal(-9, 1), 1), "below its minimum"),
        ("training.batch_size", Quantised(Uniform(1, 8), 0.5), "is not of type int"),
        ("training.batch_size", IntUniform(0, 8), "0 is below its minimum"),
        ("detector.backbone", IntUniform(0, 8), "is not one of"),
        ("detector.backbone", Choice("resnet18", "resnet19"), "'resnet19'"),
        ("training.empty_tiles", Choice(0, 1), "0 is not of type bool"),
        ("training.batch_size", Choice(1, True), "True is not of type int"),
        ("optimizer.momentum", Choice(1, 1.0), "twice"),
        ("detector.anchor_sizes", Permutation(8.0, -16.0), "-16.0 must be above 0"),
    ],
)
def test_what_a_path_cannot_hold_is_named(path, domain, named):
    with pytest.raises(ConfigError) as raised:
        SearchSpace({path: domain})
    assert named in str(raised.value)
    assert "twice" in named or path in str(raised.value)


def test_values_take_the_type_of_their_path():
    of_whole, of_real = (SearchSpace({"optimizer.momentum": Choice(*values)}) for values in ((0, 1), (0.0, 1.0)))
    assert of_whole == of_real
    assert of_whole.digest() == of_real.digest()
    assert [type(value) for value in of_whole.domains["optimizer.momentum"].values] == [float, float]
    ratios = SearchSpace({"detector.aspect_ratios": Permutation([0.5], [1], [2])})
    assert ratios.domains["detector.aspect_ratios"].values[0] == (0.5, 1.0, 2.0)


@given(st.floats(1e-30, 1e6), st.integers(1, 1000), st.floats(0, 1))
def test_a_quantised_draw_is_a_multiple_of_any_step(step, count, share):
    step = float(f"{step:.4g}")
    domain = Quantised(Uniform(0, step * count), step)
    value = domain.quantile(share)
    assert value == pytest.approx(round(value / step) * step, rel=1e-12)
    assert domain.quantile(domain.share(value)) == value
    assert len(domain.values) == count + 1


def test_multiples_have_no_binary_dust():
    assert list(Quantised(Uniform(0, 0.7), 0.1).values) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert list(Quantised(Uniform(0, 3e-15), 1e-15).values) == [0.0, 1e-15, 2e-15, 3e-15]
    assert list(Quantised(Uniform(2, 6), 2).values) == [2, 4, 6]


def test_many_values_are_not_made_before_they_are_asked_for():
    assert IntUniform(0, 10**15).values[-1] == 10**15
    fine = Quantised(Uniform(0, 1), 1e-12)
    assert len(fine.values) == 10**12 + 1
    assert fine.values[10**11] == 0.1


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9), st.floats(0, 1))
def test_an_interval_keeps_its_ends(low, width, share):
    high = low + width
    if high > low:
        assert low <= Uniform(low, high).quantile(share) <= high
    if low > 0 and high > low:
        assert low <= LogUniform(low, high).quantile(share) <= high


def test_grids_have_both_ends():
    assert LinearGrid(0, 1, 5) == Choice(0.0, 0.25, 0.5, 0.75, 1.0)
    assert LogGrid(1e-4, 1e-1, 4) == Choice(1e-4, 1e-3, 1e-2, 1e-1)
    assert leaf("optimizer.learning_rate").check(LogGrid(1e-4, 1e-1, 4).values[0], "x") == 1e-4
