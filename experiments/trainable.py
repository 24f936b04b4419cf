"""One trial inside Ray: a Tune trainable whose step is an epoch."""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from experiments.node_proof import prove_here
from experiments.schedulers.ray_scheduler import STORAGE_LOST
from experiments.stoppers import build_callbacks
from experiments.tile_cache import TileCache, near_store
from satdet._storage import PATIENCE_SECONDS, may_pass
from satdet.config import TrialConfig, unflatten
from satdet.errors import NodeError, StorageLostError
from search_spaces.declare import reported_metrics

if TYPE_CHECKING:
    from satdet.data.store import TileStore
    from satdet.training import EpochReport


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """All that a worker needs to train one trial; plain data, for it travels."""

    trial_id: str
    config: dict[str, Any]
    seed: int
    directory: str
    store: str
    stoppers: list[dict[str, Any]]
    threads: int
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

    @contextlib.contextmanager
    def tiles(self, say: Callable[[str], None]) -> "Iterator[TileStore]":
        """The store that the trial reads, or the node's copy of it, for as long as the context lasts."""
        from satdet.data.store import TileStore

        cache = TileCache(**self.tile_cache) if self.tile_cache is not None else None
        with near_store(Path(self.store), self.store_digest, cache, say) as path:
            yield TileStore.open(path)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Trains one trial after another in the same process, so that only the first pays for importing torch.

    A failure of the trial itself (bad data, a loss that is not finite, out of memory, an error in the code) is a result
    with ``error``, not an exception: trying it again would fail again. What Ray sees failing is a lost process or node,
    and it retries that.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that `config` orders."""
        import torch

        from satdet.training import hardware_name

        self._order = TrialOrder(**config["trial"])
        self._config: TrialConfig = unflatten(self._order.config)
        self._last: EpochReport | None = None
        torch.set_num_threads(self._order.threads)
        self._hardware = hardware_name(
            torch.device("cuda" if torch.cuda.is_available() else "cpu"), self._order.threads
        )
        self._reports: Iterator[EpochReport] | None = None
        self._tiles = contextlib.ExitStack()
        self._remarks: list[str] = []

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        Raises
        ------
        NodeError
            If this node cannot train it; Ray tries it elsewhere.
        """
        try:
            if self._reports is None:
                prove_here(self._order.proof)
                self._reports = self._begin()
            self._last = next(self._reports)
        except NodeError:
            raise
        except Exception as error:
            last = self._last
            epoch = last.epoch if last else self._order.after_epoch
            return failure(self._order, error, epoch=epoch, metrics=last.metrics if last else None)
        remarks, self._remarks = [*self._remarks, *self._last.remarks], []
        return {
            "epoch": self._last.epoch,
            **self._last.metrics,
            "stop_reason": self._last.stop_reason or "",
            "stop_detail": self._last.stop_detail or "",
            "hardware": self._hardware,
            "remarks": remarks,
            "done": self._last.stop_reason is not None,
        }

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the trial and begin another in this process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Leave the trial: its checkpoints are complete when this returns, and device memory is free."""
        import torch

        reports, self._reports = self._reports, None
        if reports is not None:
            reports.close()  # type: ignore[attr-defined]
        self._tiles.close()
        if self._last is not None and self._last.stop_reason is not None:
            from satdet.training import retire_checkpoints

            retire_checkpoints(Path(self._order.directory))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _begin(self) -> "Iterator[EpochReport]":
        from satdet.training import StopAfter, train

        order = self._order
        callbacks = build_callbacks(order.stoppers, order.speeds, self._hardware)
        if order.until_epoch is not None:  # nothing else is to decide on it again
            callbacks = [StopAfter(order.until_epoch)]
        return train(
            self._config,
            self._tiles.enter_context(order.tiles(self._remarks.append)),
            Path(order.directory),
            seed=order.seed,
            callbacks=callbacks,
            weights_dir=Path(order.weights_dir) if order.weights_dir else None,
            after_epoch=order.after_epoch,
            continue_after=order.continue_after,
            keep=order.keep,
            storage_patience=order.storage_patience,
        )


def failure(order: TrialOrder, error: Exception, *, epoch: int, metrics: dict[str, float] | None) -> dict[str, Any]:
    """The last result of a trial again, with the error in one line; the traceback goes into the trial's folder.

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
    directory = Path(order.directory)
    lost = isinstance(error, StorageLostError) or (isinstance(error, OSError) and may_pass(error, directory))
    if not lost:
        with contextlib.suppress(OSError):  # the error may be that nothing can be written there
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "error.txt").write_text("".join(traceback.format_exception(error)))
    task = "train" if order.checkpoint is None else "evaluate"
    return {
        "epoch": epoch,
        **(metrics or dict.fromkeys(reported_metrics(order.config, task), 0.0)),
        "stop_reason": STORAGE_LOST if lost else "error",
        "error": " ".join((str(error) if lost else f"{type(error).__name__}: {error}").split())[:500],
        "done": True,
    }
