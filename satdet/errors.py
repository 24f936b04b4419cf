"""Every error that satdet and the platform raise for their users, in one tree.

    SatdetError                    exit status 1
    ├── UsageError                 2   a wrong flag, declaration, value or path
    │   ├── ConfigError            2   a key or value that a configuration cannot hold
    │   ├── WeightsError           2   pretrained weights that cannot be had
    │   ├── StorageError           2   a storage that cannot be read or written, or a search in the way
    │   │   └── StorageLostError 130   a storage that is full, read-only or out of reach, and stayed so
    │   └── TrackerError           2   a tracker that is required and does not answer
    ├── DataError                  4   frames, catalogues or tiles that cannot be used
    │   ├── FrameError             4   one FITS frame
    │   ├── CatalogueError         4   one catalogue
    │   └── TileStoreError         4   a tile store
    ├── NodeError                  1   a node of a cluster that cannot run trials
    └── TrainingError              3   a trial that cannot go on
        ├── NonFiniteLossError     3   a loss that is NaN or infinite
        ├── CheckpointError        3   a checkpoint that is damaged or does not fit
        └── LostWorkerError        3   a process that trained with others and is gone; another attempt may do

A command line shows the message as one line and leaves with ``exit_status``; ``--debug`` shows the traceback.
"""


class SatdetError(Exception):
    """Base of all errors meant for users: the message says what was given and what to do."""

    exit_status = 1


class UsageError(SatdetError):
    """A wrong flag, declaration, value or path."""

    exit_status = 2


class ConfigError(UsageError, ValueError):
    """A key that a configuration does not have, or a value outside its type or range."""


class WeightsError(UsageError):
    """Pretrained weights that are neither on disk nor to be downloaded."""


class StorageError(UsageError):
    """A storage that cannot be read or written, or a search that is in the way."""


class StorageLostError(StorageError):
    """A storage that is full, read-only or out of reach, and stayed so; what is on it can be gone on from later."""

    exit_status = 130


class TrackerError(UsageError):
    """A tracker that is required, and whose server does not answer."""


class DataError(SatdetError):
    """Frames, catalogues or tiles that cannot be used."""

    exit_status = 4


class FrameError(DataError):
    """One FITS frame that cannot be read or makes no sense."""


class CatalogueError(DataError):
    """One catalogue that cannot be read or makes no sense."""


class TileStoreError(DataError):
    """A tile store that is missing, incomplete or of another version."""


class NodeError(SatdetError):
    """A node of a cluster that cannot run trials; another one may, so a trial that meets it is tried elsewhere."""


class TrainingError(SatdetError):
    """A trial that cannot go on; trying it again would fail the same way."""

    exit_status = 3


class NonFiniteLossError(TrainingError):
    """A loss that is NaN or infinite."""


class LostWorkerError(TrainingError):
    """One of the processes that train a trial together is gone; unlike the others, another attempt may do."""


class CheckpointError(TrainingError):
    """A checkpoint that is damaged, or does not fit the configuration it is loaded for."""
