"""How fast finished trials were: what a relative speed guard measures others by."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Timed(Protocol):
    """As much of `experiments.state.TrialState` as is needed here."""

    status: str
    hardware: str | None

    @property
    def results(self) -> Sequence[tuple[int, float, Mapping[str, float]]]:
        """Epoch, time and metrics of each report."""


def median_rates(trials: Iterable[Timed], min_finished: int) -> dict[str, list[float]]:
    """Median training speed of the finished trials [images/s], up to each epoch, by hardware.

    A trial's speed up to an epoch is its images over its seconds of training since its start. Trials whose hardware is
    not recorded are left out.

    Parameters
    ----------
    trials : iterable of TrialState
    min_finished : int
        Trials of the same hardware that must have come to an epoch; a list ends before the first with fewer.
    """
    rates: dict[str, list[list[float]]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.hardware is not None:
            rates.setdefault(trial.hardware, []).append(_cumulative(trial))
    medians = {hardware: _medians(each, min_finished) for hardware, each in rates.items()}
    return {hardware: each for hardware, each in medians.items() if each}


def _cumulative(trial: Timed) -> list[float]:
    images = seconds = 0.0
    rates: list[float] = []
    for epoch, _, metrics in trial.results:
        if epoch != len(rates) + 1:  # the end of a trial may repeat its last epoch, or come before the first
            continue
        seconds += metrics["seconds_training"]
        images += metrics["images_per_second"] * metrics["seconds_training"]
        rates.append(images / seconds if seconds else 0.0)
    return rates


def _medians(rates: Sequence[Sequence[float]], min_finished: int) -> list[float]:
    longest = max(map(len, rates))
    by_epoch = ([each[epoch] for each in rates if len(each) > epoch] for epoch in range(longest))
    return [statistics.median(each) for each in by_epoch if len(each) >= min_finished]
