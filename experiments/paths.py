"""Every path of a storage and of a search, in one place."""

import contextlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.objects import checked_uri, is_uri
from experiments.remote import SCRATCH, RemoteRecord, RemoteStorage
from satdet.errors import StorageError, UsageError

SHOWN = ("model.pt", "detections.png", "error.txt")
"""What people and trackers are shown of a trial."""


@dataclass(frozen=True)
class StoragePaths:
    """The storage: searches side by side, the data they share, and the trackers' files.

    Attributes
    ----------
    root : Path
    remote : RemoteStorage, optional
        Of a storage in an object store; `root` is this machine's copy then, and holds the trackers' files.
    """

    root: Path
    remote: RemoteStorage | None = None

    def __str__(self) -> str:
        """As it is named on a command line."""
        return self.remote.uri if self.remote is not None else str(self.root)

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
        return SearchPaths(self.root / name, self.remote)

    def searches(self) -> list[str]:
        """Names of the searches of this storage."""
        if self.remote is not None:
            objects = self.remote.objects()
            return [name for name in objects.folders() if RemoteRecord(objects.under(name)).begun()]
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
        if self.remote is not None:
            self.remote.probe()


@dataclass(frozen=True)
class SearchPaths:
    """One search.

    Attributes
    ----------
    root : Path
    remote : RemoteStorage, optional
        The object store that the storage is in.
    """

    root: Path
    remote: RemoteStorage | None = None

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

    def trial_here(self, trial_id: str) -> Path:
        """The folder of an ended trial, with what people and trackers are shown of it on this machine.

        Raises
        ------
        OSError
            If it has to be fetched and cannot be.
        """
        folder = self.trial(trial_id)
        if self.remote is not None:
            self.remote.mirror(folder, self.name, "trials", trial_id).fetch(SHOWN)
        return folder

    def address(self, trial_id: str) -> str:
        """Where a trial's files are, for people."""
        if self.remote is not None:
            return f"{self.remote.uri}/{self.name}/trials/{trial_id}"
        return str(self.trial(trial_id))

    def files(self) -> "TrialFiles":
        """What all trials have in the storage now."""
        return TrialFiles(self)


class TrialFiles:
    """The names and sizes [bytes] of trials' files; of an object store, as they were when this was made."""

    def __init__(self, search: SearchPaths) -> None:
        self._search = search
        self._listed: dict[str, dict[str, int]] | None = None
        if search.remote is not None:
            self._listed = {}
            for key, stored in search.remote.objects(search.name).listing("trials").items():
                trial_id, _, name = key.removeprefix("trials/").partition("/")
                self._listed.setdefault(trial_id, {})[name] = stored.size

    def __bool__(self) -> bool:
        """Whether any trial has a file or a folder."""
        if self._listed is not None:
            return bool(self._listed)
        return self._search.trials.is_dir() and any(self._search.trials.iterdir())

    def of(self, trial_id: str) -> Mapping[str, int]:
        """Those of one trial."""
        if self._listed is not None:
            return self._listed.get(trial_id, {})
        folder = self._search.trial(trial_id)
        if not folder.is_dir():
            return {}
        found = {}
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # renamed meanwhile, by whoever trains
                found[path.name] = path.stat().st_size
        return found


def storage_paths(storage: str | os.PathLike[str]) -> StoragePaths:
    """The storage at a folder, given relative or with ``~``, or at the address of an object store."""
    if is_uri(storage):
        remote = RemoteStorage(checked_uri(str(storage)), os.environ.get(SCRATCH))
        return StoragePaths(remote.root, remote)
    return StoragePaths(Path(storage).expanduser().resolve())
