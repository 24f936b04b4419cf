"""What a trial has reached: its epochs, the best of them, and whether it should go on."""

import dataclasses
import math
from typing import Any

from satdet.config import TrialConfig, metric_names
from satdet.training.callbacks import EpochReport, StopTraining


class Progress:
    """The completed epochs of a trial.

    An epoch is the best if its map_50 is the highest so far. Early stopping is stricter: it waits for map_50 to rise by
    more than ``training.min_improvement`` above where it last did, for ``training.patience`` epochs.

    Parameters
    ----------
    config : TrialConfig
    state : dict, optional
        What `state_dict` returned in an earlier process, to go on from.
    continue_after : int, optional
        The epoch after which an ended trial goes on; patience counts anew from there.
    """

    def __init__(
        self, config: TrialConfig, state: dict[str, Any] | None = None, *, continue_after: int | None = None
    ) -> None:
        self._config = config
        self._continue_after = continue_after or 0
        self._history: list[dict[str, Any]] = []
        self._best: float | None = None
        self._reference: float | None = None
        self._reference_epoch = 0
        self._evaluated_epoch = 0
        self._evaluation: dict[str, float] = {}
        if state is not None:
            self._load(state)

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return len(self._history)

    @property
    def stop_reason(self) -> str | None:
        """Why no further epoch should be trained: ``completed``, ``early_stopping``, or None."""
        training = self._config.training
        if self.epoch >= training.epochs:
            return "completed"
        patience, since = training.patience, max(self._reference_epoch, self._continue_after)
        if patience is not None and self._evaluated_epoch - since >= max(1, patience):
            return "early_stopping"
        return None

    def evaluation_due(self, epoch: int) -> bool:
        """Whether the model of `epoch` is to be evaluated."""
        return epoch % self._config.evaluation.every == 0 or epoch >= self._config.training.epochs

    def record(self, training: dict[str, float], evaluation: dict[str, float] | None) -> EpochReport:
        """Add an epoch, by its metrics of training and, if it was evaluated, of evaluation.

        An epoch that was not evaluated carries the last evaluation on; before the first one, its values are 0.
        """
        epoch = self.epoch + 1
        improved = evaluation is not None and self._judge(epoch, evaluation)
        evaluation_seconds = evaluation["seconds_evaluation"] if evaluation is not None else 0.0
        own = {
            "best_map_50": self._best or 0.0,
            "seconds_evaluation": evaluation_seconds,
            "seconds": training["seconds_training"] + evaluation_seconds,
        }
        unknown = dict.fromkeys(metric_names(self._config), 0.0)
        metrics = unknown | self._evaluation | training | own
        assert metrics.keys() == unknown.keys(), metrics.keys() ^ unknown.keys()
        assert all(math.isfinite(value) for value in metrics.values()), metrics
        self._history.append({"metrics": metrics, "improved": improved})
        return EpochReport(epoch, dict(metrics), improved, self.stop_reason)

    def reports(self, stopped: StopTraining | None = None) -> tuple[list[EpochReport], EpochReport | None]:
        """The reports of the completed epochs, and the last report apart, None if the trial has not ended.

        Parameters
        ----------
        stopped : StopTraining, optional
            If a callback ended the trial.
        """
        past = [
            EpochReport(epoch, dict(entry["metrics"]), entry["improved"], None)
            for epoch, entry in enumerate(self._history, start=1)
        ]
        if stopped is not None:
            return past, self.stopped(stopped)
        if self.epoch == 0 or self.stop_reason is None:
            return past, None
        return past[:-1], dataclasses.replace(past[-1], stop_reason=self.stop_reason)

    def stopped(self, stop: StopTraining) -> EpochReport:
        """The last report of a trial that a callback ended: the last completed epoch's, or zeros without one."""
        metrics = self._history[-1]["metrics"] if self._history else dict.fromkeys(metric_names(self._config), 0.0)
        return EpochReport(self.epoch, dict(metrics), False, stop.reason, stop.why or None)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "history": list(self._history),
            "best": self._best,
            "reference": self._reference,
            "reference_epoch": self._reference_epoch,
            "evaluated_epoch": self._evaluated_epoch,
            "evaluation": self._evaluation,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._history = list(state["history"])
        self._best = state["best"]
        self._reference = state["reference"]
        self._reference_epoch = state["reference_epoch"]
        self._evaluated_epoch = state["evaluated_epoch"]
        self._evaluation = state["evaluation"]

    def _judge(self, epoch: int, evaluation: dict[str, float]) -> bool:
        value = evaluation["map_50"]
        self._evaluation = dict(evaluation)
        self._evaluated_epoch = epoch
        if self._reference is None or value > self._reference + self._config.training.min_improvement:
            self._reference, self._reference_epoch = value, epoch
        if self._best is not None and value <= self._best:
            return False
        self._best = value
        return True
