"""One trial inside Ray: a Tune trainable whose step is an epoch."""

from dataclasses import replace
from typing import Any

from ray import tune

from experiments.resources import TrialResources
from experiments.trial_run import Outcome, TrialOrder, TrialRun, keep_traceback
from experiments.worker_group import WorkerGroup
from satdet.errors import LostWorkerError


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Trains one trial after another in the same process, so that only the first pays for importing torch.

    With several workers a trial they are processes of their own, and this one only waits for them.

    A failure of the trial itself (bad data, a loss that is not finite, out of memory, an error in the code) is a result
    with ``error``, not an exception: trying it again would fail again. What Ray sees failing is a lost process or node,
    and it retries that.
    """

    _group: WorkerGroup | None = None
    _run: TrialRun | WorkerGroup | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that `config` orders; several workers meet at the first step."""
        self._order = TrialOrder(**config["trial"])
        self._remarks: list[str] = []
        if self._order.workers == 1:
            self._run = TrialRun(self._order)

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        outcome = self._step()
        while outcome.smaller is not None:  # each time at most half as many tiles a pass
            self._remarks.append(str(outcome.remark))
            self._order = replace(self._order, micro_batch_size=outcome.smaller)
            self._end_group()
            outcome = self._step()
        if outcome.failed:
            keep_traceback(self._order, outcome.result, outcome.text)
            self._end_group()  # of which others may still wait for the one that failed
        remarks, self._remarks = self._remarks, []
        return outcome.result | ({"remarks": [*remarks, *outcome.result.get("remarks", [])]} if remarks else {})

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the trial and begin another in this process."""
        self._leave()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Leave the trial: its checkpoints are complete when this returns, and device memory is free."""
        self._leave()
        self._end_group()

    def _leave(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.leave()

    def _begun(self) -> WorkerGroup:
        if self._group is None:
            given = TrialResources(self._order.threads, self._order.gpus, 1, self._order.workers)
            self._group = WorkerGroup(given.bundles()[1:])
        self._group.begin(self._order)
        return self._group

    def _step(self) -> Outcome:
        try:
            self._run = self._run or self._begun()
            return self._run.step()
        except LostWorkerError:
            self._end_group()
            raise

    def _end_group(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            self._run = None
            group.end()
