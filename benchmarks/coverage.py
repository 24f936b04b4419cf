"""How often do the intervals of a comparison hold what they should, with as few seeds as there are?

    python -m benchmarks.coverage [--simulations 2000]

Cells that are all alike, with noise of several kinds and with seeds that move all cells together or do not: an interval
of 95 % should hold the true mean, and one of a difference zero, in 95 of 100 simulations. And how often a difference of
a given size is found. Writes ``benchmarks/results/coverage.json``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from benchmarks.machine import machine, versions
from experiments.uncertainty import Comparison

RESULTS = Path("benchmarks/results/coverage.json")
NOISE: dict[str, Callable[[Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape),
    "heavy": lambda rng, shape: rng.standard_t(4, shape) / 2**0.5,
}
"""Of standard deviation 1; the last with Student's distribution of 4 degrees of freedom."""
_CELLS_AND_SEEDS = ((2, 3), (5, 3), (12, 3), (5, 5), (3, 10))
_PLANTED = (1.0, 2.0, 4.0)
"""True differences that are to be found, in standard deviations of the noise."""


@dataclass(frozen=True)
class Coverage:
    """Shares of simulations.

    Attributes
    ----------
    cells, seeds : int
    shared : float
        Standard deviation of what a seed does to all cells alike; the noise has 1.
    noise : str
    mean : float
        In which the interval of a cell's mean holds the true one.
    difference : float
        In which that of a difference of equal cells holds zero.
    found : dict
        By the size of a true difference, in which its interval does not hold zero.
    """

    cells: int
    seeds: int
    shared: float
    noise: str
    mean: float
    difference: float
    found: dict[str, float]


def coverage(cells: int, seeds: int, *, shared: float, noise: str, simulations: int, seed: int) -> Coverage:
    """Simulate searches and count."""
    rng = np.random.default_rng(seed)
    means = differences = 0
    found = dict.fromkeys(_PLANTED, 0)
    for number in range(simulations):
        table = NOISE[noise](rng, (cells, seeds)) + shared * rng.normal(size=seeds)
        comparison = Comparison({str(cell): dict(enumerate(row)) for cell, row in enumerate(table.tolist())}, number)
        interval, difference = comparison.interval("0"), comparison.difference("0", "1").interval
        assert interval is not None and difference is not None
        means += interval.covers(0.0)
        differences += difference.covers(0.0)
        for size in _PLANTED:
            found[size] += difference.low + size > 0 or difference.high + size < 0
    shares = {f"{size:g}": count / simulations for size, count in found.items()}
    return Coverage(cells, seeds, shared, noise, means / simulations, differences / simulations, shares)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate all cases, write and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    cases = []
    for noise in NOISE:
        for shared in (0.0, 1.0):
            for cells, seeds in _CELLS_AND_SEEDS:
                case = coverage(cells, seeds, shared=shared, noise=noise, simulations=options.simulations, seed=0)
                cases.append(asdict(case))
                sys.stderr.write(f"{case}\n")
    result = {
        "command": f"python -m benchmarks.coverage --simulations {options.simulations}",
        "machine": machine(),
        "versions": versions(),
        "cases": cases,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
