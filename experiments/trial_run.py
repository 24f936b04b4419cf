"""One process's part in the training of a trial, epoch by epoch, as plain results."""

import contextlib
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.mirror import Mirror
from experiments.node_proof import prove_here
from experiments.remote import RemoteStorage
from experiments.stoppers import build_callbacks
from experiments.tile_cache import TileCache, near_store
from satdet._storage import PATIENCE_SECONDS, may_pass
from satdet.config import TrialConfig, unflatten
from satdet.errors import LostWorkerError, NodeError, StorageLostError
from search_spaces.declare import reported_metrics

if TYPE_CHECKING:
    from satdet.data.store import TileStore
    from satdet.training import EpochReport, Meeting

MODELS = "models"
"""Of an object store: the folder of models that evaluations measure, by their SHA-256."""
STORAGE_LOST = "storage_lost"
"""Stop reason of a result with which a trial leaves because its storage is gone; it has not ended."""


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """All that a worker needs to train one trial; plain data, for it travels.

    Where the storage is an object store, paths in it are relative, and each node has its own folder for them.
    """

    trial_id: str
    config: dict[str, Any]
    seed: int
    directory: str
    store: str
    remote: dict[str, Any] | None = None
    """The object store that the storage is in; None: a folder that all see."""
    stoppers: list[dict[str, Any]]
    threads: int
    """CPUs, and so threads, of each worker."""
    gpus: float = 0.0
    """GPUs of each worker."""
    workers: int = 1
    """Processes that train it together."""
    speeds: dict[str, list[float]] = field(default_factory=dict)
    """Median images a second of finished trials up to each epoch, by hardware."""
    after_epoch: int = 0
    """Epochs that the record has; the trial reports what comes after them."""
    weights_dir: str | None = None
    keep: int = 2
    """Newest checkpoints that are kept while the trial runs."""
    storage_patience: float = PATIENCE_SECONDS
    """How long [s] a storage that refuses is waited for."""
    continue_after: int | None = None
    """The epochs it had when somebody had it go on after its end."""
    until_epoch: int | None = None
    """Of a trial that has ended and whose checkpoint was lost: the epoch up to which it is trained again."""
    micro_batch_size: int | None = None
    """Most tiles a pass, where the memory of one of several workers did not suffice for the configuration's."""
    checkpoint: str | None = None
    """Of an evaluation: the model that is measured."""
    shared: str = ""
    """Of an evaluation: the folder that its trials share."""
    cells: list[dict[str, Any]] = field(default_factory=list)
    """Of an evaluation: what one pass through the network can serve."""
    pictured: bool = False
    """Of an evaluation: whether the trial keeps a picture."""
    proof: dict[str, Any] | None = None
    """On a cluster: what a node has to show before it trains."""
    store_digest: str = ""
    """The `content_digest` of the store."""
    tile_cache: dict[str, Any] | None = None
    """Where the node keeps a copy of the store; None: nowhere."""
    stand_ins: str | None = None
    """Of an object store: the folder of weights that stand in for published ones."""
    checkpoint_digest: str = ""
    """SHA-256 of `checkpoint`."""

    @contextlib.contextmanager
    def tiles(self, say: Callable[[str], None]) -> "Iterator[TileStore]":
        """The store that the trial reads, or the node's copy of it, for as long as the context lasts."""
        from satdet.data.store import TileStore

        cache = TileCache(**self.tile_cache) if self.tile_cache is not None else None
        store = Path(self.store) if self.storage is None else self.storage.objects(self.store)
        with near_store(store, self.store_digest, cache, say) as path:
            yield TileStore.open(path)

    @property
    def storage(self) -> RemoteStorage | None:
        """The object store, if the storage is in one."""
        return RemoteStorage(**self.remote) if self.remote is not None else None

    @property
    def folder(self) -> Path:
        """Where the trial's files are on this node."""
        return self._here(self.directory)

    @property
    def shared_folder(self) -> Path:
        """Of an evaluation: where the files are on this node that its trials share."""
        return self._here(self.shared)

    def twin(self, folder: str | None = None) -> Mirror | None:
        """The object store's side of a folder, by default the trial's own."""
        folder = folder or self.directory
        return None if self.storage is None else self.storage.mirror(self._here(folder), folder)

    def weights(self) -> Path | None:
        """Where pretrained weights are looked for first, on this node.

        Raises
        ------
        OSError
            If they have to be fetched and cannot be.
        """
        if self.stand_ins is not None and (twin := self.twin(self.stand_ins)) is not None:
            twin.fetch()
            return twin.folder
        return Path(self.weights_dir) if self.weights_dir else None

    def model(self) -> Path:
        """Of an evaluation: the model that is measured, on this node.

        Raises
        ------
        OSError
            If it has to be fetched and cannot be.
        """
        if self.storage is None:
            return Path(str(self.checkpoint))
        twin = self.storage.mirror(self._here(MODELS), MODELS)
        twin.fetch([name := f"{self.checkpoint_digest}.pt"])
        return twin.folder / name

    def _here(self, folder: str) -> Path:
        return Path(folder) if self.storage is None else self.storage.work / folder

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one process says of one epoch.

    Attributes
    ----------
    result : dict
        For Tune; of a failure, how the trial ends with it.
    failed : bool
        Whether the trial cannot go on here.
    text : str
        The traceback of a failure.
    lost_another : bool
        Whether the failure is that another worker does not answer.
    smaller : int, optional
        Most tiles a pass with which another attempt may do.
    remark : str, optional
        What that attempt is for, for people.
    """

    result: dict[str, Any]
    failed: bool = False
    text: str = ""
    lost_another: bool = False
    smaller: int | None = None
    remark: str | None = None


class TrialRun:
    """Trains one trial in this process, alone or as one of several workers.

    Parameters
    ----------
    order : TrialOrder
    meeting : Meeting, optional
        Where the other workers are.
    """

    def __init__(self, order: TrialOrder, meeting: "Meeting | None" = None) -> None:
        import torch

        from satdet.training import hardware_name

        self.order = order
        self._meeting = meeting
        self._config: TrialConfig = unflatten(order.config)
        self._last: EpochReport | None = None
        torch.set_num_threads(order.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.hardware = hardware_name(device, order.threads, order.workers)
        self._reports: Iterator[EpochReport] | None = None
        self._open = contextlib.ExitStack()
        self._remarks: list[str] = []

    def step(self) -> Outcome:
        """Train one epoch.

        Raises
        ------
        NodeError
            If this node cannot train it; Ray tries it elsewhere.
        """
        from satdet.training import SmallerPasses

        try:
            if self._reports is None:
                prove_here(self.order.proof)
                self._reports = self._begin()
            self._last = next(self._reports)
        except NodeError:
            raise
        except SmallerPasses as wish:
            remark = f"CUDA out of memory: micro-batch {wish.size} -> {wish.smaller} a worker"
            return Outcome(result={}, failed=True, smaller=wish.smaller, remark=remark)
        except Exception as error:
            last = self._last
            epoch = last.epoch if last else self.order.after_epoch
            return Outcome(
                result=failure(self.order, error, epoch=epoch, metrics=last.metrics if last else None),
                failed=True,
                text="".join(traceback.format_exception(error)),
                lost_another=isinstance(error, LostWorkerError) or _is_of_a_collective(error),
            )
        remarks, self._remarks = [*self._remarks, *self._last.remarks], []
        return Outcome(
            result={
                "epoch": self._last.epoch,
                **self._last.metrics,
                "stop_reason": self._last.stop_reason or "",
                "stop_detail": self._last.stop_detail or "",
                "hardware": self.hardware,
                "remarks": remarks,
                "done": self._last.stop_reason is not None,
            }
        )

    def leave(self) -> None:
        """Leave the trial: its checkpoints are complete when this returns, and device memory is free."""
        import torch

        reports, self._reports = self._reports, None
        try:
            if reports is not None:
                reports.close()  # type: ignore[attr-defined]
        finally:
            self._open.close()
        leads = self._meeting is None or self._meeting.rank == 0
        if leads and self._last is not None and self._last.stop_reason is not None:
            from satdet.training import retire_checkpoints

            retire_checkpoints(self.order.folder)
        if leads and reports is not None:
            self._clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _clear(self) -> None:
        """Of a trial whose files are in an object store, keep nothing on this node."""
        twin = self.order.twin()
        if twin is not None:
            with contextlib.suppress(OSError):  # then they stay here, in nobody's way
                twin.send()
                shutil.rmtree(twin.folder)

    def _begin(self) -> "Iterator[EpochReport]":
        from satdet.training import ALONE, StopAfter, meet, train

        order = self.order
        callbacks = build_callbacks(order.stoppers, order.speeds, self.hardware)
        if order.until_epoch is not None:  # nothing else is to decide on it again
            callbacks = [StopAfter(order.until_epoch)]
        workers = self._open.enter_context(meet(self._meeting)) if self._meeting is not None else ALONE
        return train(
            self._config,
            self._open.enter_context(order.tiles(self._remarks.append)),
            order.folder,
            seed=order.seed,
            callbacks=callbacks,
            weights_dir=order.weights(),
            after_epoch=order.after_epoch,
            continue_after=order.continue_after,
            keep=order.keep,
            storage_patience=order.storage_patience,
            workers=workers,
            micro_batch_size=order.micro_batch_size,
            twin=order.twin(),
        )


def failure(order: TrialOrder, error: Exception, *, epoch: int, metrics: dict[str, float] | None) -> dict[str, Any]:
    """The last result of a trial again, with the error in one line.

    A storage that is lost is not the trial's failure: the result says so, and the search leaves.

    Parameters
    ----------
    order : TrialOrder
    error : Exception
    epoch : int
        The last whole one.
    metrics : dict of float, optional
        Of the last whole epoch; zeros if there is none.
    """
    passing = isinstance(error, OSError) and may_pass(error, order.folder)
    lost = passing or isinstance(error, StorageLostError)
    task = "train" if order.checkpoint is None else "evaluate"
    return {
        "epoch": epoch,
        **(metrics or dict.fromkeys(reported_metrics(order.config, task), 0.0)),
        "stop_reason": STORAGE_LOST if lost else "error",
        "error": " ".join((str(error) if lost else f"{type(error).__name__}: {error}").split())[:500],
        "done": True,
    }


def keep_traceback(order: TrialOrder, result: dict[str, Any], text: str) -> None:
    """Leave the traceback of a trial's own failure in its folder."""
    if result["stop_reason"] == STORAGE_LOST:
        return
    with contextlib.suppress(OSError):  # the error may be that nothing can be written there
        order.folder.mkdir(parents=True, exist_ok=True)
        (order.folder / "error.txt").write_text(text)
        if order.storage is not None:
            order.storage.objects(order.directory).write("error.txt", text.encode())


def _is_of_a_collective(error: Exception) -> bool:
    """Whether what failed is the exchange of gradients, in the middle of torch's backward pass."""
    if not isinstance(error, RuntimeError):
        return False
    return any(word in str(error) for word in ("gloo", "NCCL", "ProcessGroup", "Connection closed by peer"))
