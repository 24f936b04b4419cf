"""Which checkpoints of a trial stay on disk, when nobody waits for the others any more."""

import logging
from pathlib import Path

from satdet.training import files

logger = logging.getLogger(__name__)


def retire_checkpoints(directory: Path, keep: int = 1) -> None:
    """Keep only the newest epochs, and the best, of a trial that has ended and whose end is known to its caller.

    Parameters
    ----------
    directory : Path
        Of the trial.
    keep : int
        How many of the newest.
    """
    for old in _epoch_files(directory)[keep:]:
        files.remove(old)


def prune_checkpoint(directory: Path) -> int:
    """Take one step towards a trial without checkpoints, and return the bytes that it freed; 0: nothing is left.

    The oldest epoch goes first, then ``best.pt``, and the newest epoch last. ``model.pt`` always stays.

    Parameters
    ----------
    directory : Path
        Of a trial that has ended: without its newest epoch it cannot go on.
    """
    before = checkpoint_bytes(directory)
    epochs = _epoch_files(directory)
    for path in (*reversed(epochs[1:]), directory / files.BEST, *epochs[:1]):
        if not files.remove(path):
            return 0
        if freed := before - checkpoint_bytes(directory):  # 0 where another name of the same file is left
            return freed
    return 0


def checkpoint_bytes(directory: Path) -> int:
    """Bytes of a trial's checkpoints, of epochs and the best; hard links count once, and ``model.pt`` does not."""
    sizes = {}
    for path in (*_epoch_files(directory), directory / files.BEST):
        try:
            status = path.stat()
        except OSError:
            continue  # removed, or not to be looked at
        sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _epoch_files(directory: Path) -> list[Path]:
    try:
        return files.epoch_files(directory)
    except FileNotFoundError:  # of a trial that never began
        return []
    except OSError as error:
        logger.warning("%s: cannot be looked at (%s)", directory, error.strerror)
        return []
