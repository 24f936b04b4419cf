"""What ends single trials besides the scheduler, as far as the driver decides it: on epochs, and from a trial's record.

The rest is decided within a trial, by the callbacks of `satdet.training`; the end of a whole search in
`experiments.stoppers`.
"""

from experiments.stopping.epochs import EpochStopper, Stop, build_epoch_stoppers
from experiments.stopping.speeds import median_rates

__all__ = ["EpochStopper", "Stop", "build_epoch_stoppers", "median_rates"]
