"""From a folder of frames and catalogues to a tile store.

Every frame is measured by itself, in parallel; then all usable frames are split; then they are cut into tiles, one
after the other. In between, a frame's pixels wait on disk beside the store, so memory holds one frame a process.
"""

import functools
import hashlib
import json
import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import satdet
from satdet._parallel import available_cpus, map_in_processes
from satdet.config import TilesConfig, flatten
from satdet.data.boxes import clip_to_tile, visible_objects
from satdet.data.earlier import earlier_sides
from satdet.data.folder import Folder, describe_file, is_unchanged, scan_folder
from satdet.data.labels import Curation, read_curation, unknown_labels
from satdet.data.splits import Record, SplitFrame, split_frames
from satdet.data.store import SPLITS, SplitName, TileStore, TileStoreWriter
from satdet.data.tiling import tile_origins
from satdet.errors import DataError, StorageError, TileStoreError

if TYPE_CHECKING:
    from satdet.data.measuring import Measured, Task

Progress = Callable[[int, int], None]

_LABEL_FILE = "labels.csv"
_FRAMES_A_WORKER = 64
"""Fewer frames than this are not worth another process's start."""
_REASONS_SHOWN = 3


def store_path(data_dir: Path, source: Path, config: TilesConfig, labels: Path | None = None) -> Path:
    """Where under `data_dir` the tiles of folder `source` belong: the name follows from source, labels and `config`."""
    made_from = {
        "source": str(source.resolve()),
        "labels": str(labels.resolve()) if labels else None,
        "config": flatten(config),
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return data_dir / f"tiles-{digest[:12]}"


def prepare(
    source: Path,
    config: TilesConfig,
    out: Path,
    *,
    labels: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    strict: bool = False,
) -> TileStore:
    """Make the tile store `out` from the frames in folder `source`, which is only read.

    If `out` was made from the same files, labels and configuration, nothing is done.

    Parameters
    ----------
    source : Path
        Searched for frames with all its sub-folders.
    config : TilesConfig
        Everything that decides what is in the store.
    out : Path
        The finished store's folder.
    labels : Path, optional
        Label file; default: ``labels.csv`` in `source`, if it is there.
    workers : int, optional
        Processes that read frames; default: as many as processors, fewer for few frames.
    progress : callable, optional
        Called with (frames read, frames in all).
    strict : bool
        Stop at the first unusable frame instead of rejecting it.

    Raises
    ------
    DataError
        If there is no frame, or none that can be used; with `strict`, if one cannot be used.
    StorageError
        If `out` cannot be written, or is something else than a tile store.
    """
    folder = scan_folder(source)
    label_file = _label_file(source, labels)
    current = _current_store(out, folder, label_file, config)
    if current is not None and not (strict and current.manifest["counts"]["frames"]["rejected"]):
        return current
    _check_target(out, source)
    curation = read_curation(label_file) if label_file else {}
    made_from = {
        "source": str(source.resolve()),
        "label_file": describe_file(label_file, str(label_file.resolve())) if label_file else None,
        "labels_without_frame": sorted(set(curation) - {files.name for files in folder.frames}),
        "catalogues_without_frame": list(folder.lone_catalogues),
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.frames-") as scratch:
            tasks = _tasks(folder, curation, config, Path(scratch), strict)
            results = _measure_all(tasks, workers, progress)
            record = earlier_sides(out, source, config)
            _leave_out_duplicates(results, config, record)
            splits, made_from["sides"], unknown = _split(results, config, record)
            made_from["warnings"] = _warnings(results) + unknown
            _check_used(results, source)
            _write_store(out, results, tasks, splits, made_from)
    except OSError as error:
        raise StorageError(f"{out}: the tile store cannot be written ({error})") from error
    return TileStore.open(out)


def _label_file(source: Path, labels: Path | None) -> Path | None:
    if labels is not None:
        return labels
    default = source / _LABEL_FILE
    return default if default.exists() else None


def _current_store(out: Path, folder: Folder, label_file: Path | None, config: TilesConfig) -> TileStore | None:
    """The store at `out`, if it is what would be made now."""
    try:
        store = TileStore.open(out)
    except TileStoreError:
        return None
    made = store.manifest
    if made["config"] != flatten(config) or made.get("source") != str(folder.path.resolve()):
        return None
    if (made["label_file"] is None) != (label_file is None):
        return None
    if label_file is not None and not is_unchanged(label_file, made["label_file"]):
        return None
    known = {file["path"]: file for entry in made["frames"] for file in entry.get("files", ())}
    present = {path for files in folder.frames for path in files.paths}
    if present != set(known):
        return None
    return store if all(is_unchanged(folder.path / path, file) for path, file in known.items()) else None


def _check_target(out: Path, source: Path) -> None:
    """A store replaces what is at its place; see to it that this is an older store or nothing."""
    if source.resolve().is_relative_to(out.resolve()):
        raise StorageError(f"{out}: the tiles would replace the frames in {source}; choose another place for them")
    is_store = all((out / name).is_file() for name in ("manifest.json", "tiles.f16"))
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not (is_store or is_empty):
        raise StorageError(f"{out}: is there already and is not a tile store; choose another place, or remove it")


def _tasks(
    folder: Folder, curation: dict[str, Curation], config: TilesConfig, scratch: Path, strict: bool
) -> "list[Task]":
    from satdet.data.measuring import Task

    return [
        Task(folder.path, files, curation.get(files.name, Curation()), config, scratch / f"{number}.npy", strict)
        for number, files in enumerate(folder.frames)
    ]


def _measure_all(tasks: "Sequence[Task]", workers: int | None, progress: Progress | None) -> "list[Measured]":
    from satdet.data.measuring import measure

    if workers is None:
        workers = min(available_cpus(), max(1, len(tasks) // _FRAMES_A_WORKER))
    results = []
    for result in map_in_processes(measure, tasks, workers):
        results.append(result)
        if progress is not None:
            progress(len(results), len(tasks))
    return results


def _leave_out_duplicates(results: "Sequence[Measured]", config: TilesConfig, record: Record) -> None:
    """Of frames that are the same, keep one with ground truth if there is one; then one that was kept before."""
    from satdet.data.duplicates import find_duplicates

    readable = [result for result in results if result.fingerprint is not None]
    prints = [result.fingerprint for result in readable if result.fingerprint is not None]
    preference = [(each.state != "used", each.files.key not in record, each.files.frame) for each in readable]
    order = sorted(range(len(readable)), key=preference.__getitem__)
    for place, found in find_duplicates(prints, order, config.duplicate_correlation).items():
        same = readable[found.of].files.frame
        again = f"the same exposure as {same}, processed again (correlation of the noise {found.correlation:.2f})"
        readable[place].leave_out("duplicate", f"the same pixels as {same}" if found.same_pixels else again)
        readable[place].about["duplicate_of"] = same


def _split(
    results: "Sequence[Measured]", config: TilesConfig, record: Record
) -> tuple[dict[str, SplitName], dict[str, SplitName], list[str]]:
    """The split of every used frame by its path, the record for later stores, and what is to be said about it."""
    used = [result for result in results if result.state == "used"]
    frames = [
        SplitFrame(
            result.files.key,
            result.about["julian_date"],
            result.about["wcs"],
            (result.about["height"], result.about["width"]),
        )
        for result in used
    ]
    sides = split_frames(frames, config, record)
    for place, (one, other) in sides.bridging.items():
        used[place].leave_out("excluded", f"sees the sky of {one} and {other}, which are in different splits")
    unknown = [f"{key}: its {config.group} is not known; such frames count as one" for key in sides.unknown]
    return {used[place].files.frame: split for place, split in sides.splits.items()}, sides.record, unknown


def _warnings(results: "Sequence[Measured]") -> list[str]:
    """What was decided for the user and may not be what he expects."""
    warnings = unknown_labels(result.curation for result in results)
    for files in (result.files for result in results):
        if files.other_catalogues:
            others = ", ".join(files.other_catalogues)
            warnings.append(f"{files.frame}: the catalogue read is {files.catalogue}, not {others}")
    return warnings


def _check_used(results: "Sequence[Measured]", source: Path) -> None:
    from satdet.data.measuring import count_states

    counts = count_states(results)
    if counts["used"]:
        return
    found = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    reasons = list(dict.fromkeys(str(result.reason) for result in results))[:_REASONS_SHOWN]
    raise DataError(f"{source}: none of {len(results)} frames can be used ({found}); {'; '.join(reasons)}")


def _write_store(
    out: Path,
    results: "Sequence[Measured]",
    tasks: "Sequence[Task]",
    splits: dict[str, SplitName],
    made_from: dict[str, Any],
) -> None:
    from satdet.data.measuring import count_states, manifest_entry

    config = tasks[0].config
    counts: dict[str, Any] = {"frames": count_states(results)}
    counts |= {split: {"frames": 0, "tiles": 0, "objects": 0, "empty_tiles": 0} for split in SPLITS}
    entries = []
    with TileStoreWriter(out, config.size) as writer:
        for number, (result, task) in enumerate(zip(results, tasks, strict=True)):
            split = splits.get(result.files.frame)
            objects = _cut(writer, result, task, number, split) if split else []
            if split:
                counts[split]["frames"] += 1
                counts[split]["tiles"] += len(objects)
                counts[split]["objects"] += sum(objects)
                counts[split]["empty_tiles"] += objects.count(0)
            entries.append(manifest_entry(result, split, len(objects)))
        manifest = {"config": flatten(config), "frames": entries, "counts": counts, "versions": _versions()}
        writer.finish(manifest | made_from)


def _cut(writer: TileStoreWriter, result: "Measured", task: "Task", number: int, split: SplitName) -> list[int]:
    """Write the tiles of one frame and return the number of objects in each."""
    assert result.objects is not None
    config, found = task.config, result.objects
    pixels = np.load(task.pixels)
    task.pixels.unlink()
    counts = []
    for x, y in tile_origins(pixels.shape[1], pixels.shape[0], config.size, config.overlap):
        boxes, ignored = clip_to_tile(found.boxes, found.ignored, (x, y), config.size, config.box.min_visible)
        tile = pixels[y : y + config.size, x : x + config.size]
        magnitudes = found.magnitudes[visible_objects(found.boxes, (x, y), config.size, config.box.min_visible)]
        writer.add(tile, boxes, ignored, frame=number, split=split, origin=(x, y), magnitudes=magnitudes)
        counts.append(len(boxes))
    return counts


@functools.cache
def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in ("numpy", "astropy", "sep")}
    return {"python": platform.python_version(), **packages, "satdet": satdet.__version__}
