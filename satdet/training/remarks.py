"""What happened in a trial besides its epochs, for people."""

import dataclasses

from satdet.training.callbacks import EpochReport


class Remarks:
    """Sentences that wait for the next report."""

    def __init__(self) -> None:
        self._waiting: list[str] = []

    def add(self, remark: str) -> None:
        """Keep a sentence for the next report, once."""
        if remark not in self._waiting:
            self._waiting.append(remark)

    def give(self, report: EpochReport) -> EpochReport:
        """`report` with all that waited for it."""
        remarks, self._waiting = tuple(self._waiting), []
        return dataclasses.replace(report, remarks=remarks)
