"""Every path of a storage and of a search, in one place."""

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from satdet.errors import StorageError, UsageError


@dataclass(frozen=True)
class StoragePaths:
    """The storage: searches side by side, the data they share, and the trackers' files."""

    root: Path

    @property
    def data(self) -> Path:
        """Simulated surveys and tile stores."""
        return self.root / "data"

    @property
    def stand_ins(self) -> Path:
        """Random weights that stand in for published ones in smoke runs."""
        return self.data / "stand-in-weights"

    @property
    def optuna_uri(self) -> str:
        """The Optuna storage of this storage's searches, for viewing."""
        return f"sqlite:///{self.root / 'optuna.db'}"

    @property
    def wandb(self) -> Path:
        """Runs of W&B, the folder that ``wandb sync`` takes."""
        return self.root / "wandb"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of the MLflow runs when the tracking database is ours."""
        return self.root / "mlartifacts"

    @property
    def mlflow_uri(self) -> str:
        """The default tracking URI: a SQLite database in the storage."""
        return f"sqlite:///{self.mlflow_database}"

    @property
    def mlflow_database(self) -> Path:
        """The file of that database."""
        return self.root / "mlflow.db"

    @property
    def archive(self) -> Path:
        """Searches that a ``--fresh`` one has taken the name of."""
        return self.root / "archive"

    def search(self, name: str) -> "SearchPaths":
        """The paths of the search called `name`.

        Raises
        ------
        UsageError
            If `name` could leave the storage.
        """
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise UsageError(f"{name!r} is not the name of a search")
        return SearchPaths(self.root / name)

    def searches(self) -> list[str]:
        """Names of the searches of this storage."""
        return sorted(record.parent.name for record in self.root.glob("*/record.jsonl"))

    def make(self) -> None:
        """Create the storage and prove that it can be written.

        Raises
        ------
        StorageError
            If it cannot.
        """
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StorageError(
                f"{self.root}: the storage cannot be written ({error.strerror}); choose another with --storage"
            ) from None


@dataclass(frozen=True)
class SearchPaths:
    """One search."""

    root: Path

    @property
    def name(self) -> str:
        """The search's name."""
        return self.root.name

    @property
    def record(self) -> Path:
        """The journal that everything else is made from."""
        return self.root / "record.jsonl"

    @property
    def summary(self) -> Path:
        """The result, made from the record."""
        return self.root / "summary.json"

    @property
    def lock(self) -> Path:
        """Held by the one driver of the search; beside the folder, which ``--fresh`` moves away."""
        return self.root.with_name(f".{self.name}.lock")

    @property
    def logs(self) -> Path:
        """Logs of the driver and of the trackers' process."""
        return self.root / "logs"

    @property
    def trackers(self) -> Path:
        """What the trackers have been sent."""
        return self.root / "trackers"

    @property
    def trials(self) -> Path:
        """The trials' folders."""
        return self.root / "trials"

    def trial(self, trial_id: str) -> Path:
        """Checkpoints, model, pictures and logs of a trial."""
        return self.trials / trial_id


def storage_paths(storage: str | os.PathLike[str]) -> StoragePaths:
    """The storage at a folder, given relative or with ``~``."""
    if "://" in str(storage):
        raise UsageError(f"--storage {storage}: only folders are supported; mount shared storage as a folder")
    return StoragePaths(Path(storage).expanduser().resolve())
