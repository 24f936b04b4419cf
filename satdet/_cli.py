"""What every command line of satdet does alike: a progress bar on a terminal, one line and a status for an error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from satdet.errors import SatdetError, StorageError

_INTERRUPTED = 130


def run_command(command: Callable[[], None], *, debug: bool) -> int:
    """Run `command` and return the exit status: 0, the error's own, or 130 after Ctrl-C.

    An error meant for users, or of the operating system, becomes one line on standard error; `debug` lets it through
    with its traceback.
    """
    try:
        command()
    except SatdetError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_status
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        sys.stderr.write(f"error: {where}{error.strerror or error}\n")
        return StorageError.exit_status
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    return 0


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that draws a bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
