"""Intervals hold what they should about as often as they say, and find what is there."""

import numpy as np
import pytest

from benchmarks.coverage import coverage
from experiments.uncertainty import Comparison, Interval, improvement

SIMULATIONS = 200
LEAST, MOST = 0.90, 0.99
"""Of 200 simulations with 95 %, three standard deviations around."""


@pytest.mark.parametrize(("cells", "seeds"), [(2, 3), (5, 3), (4, 8)])
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_an_interval_holds_what_it_should(cells, seeds, shared):
    found = coverage(cells, seeds, shared=shared, noise="normal", simulations=SIMULATIONS, seed=1)
    assert LEAST <= found.difference <= MOST
    assert LEAST <= found.mean <= MOST


def values(table):
    return {f"cell {row}": dict(enumerate(each)) for row, each in enumerate(table)}


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 3)) * 0.01 + rng.normal(size=3) * 0.1
    table[0] += 0.1
    comparison = Comparison(values(table))
    found = comparison.difference("cell 0", "cell 1")
    assert found.interval.low > 0 and found.interval.covers(0.1)
    assert not comparison.difference("cell 1", "cell 0").interval.covers(0)
    # What a seed does to all cells alike does not blur their difference.
    cell = comparison.interval("cell 0")
    assert found.interval.high - found.interval.low < (cell.high - cell.low) / 2


def test_the_same_seed_gives_the_same_interval():
    table = np.random.default_rng(3).normal(size=(3, 4))
    one, again = (Comparison(values(table), seed=5).interval("cell 1") for _ in range(2))
    assert one == again


def test_where_nothing_can_be_told_nothing_is():
    single = Comparison({"a": {0: 1.0}, "b": {0: 2.0}, "none": {}})
    assert single.interval("a") is None
    found = single.difference("a", "b")
    assert (found.mean, found.seeds, found.interval, found.improvement) == (-1.0, 1, None, 0.0)
    assert Comparison({"a": {0: 1.0, 1: 2.0}}).difference("a", "a").interval is None


def test_a_cell_alone_has_students_interval():
    found = Comparison({"a": {0: 1.0, 1: 2.0, 2: 3.0}}).interval("a")
    assert found.low <= 2 - 4.303 / 3**0.5 + 1e-3 and found.covers(2)


def test_cells_of_other_seeds_and_missing_ones_are_compared_by_what_they_have():
    rng = np.random.default_rng(1)
    apart = Comparison({"a": {0: 1.0, 1: 1.1}, "b": {2: 2.0, 3: 2.1}})
    assert apart.difference("b", "a").seeds == 0
    assert apart.difference("b", "a").interval.covers(1.0)
    table = values(rng.normal(size=(4, 5)) * 0.01)
    del table["cell 0"][2], table["cell 3"][4]
    missing = Comparison(table)
    found = missing.difference("cell 0", "cell 1")
    assert found.seeds == 4
    assert found.mean == pytest.approx(np.mean([table["cell 0"][s] - table["cell 1"][s] for s in (0, 1, 3, 4)]))
    assert found.interval.covers(0.0)


def test_equal_values_are_no_difference_and_no_error():
    found = Comparison(values(np.ones((3, 3)))).difference("cell 0", "cell 1")
    assert found.interval == Interval(0.0, 0.0) and found.interval.covers(0.0)
    assert found.improvement == 0.5


def test_improvement_counts_pairs():
    assert improvement([1, 3], [0, 2]) == 0.75
    assert improvement([1], [1]) == 0.5


def test_a_thousand_cells_are_compared():
    table = values(np.random.default_rng(0).normal(size=(1000, 3)))
    comparison = Comparison(table)
    assert comparison.difference("cell 7", "cell 0").interval is not None
    assert comparison.interval("cell 3") is not None
