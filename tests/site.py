"""A storage on which the commands are run, as a user runs them, and what they leave there."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from mlflow.tracking import MlflowClient

from experiments.record import read_record
from tests.wandb_log import read_run

ROOT = Path(__file__).parent.parent


class Site:
    """A storage, and the commands that are run on it."""

    def __init__(self, folder: Path, declaration: str, name: str = "tiny.py") -> None:
        self.folder = folder
        self.declaration = folder / name
        self.declaration.write_text(declaration)
        self.storage = folder / "runs"
        self.name = self.declaration.stem
        self.search = self.storage / self.name

    def command(self, *flags: str) -> list[str]:
        return [sys.executable, "-m", "experiments.run", str(self.declaration), "--storage", str(self.storage), *flags]

    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if key not in ("WANDB_API_KEY", "MLFLOW_TRACKING_URI")}
        return clean | {"NETRC": os.devnull}

    def start(self, *flags: str) -> subprocess.Popen[str]:
        """Begin the search in a process group of its own."""
        return subprocess.Popen(
            self.command(*flags), cwd=ROOT, env=self.environment(), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*flags),
            cwd=ROOT,
            env=self.environment(),
            text=True,
            capture_output=True,
            timeout=400,
            check=False,
        )

    def results(self) -> int:
        """Epochs recorded so far."""
        try:
            return sum(event["kind"] == "result" for event in read_record(self.search / "record.jsonl"))
        except Exception:
            return 0

    def wait_for_results(self, process: subprocess.Popen[str], count: int) -> None:
        deadline = time.monotonic() + 200
        while self.results() < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no result in time"
            time.sleep(0.1)

    def summary(self) -> dict:
        return json.loads((self.search / "summary.json").read_text())

    def mlflow_runs(self) -> tuple[list, list]:
        """Parent runs and child runs."""
        client = MlflowClient(f"sqlite:///{self.storage / 'mlflow.db'}")
        (experiment,) = [each for each in client.search_experiments() if each.name == self.name]
        runs = client.search_runs([experiment.experiment_id])
        return (
            [run for run in runs if "trial_id" not in run.data.tags],
            sorted((run for run in runs if "trial_id" in run.data.tags), key=lambda run: run.data.tags["trial_id"]),
        )

    def steps(self, run_id: str, metric: str) -> list[int]:
        client = MlflowClient(f"sqlite:///{self.storage / 'mlflow.db'}")
        return [point.step for point in client.get_metric_history(run_id, metric)]

    def wandb_runs(self) -> dict[str, dict]:
        runs = [read_run(folder) for folder in self.storage.glob("wandb/offline-run-*")]
        assert len({run["id"] for run in runs}) == len(runs)
        return {run["id"]: run for run in runs}
