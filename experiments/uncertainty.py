"""What a handful of seeds can tell: intervals of cells and of their differences, and how often one beats another.

Seeds are few, three as a rule, and a bootstrap of three values cannot tell more than their range: its intervals would
be far too narrow. What is shared between the cells of a search is borrowed instead. Each value is taken as

    value = cell + seed + noise,

in which the seed's part (the order of tiles, the first weights) is common to all cells that were trained with it, and
the noise of all cells is alike. The noise is what is left of the values after both are taken away by least squares, and
a statistic's distribution is that of many data sets whose noise is drawn anew from these residuals (a residual
bootstrap of the studentised statistic, Efron and Tibshirani 1993, sections 9.4 and 12.5). How often the intervals hold
what they should is measured by ``python -m benchmarks.coverage``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
_RESAMPLES = 4000
_LARGEST = 4_000_000
"""Values that are drawn at most; with very many cells fewer data sets do."""
_ROUNDS = 50
"""Of fitting cells and seeds in turn; two are exact where no value is missing."""
Floats = NDArray[np.float64]
Values = Mapping[str, Mapping[int, float]]
"""The result of each seed, by cell."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, with the probability `LEVEL`."""

    low: float
    high: float

    def covers(self, value: float) -> bool:
        """Whether a value is inside, the ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """How a cell compares with another.

    Attributes
    ----------
    mean : float
        Of the cell minus the other; over the seeds that both have, if any.
    seeds : int
        Those that both have.
    interval : Interval or None
        None where there are too few values to tell.
    improvement : float
        Probability that a run of the cell has a larger value than one of the other, equal ones counted half (Agarwal
        et al. 2021, Mann and Whitney 1947): over all pairs of seeds.
    """

    mean: float
    seeds: int
    interval: Interval | None
    improvement: float


class Comparison:
    """The cells of a search, or of several, with what their seeds say of them.

    Parameters
    ----------
    values : mapping
        By cell, the result of each seed. Cells without any are left out.
    seed : int
        Of the resampling.
    """

    def __init__(self, values: Values, seed: int = 0) -> None:
        self._values = {cell: dict(seeds) for cell, seeds in values.items() if seeds}
        self._seed = seed

    def mean(self, cell: str) -> float:
        """Over the seeds of a cell."""
        return float(np.mean(list(self._values[cell].values())))

    def interval(self, cell: str) -> Interval | None:
        """Of the cell's mean over seeds; None where no cell has two of them."""
        half = self._mean_quantile
        if half is None:
            return None
        mean, count = self.mean(cell), len(self._values[cell])
        half *= self._spread / math.sqrt(count)
        return Interval(mean - half, mean + half)

    def difference(self, cell: str, other: str) -> Difference:
        """Of `cell` from `other`."""
        mine, theirs = self._values[cell], self._values[other]
        common = mine.keys() & theirs.keys()
        if common:
            mean = float(np.mean([mine[seed] - theirs[seed] for seed in sorted(common)]))
        else:
            mean = self.mean(cell) - self.mean(other)
        return Difference(mean, len(common), self._difference_interval(mean, len(common), cell, other), improvement(
            list(mine.values()), list(theirs.values())
        ))  # fmt: skip

    def _difference_interval(self, mean: float, common: int, cell: str, other: str) -> Interval | None:
        if cell == other:
            return None
        if common >= 2 and self._paired_quantile is not None:
            half = self._paired_quantile * self._noise * math.sqrt(2 / common)
        elif self._mean_quantile is not None:
            counts = 1 / len(self._values[cell]) + 1 / len(self._values[other])
            half = self._mean_quantile * self._spread * math.sqrt(counts)
        else:
            return None
        return Interval(mean - half, mean + half)

    @cached_property
    def _table(self) -> Floats:
        """Values of cells with two seeds at least (cells, seeds); NaN where there is none."""
        several = {cell: seeds for cell, seeds in self._values.items() if len(seeds) > 1}
        columns = sorted({seed for seeds in several.values() for seed in seeds})
        table = np.full((len(several), len(columns)), np.nan)
        for row, seeds in enumerate(several.values()):
            for seed, value in seeds.items():
                table[row, columns.index(seed)] = value
        return table

    @cached_property
    def _spread(self) -> float:
        """Standard deviation of a cell's values over seeds, pooled."""
        return math.sqrt(self._parts(self._table[None])[0][0])

    @cached_property
    def _noise(self) -> float:
        """As `_spread`, without what a seed does to all cells alike."""
        return float(np.sqrt(np.nansum(_two_way(self._table) ** 2) / self._freedom_of_pairs))

    @property
    def _freedom_of_pairs(self) -> int:
        rows, columns = self._table.shape
        known: int = np.isfinite(self._table).sum()
        return int(known) - int(rows + columns) + 1

    @property
    def _shared(self) -> bool:
        """Whether seeds are common to cells, so that what they do to all alike can be told from noise."""
        return len(self._table) > 1 and self._freedom_of_pairs >= 1

    def _parts(self, tables: Floats) -> tuple[Floats, Floats]:
        """Variance of a cell's values over seeds, and its degrees of freedom, in each of many tables.

        Where seeds are shared it is put together from that between seeds, of which there are few, and that of the noise
        (Satterthwaite 1946).
        """
        rows, columns = tables.shape[1:]
        if not self._shared:
            residuals = tables - np.nanmean(tables, axis=2, keepdims=True)
            freedom = np.isfinite(residuals).sum(axis=(1, 2)) - rows
            return np.nansum(residuals**2, axis=(1, 2)) / freedom, freedom.astype(float)
        within = tables - np.nanmean(tables, axis=2, keepdims=True)
        seeds = np.nanmean(within, axis=1)
        rest = _centred(tables)
        noise = np.nansum(rest**2, axis=(1, 2)) / self._freedom_of_pairs * (1 - 1 / rows)
        between = (seeds**2).sum(axis=1) / (columns - 1)
        whole = noise + between
        freedom = whole**2 / (between**2 / (columns - 1) + noise**2 / self._freedom_of_pairs + 1e-300)
        return whole, freedom

    @cached_property
    def _mean_quantile(self) -> float | None:
        """Of the studentised mean of a cell."""
        table = self._table
        if not len(table):
            return None
        _, freedom = self._parts(table[None])
        if not self._shared:
            drawn = self._drawn(table - np.nanmean(table, axis=1, keepdims=True))
        else:
            seeds = np.nanmean(table - np.nanmean(table, axis=1, keepdims=True), axis=0)
            noise = self._noise**2 / len(table)
            own = max(0.0, 1 - noise / max(float(seeds.var(ddof=1)), 1e-300))
            drawn = self._drawn(_two_way(table))
            chosen = np.random.default_rng(self._seed + 1).choice(seeds, (len(drawn), 1, table.shape[1]))
            drawn = drawn + chosen * math.sqrt(own)
        spread = np.sqrt(self._parts(drawn)[0])
        return _quantile(np.abs(drawn[:, 0].mean(axis=1)) * math.sqrt(table.shape[1]), spread, float(freedom[0]))

    @cached_property
    def _paired_quantile(self) -> float | None:
        """Of the studentised difference of two cells."""
        if not self._shared:
            return None
        drawn = self._drawn(_two_way(self._table))
        rows, columns = self._table.shape
        freedom = (rows - 1) * (columns - 1)
        noise = np.sqrt((_centred(drawn) ** 2).sum(axis=(1, 2)) / freedom)
        difference = np.abs((drawn[:, 0] - drawn[:, 1]).mean(axis=1))
        return _quantile(difference * math.sqrt(columns / 2), noise, freedom)

    def _drawn(self, residuals: Floats) -> Floats:
        """Data sets of noise alone, as large as the table: (sets, cells, seeds)."""
        known = residuals[np.isfinite(residuals)]
        known = known - known.mean()
        rows, columns = residuals.shape
        sets = max(200, min(_RESAMPLES, _LARGEST // residuals.size))
        generator = np.random.default_rng(self._seed)
        return generator.choice(known, (sets, rows, columns))


def improvement(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Probability that one of the first values is larger than one of the others, equal ones counted half."""
    one, other = np.asarray(mine)[:, None], np.asarray(theirs)[None, :]
    return float(np.mean((one > other) + 0.5 * (one == other)))


def _two_way(table: Floats) -> Floats:
    """What is left of a table when its rows' and columns' parts are taken away by least squares; NaN stays."""
    left: Floats = _centred(table[None])[0]
    return left


def _centred(tables: Floats) -> Floats:
    """`_two_way` of many tables (sets, cells, seeds)."""
    left = tables
    for _ in range(1 if np.isfinite(tables).all() else _ROUNDS):
        left = left - np.nanmean(left, axis=2, keepdims=True)
        left = left - np.nanmean(left, axis=1, keepdims=True)
    return left


def _quantile(statistic: Floats, spread: Floats, freedom: float) -> float:
    """Of the statistic over its spread, and no less than Student's: what is drawn from few values has short tails."""
    from scipy.stats import t

    exact = float(t.ppf(0.5 + LEVEL / 2, freedom))
    usable = spread > 0
    if not usable.any():
        return exact
    return max(exact, float(np.quantile(statistic[usable] / spread[usable], LEVEL)))
