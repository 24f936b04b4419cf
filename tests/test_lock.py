"""One driver a search."""

import subprocess
import sys

import pytest

from experiments.lock import sole_driver
from satdet.errors import StorageError


def test_second_driver_is_refused_and_told_who_holds_it(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import sys, pathlib\nfrom experiments.lock import sole_driver\n"
         "with sole_driver(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()",
         str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StorageError, match=f"process {holder.pid} on "), sole_driver(tmp_path / "lock"):
        pass
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with sole_driver(tmp_path / "lock"):
        assert "process" in (tmp_path / "lock").read_text()
