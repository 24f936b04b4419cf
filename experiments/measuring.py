"""One trial of an evaluation inside Ray; importing Ray here fixes its settings, so only a search that runs does it."""

import json
import traceback
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ray import tune

from experiments.evaluation import PATHS
from experiments.node_proof import prove_here
from experiments.trial_run import TrialOrder, failure, keep_traceback
from satdet._storage import write_whole
from satdet.config import unflatten

if TYPE_CHECKING:
    from satdet.data.store import TileStore

_SHARED = "evaluation.json"


class EvaluationTrainable(tune.Trainable):  # type: ignore[misc]
    """Measures a checkpoint at one cell, and at all others with it: the first trial's pass serves them all."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that `config` orders."""
        import torch

        self._order = TrialOrder(**config["trial"])
        self._remarks: list[str] = []
        torch.set_num_threads(self._order.threads)

    def step(self) -> dict[str, Any]:
        """Report the cell's metrics.

        Raises
        ------
        NodeError
            If this node cannot measure it; Ray tries it elsewhere.
        """
        prove_here(self._order.proof)
        try:
            started = perf_counter()
            metrics = self._metrics()
            metrics["seconds"] = perf_counter() - started
        except Exception as error:
            result = failure(self._order, error, epoch=0, metrics=None)
            keep_traceback(self._order, result, "".join(traceback.format_exception(error)))
            return result
        return {"epoch": 1, **metrics, "stop_reason": "completed", "remarks": self._remarks, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial."""
        self.setup(new_config)
        return True

    def _metrics(self) -> dict[str, float]:
        order = self._order
        directory = order.folder
        directory.mkdir(parents=True, exist_ok=True)
        shared = order.shared_folder / _SHARED
        common = order.twin(order.shared)
        if common is not None:
            common.fetch()
        cells = [_cell(order.config, cell) for cell in order.cells]
        mine = _cell(order.config, {})
        measured: dict[str, dict[str, float]] = json.loads(shared.read_text()) if shared.exists() else {}
        if _key(mine) not in measured:
            with order.tiles(self._remarks.append) as store:
                measured |= self._evaluate(store, cells if mine in cells else [mine], shared.parent)
            write_whole(shared, json.dumps(measured).encode())
            if common is not None:
                common.send()
        picture = shared.with_name(f"{_key(mine)}.png")
        if picture.exists() and order.pictured:
            (directory / "detections.png").write_bytes(picture.read_bytes())
        if (twin := order.twin()) is not None:
            twin.send()
        return measured[_key(mine)]

    def _evaluate(self, store: "TileStore", cells: list[dict[str, Any]], folder: Path) -> dict[str, dict[str, float]]:
        """One pass for all cells; their metrics by key, and in `folder` a picture of the same tiles for each."""
        from satdet.data.loading import evaluation_loader
        from satdet.evaluate.data import evaluation_tiles
        from satdet.evaluate.grid import Cell, evaluate_grid
        from satdet.evaluate.report import draw_cell
        from satdet.training.export import default_device, open_model

        config = unflatten(self._order.config)
        model = open_model(self._order.model(), default_device())
        tiles = evaluation_tiles(model, store, config.evaluation.split)
        started = perf_counter()
        results = evaluate_grid(
            model.candidates,
            evaluation_loader(tiles, config.evaluation, pin_memory=model.device.type == "cuda"),
            [Cell(**{path.rpartition(".")[2]: cell[path] for path in PATHS}) for cell in cells],
        )
        seconds = perf_counter() - started
        folder.mkdir(parents=True, exist_ok=True)
        metrics = {}
        for cell, result in zip(cells, results, strict=True):
            draw_cell(folder / f"{_key(cell)}.png", tiles.split, result)
            speed = {"seconds_evaluation": seconds, "images_per_second": len(tiles) / seconds}
            metrics[_key(cell)] = result.metrics.compute() | speed
        return metrics


def _cell(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {path: values.get(path, config[path]) for path in PATHS}


def _key(cell: dict[str, Any]) -> str:
    return "-".join(f"{path.rpartition('.')[2]}={cell[path]!r}" for path in PATHS)
