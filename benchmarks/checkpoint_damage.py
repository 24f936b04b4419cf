"""Is there a damage to a trial's files after which it trains on in silence from the wrong state?

    python -m benchmarks.checkpoint_damage [--flips 400] [--seed 0] [--folder DIR]

Cuts off, flips, blanks, empties and exchanges the files of a small trial, each by itself, has the trial go on, and
compares its weights with those of the trial that nothing befell. Fills a real file system of 64 MB too, and turns it
read-only, where this process may mount one. Writes ``benchmarks/results/checkpoint_damage.json``; its exit status is 1
if any case ended in another way than it may.
"""

import argparse
import json
import logging
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import versions
from satdet._cli import progress_bar
from satdet.config import with_values
from satdet.data.store import TileStore
from satdet.errors import CheckpointError, SatdetError, StorageLostError
from satdet.training import BatchProgress, Callback, EpochReport, StopTraining, files, load_model, train
from tests.tiny import CONFIG, tiny_detectors, tiny_store

EPOCHS = 5
BALLAST = 80_000
PAGE = 4096
STOPPED_AFTER = 3
TRIAL = with_values(CONFIG, {"training.epochs": EPOCHS})
DISK_MEGABYTES = 64
DISK_BALLAST = 600_000
OTHERS_MEGABYTES = (20, 25, 30, 35, 40, 45, 50, 55, 60)
FAILED = "FAILED: "

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One damage: its kind, and how the bytes of the file after it are made."""

    kind: str
    content: Callable[[], bytes]


class Stop(Callback):
    """Ends a trial after so many epochs."""

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Stop in the epoch after."""
        if progress.epoch > STOPPED_AFTER:
            raise StopTraining("enough", why="it was told to")


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, go on, compare, and write what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkpoint_damage", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--flips", type=int, default=400, metavar="N", help="bits flipped in each file, one at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for some ten megabytes meanwhile")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/checkpoint_damage.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.getLogger("satdet").setLevel(logging.CRITICAL)  # thousands of warnings, all of them expected
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = _damage(Path(folder), options.flips, random.Random(options.seed))
        found |= _real_disk(Path(folder))
    wrong = sum(count for outcomes in found.values() for kind, count in outcomes.items() if FAILED in kind)
    result = {
        "command": f"python -m benchmarks.checkpoint_damage --flips {options.flips} --seed {options.seed}",
        "versions": versions(),
        "cases": sum(sum(outcomes.values()) for outcomes in found.values()),
        "wrong": wrong,
        "outcomes": found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(f"{result['cases']} cases, {wrong} of them wrong: {options.out}\n")
    return 1 if wrong else 0


def _damage(folder: Path, flips: int, chance: random.Random) -> dict[str, dict[str, int]]:
    """How often each damage to each file had which outcome."""
    store = tiny_store(folder / "store")
    with tiny_detectors(BALLAST):
        whole, stopped, other = (folder / name for name in ("whole", "stopped", "other"))
        _run(store, whole, keep=EPOCHS)
        _run(store, stopped, callbacks=[Stop()])
        _run(store, other, seed=2, callbacks=[Stop()])
        weights, newest = _weights(whole), files.epoch_files(whole)[0].name
        foreign = files.epoch_files(other)[0]
        probes: list[tuple[str, Path, Path, Callable[[Path], str]]] = [
            (newest, whole, foreign, lambda trial: _go_on(store, trial, weights, newest)),
            (files.BEST, whole, foreign, lambda trial: _export_again(store, trial)),
            (files.MODEL, whole, other / files.MODEL, lambda trial: _open(store, trial, whole)),
            (files.STOPPED, stopped, other / files.STOPPED, lambda trial: _after_stop(store, trial, weights)),
        ]
        found = {}
        for name, source, replacement, probe in probes:
            cases = list(_cases((source / name).read_bytes(), replacement.read_bytes(), flips, chance))
            outcomes: Counter[str] = Counter()
            with progress_bar(f"{name} damaged") as progress:
                for number, case in enumerate(cases, start=1):
                    trial = _copy(source, folder / "trial", name, case.content())
                    outcomes[f"{case.kind}: {_outcome(probe, trial)}"] += 1
                    shutil.rmtree(trial)
                    progress(number, len(cases))
            found["newest checkpoint" if name == newest else name] = dict(sorted(outcomes.items()))
        found["all checkpoints"] = {f"blanked: {_all_lost(store, whole, folder / 'trial', weights)}": 1}
    return found


def _cases(content: bytes, foreign: bytes, flips: int, chance: random.Random) -> Iterator[Case]:
    """Half of the flips fall anywhere, a quarter each into the first and the last page, where the structure is."""
    size = len(content)
    step = min(PAGE, max(1, size // 64))
    for end in range(0, size, step):
        yield Case("cut off", partial(_replaced, content, end, size, b""))
    ranges = [(0, size)] * (flips // 2) + [(0, min(PAGE, size))] * (flips // 4)
    for start, stop in ranges + [(max(0, size - PAGE), size)] * (flips // 4):
        position = chance.randrange(start, stop)
        flipped = bytes([content[position] ^ 1 << chance.randrange(8)])
        yield Case("bit flipped", partial(_replaced, content, position, position + 1, flipped))
    for start in range(0, size, step):
        page = content[start : start + step]
        if any(page):
            yield Case("page blanked", partial(_replaced, content, start, start + step, bytes(len(page))))
    yield Case("of another trial", lambda: foreign)


def _replaced(content: bytes, start: int, stop: int, other: bytes) -> bytes:
    return content[:start] + other + content[stop:]


def _copy(source: Path, trial: Path, damaged: str, content: bytes) -> Path:
    """A trial whose other files are links to those of `source`; none is ever written in place."""
    trial.mkdir()
    for path in source.iterdir():
        if path.name != damaged:
            (trial / path.name).hardlink_to(path)
    (trial / damaged).write_bytes(content)
    return trial


def _outcome(probe: Callable[[Path], str], trial: Path) -> str:
    try:
        return probe(trial)
    except SatdetError as error:
        return f"refused ({type(error).__name__})"
    except Exception as error:
        return f"{FAILED}{type(error).__name__}: {error}"


def _go_on(store: TileStore, trial: Path, weights: Weights, damaged: str) -> str:
    """Of a damaged newest checkpoint: the one before is taken, and the next report says so."""
    (last,) = _run(store, trial, after_epoch=EPOCHS)
    if not _equal(_weights(trial), weights):
        return f"{FAILED}other weights"
    if last.remarks == (f"{damaged} is damaged; went on from epoch {EPOCHS - 1}",):
        return "the one before was taken, and it was said"
    return f"{FAILED}{last.remarks}"


def _export_again(store: TileStore, trial: Path) -> str:
    """Of a damaged best checkpoint, without its model: the newest one's weights are exported, and it is said."""
    weights = load_model(trial / files.MODEL)[0].state_dict()
    (trial / files.MODEL).unlink()
    (last,) = _run(store, trial, after_epoch=EPOCHS)
    detector, _ = load_model(trial / files.MODEL)
    if last.remarks == (f"{files.BEST} is lost; {files.MODEL} has epoch {EPOCHS} in its place",):
        return "the newest was exported, and it was said"
    return "did no harm" if _equal(detector.state_dict(), weights) and not last.remarks else f"{FAILED}{last.remarks}"


def _open(store: TileStore, trial: Path, whole: Path) -> str:
    """Of a damaged model: it is refused, and made again by its trial."""
    wanted, config = load_model(whole / files.MODEL)
    try:
        detector, found = load_model(trial / files.MODEL)
        outcome = "did no harm" if found == config and _equal(detector.state_dict(), wanted.state_dict()) else ""
    except CheckpointError:
        outcome = "refused, and made again"
    _run(store, trial, after_epoch=EPOCHS)
    if not _equal(load_model(trial / files.MODEL)[0].state_dict(), wanted.state_dict()):
        return f"{FAILED}not made again"
    return outcome or "another trial's, and made again"


def _after_stop(store: TileStore, trial: Path, weights: Weights) -> str:
    """Of a damaged record of a stop: the trial goes on, and says why."""
    first, *more = _run(store, trial, after_epoch=STOPPED_AFTER)
    if not more:
        told = (first.epoch, first.stop_reason, first.stop_detail) == (STOPPED_AFTER, "enough", "it was told to")
        return "did no harm" if told and not first.remarks else f"{FAILED}{first.remarks}"
    if first.remarks != (f"{files.STOPPED} is damaged; the trial goes on after epoch {STOPPED_AFTER}",):
        return f"{FAILED}{first.remarks}"
    return "the trial went on, and it was said" if _equal(_weights(trial), weights) else f"{FAILED}other weights"


def _all_lost(store: TileStore, whole: Path, trial: Path, weights: Weights) -> str:
    _copy(whole, trial, files.BEST, b"")
    for path in files.epoch_files(trial):
        path.unlink()
        path.write_bytes(b"")
    (last,) = _run(store, trial, after_epoch=EPOCHS)
    if not _equal(_weights(trial), weights):
        return f"{FAILED}other weights"
    said = len(last.remarks) == 1 and last.remarks[0].endswith("are damaged; began again from the start")
    return "began again from its seed, and said so" if said else f"{FAILED}{last.remarks}"


def _real_disk(folder: Path) -> dict[str, dict[str, int]]:
    """A trial on a file system that others have filled so far, and on one that turns read-only after an epoch."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        return {"real file system": {"skipped: this process may not mount": 1}}
    try:
        store = TileStore.open(folder / "store")
        with tiny_detectors(DISK_BALLAST):
            _run(store, folder / "elsewhere")
            weights = _weights(folder / "elsewhere")
            full = Counter(_fill(store, disk, megabytes, weights) for megabytes in OTHERS_MEGABYTES)
            read_only = Counter(_turn_read_only(store, disk, epoch, weights) for epoch in range(1, EPOCHS))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    return {"file system that fills up": dict(sorted(full.items())), "that turns read-only": dict(read_only)}


def _fill(store: TileStore, disk: Path, megabytes: int, weights: Weights) -> str:
    trial, other = disk / "trial", disk / "other"
    other.write_bytes(bytes(megabytes * 1_000_000))
    lost = False
    try:
        _run(store, trial, storage_patience=0.01)
    except StorageLostError:
        lost = True
    other.unlink()
    return _came_back(store, trial, weights) if lost else _had_room(trial, weights)


def _turn_read_only(store: TileStore, disk: Path, epochs: int, weights: Weights) -> str:
    trial = disk / "trial"
    running = train(TRIAL, store, trial, seed=1, device="cpu", storage_patience=0.01)
    for _ in range(epochs):
        next(running)
    lost = False
    while subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode:
        pass  # a checkpoint is open for writing
    try:
        for _ in running:
            pass
    except StorageLostError:
        lost = True
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    return _came_back(store, trial, weights) if lost else _had_room(trial, weights)


def _came_back(store: TileStore, trial: Path, weights: Weights) -> str:
    """What became of a trial whose storage was lost, with room again: its last checkpoint is whole, and it goes on."""
    path, _, damaged = files.newest_epoch(trial)
    last = _run(store, trial)[-1]
    same = last.stop_reason == "completed" and _equal(_weights(trial), weights)
    left = [path.name for path in trial.glob(".*")]
    shutil.rmtree(trial)
    if damaged or left or not same:
        return f"{FAILED}{damaged or left or 'other weights'}"
    return f"lost with {'no' if path is None else files.epoch_of(path)} epochs, went on when it was back"


def _had_room(trial: Path, weights: Weights) -> str:
    same = _equal(_weights(trial), weights)
    shutil.rmtree(trial)
    return "there was room enough" if same else f"{FAILED}other weights"


def _run(store: TileStore, trial: Path, **options: Any) -> list[EpochReport]:
    settings: dict[str, Any] = {"seed": 1, "device": "cpu"} | options
    return list(train(TRIAL, store, trial, **settings))


def _weights(trial: Path) -> Weights:
    weights: Weights = files.newest_epoch(trial)[1]["learner"]["model"]
    return weights


def _equal(some: Weights, others: Weights) -> bool:
    return some.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in some.items())


if __name__ == "__main__":
    sys.exit(main())
