"""No scheduler."""

from experiments.schedulers.core import CONTINUE, Decision, SchedulerCore


class RunAllCore(SchedulerCore):
    """Lets every trial run to its own end."""

    def result(self, trial_id: str, epoch: int, value: float) -> Decision:
        """Continue."""
        return CONTINUE
