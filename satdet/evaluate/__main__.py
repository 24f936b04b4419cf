"""``python -m satdet.evaluate``: measure a trained detector on tiles, at many thresholds in one pass."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satdet._cli import progress_bar, run_command
from satdet.errors import UsageError

if TYPE_CHECKING:
    from satdet.data.loading import Batch, TileDataset
    from satdet.data.store import TileStore
    from satdet.evaluate.grid import Cell, CellResult
    from satdet.training.export import Model

_DATA_DIR = Path("runs/data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` (default: the process's own), evaluate, and return the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _evaluate(options), debug=options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m satdet.evaluate",
        description="Measure a trained detector on tiles. All thresholds together take one pass through the network.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="model.pt of a trial")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tiles", type=Path, metavar="STORE", help="tile store, as satdet.prepare makes it")
    source.add_argument("--data", type=Path, metavar="DIR", help="frames, cut into tiles by the checkpoint's own rule")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test", "all"), help="default: test")
    parser.add_argument("--any-tile-size", action="store_true", help="allow tiles of another size than it trained on")
    grid = parser.add_argument_group("the grid; without a flag, the checkpoint's own value")
    grid.add_argument("--nms", type=float, nargs="+", default=[], metavar="T", help="NMS thresholds")
    grid.add_argument("--score", type=float, nargs="+", default=[], metavar="S", help="score thresholds")
    grid.add_argument("--detections", type=int, nargs="+", default=[], metavar="N", help="most detections a tile")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="folder for results.json, figures and pictures")
    output.add_argument("--pictures", type=float, nargs="+", default=[], metavar="T",
                        help="draw the same tiles at these of the NMS thresholds")  # fmt: skip
    output.add_argument("--failures", type=int, default=0, metavar="N", help="draw the N worst failures of each kind")
    output.add_argument("--check", action="store_true", help="also by torchmetrics, for comparison")
    output.add_argument("--json", action="store_true", help="results.json on standard output")
    parser.add_argument("--batch", type=int, metavar="N", help="tiles a forward pass (default: the checkpoint's)")
    parser.add_argument("--device", metavar="D", help="default: cuda if there is one, else cpu")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    from satdet.evaluate.data import evaluation_tiles
    from satdet.evaluate.grid import evaluate_grid, grid_cells
    from satdet.evaluate.results import add_reference, summarise, table
    from satdet.training.export import default_device, open_model

    if (options.pictures or options.failures) and options.out is None:
        raise UsageError("--pictures and --failures need a folder for them: --out DIR")
    model = open_model(options.checkpoint, options.device or default_device())
    cells = grid_cells(
        model.config.detector,
        nms_thresholds=options.nms,
        score_thresholds=options.score,
        detections=options.detections,
    )
    _check_pictures(options.pictures, cells)
    tiles = evaluation_tiles(model, _store(options, model), options.split, any_tile_size=options.any_tile_size)
    with progress_bar("evaluating") as progress:
        results = evaluate_grid(model.candidates, _batches(tiles, model, options.batch, progress), cells)
    summary = summarise(model, tiles.split, options.split, results)
    if options.check:
        add_reference(summary, tiles, results)
    if options.out is not None:
        _write(options, summary, tiles, results)
    sys.stdout.write((json.dumps(summary, indent=1) if options.json else "\n".join(table(summary))) + "\n")


def _check_pictures(wanted: Sequence[float], cells: "Sequence[Cell]") -> None:
    known = sorted({cell.nms_threshold for cell in cells})
    for threshold in wanted:
        if threshold not in known:
            raise UsageError(f"--pictures {threshold:g} is not among the NMS thresholds {', '.join(map(str, known))}")


def _store(options: argparse.Namespace, model: "Model") -> "TileStore":
    from satdet.data.store import TileStore
    from satdet.evaluate.data import leak_warning, prepare_tiles

    if options.data is not None:
        with progress_bar("reading frames") as progress:
            return prepare_tiles(model, options.data, _DATA_DIR, progress)
    store = TileStore.open(options.tiles)
    warning = leak_warning(model, store)
    if warning is not None:
        sys.stderr.write(f"warning: {warning}\n")
    return store


def _batches(
    tiles: "TileDataset", model: "Model", batch_size: int | None, progress: Callable[[int, int], None]
) -> "Iterator[Batch]":
    from satdet.data.loading import evaluation_loader

    config = model.config.evaluation
    if batch_size is not None:
        config = dataclasses.replace(config, batch_size=batch_size)
    done = 0
    for images, targets in evaluation_loader(tiles, config, pin_memory=model.device.type == "cuda"):
        yield images, targets
        done += len(images)
        progress(done, len(tiles))


def _write(
    options: argparse.Namespace, summary: dict[str, Any], tiles: "TileDataset", results: "Sequence[CellResult]"
) -> None:
    from satdet.evaluate.report import write_figures, write_pictures
    from satdet.training.files import write_text

    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "results.json", json.dumps(summary, indent=1))
    write_figures(options.out, results)
    write_pictures(options.out, tiles.split, results, thresholds=options.pictures, failures=options.failures)


if __name__ == "__main__":
    sys.exit(main())
