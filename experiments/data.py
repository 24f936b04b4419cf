"""The frames of a search, and the tile stores that its trials read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.paths import StoragePaths
from experiments.resources import machine
from satdet._cli import progress_bar
from satdet.config import ConfigError, TilesConfig, TrialConfig, digest
from satdet.data.store import SPLITS, TileStore
from satdet.errors import StorageError
from search_spaces.declare import SimulatedSurvey

_REASONS_SHOWN = 5


@dataclass(frozen=True)
class SearchData:
    """Stores by the digest of the tiles configuration they were made for."""

    source: Path
    stores: dict[str, TileStore]

    def store(self, tiles: TilesConfig) -> TileStore:
        """The store of a trial."""
        return self.stores[digest(tiles)]

    def to_json(self) -> dict[str, Any]:
        """What identifies the data in a record: where it came from and the hash of all that trials read."""
        contents = sorted(store.digest for store in self.stores.values())
        whole = hashlib.sha256("".join(contents).encode()).hexdigest()[:16]
        return {"source": str(self.source), "digest": whole}


def survey_path(storage: StoragePaths, survey: SimulatedSurvey) -> Path:
    """Folder of the simulated survey."""
    return storage.data / f"simulated-{survey.size}px-{survey.frames}-seed{survey.seed}"


def prepare_data(
    storage: StoragePaths,
    configs: Iterable[TrialConfig],
    survey: SimulatedSurvey,
    *,
    data: str | None,
    labels: str | None,
) -> SearchData:
    """Make (or find) the store of every tiles configuration among `configs`.

    Raises
    ------
    DataError
        If the frames cannot be used.
    """
    from satdet.data.ingest import prepare, store_path

    source = _simulated(survey_path(storage, survey), survey) if data is None else Path(data).expanduser().resolve()
    label_file = Path(labels).expanduser().resolve() if labels else None
    stores = {}
    for tiles in {digest(config.tiles): config.tiles for config in configs}.values():
        out = store_path(storage.data, source, tiles, label_file)
        with progress_bar("preparing frames") as progress:
            stores[digest(tiles)] = prepare(source, tiles, out, labels=label_file, progress=progress)
    return SearchData(source, stores)


def send_data(storage: StoragePaths, data: SearchData) -> None:
    """Have the tile stores in the object store that the storage is in, each once, by its content.

    Raises
    ------
    StorageError
        If it does not take them.
    """
    from satdet.data.integrity import FILES

    if storage.remote is None:
        return
    for store in data.stores.values():
        objects = storage.remote.objects(stored_key(store))
        try:
            if FILES[0] in objects.listing():
                continue
            for name in reversed(FILES):  # the manifest last: where it is, all is
                objects.upload(store.path / name, name)
        except OSError as error:
            raise StorageError(f"{objects}: tiles cannot be sent there ({error.strerror})") from None


def stored_key(store: TileStore) -> str:
    """Where a tile store is in an object store."""
    return f"data/tiles/{store.content_digest}"


def data_lines(data: SearchData) -> list[str]:
    """What the search reads, and what was left out of it and why, for the screen."""
    lines = [f"data: {data.source}"]
    for store in data.stores.values():
        counts, frames = store.manifest["counts"], store.manifest["frames"]
        states = ", ".join(f"{count} {state}" for state, count in counts["frames"].items() if count)
        tiles = ", ".join(f"{counts[split]['tiles']} {split}" for split in SPLITS)
        lines.append(f"  frames: {states}; tiles of {store.tile_size} px: {tiles}")
        lines += [f"  warning: {warning}" for warning in store.manifest["warnings"]]
        reasons = [entry["reason"] for entry in frames if entry["state"] == "rejected"]
        lines += [f"  rejected: {reason}" for reason in reasons[:_REASONS_SHOWN]]
        if len(reasons) > _REASONS_SHOWN:
            lines.append(f"  rejected: {len(reasons) - _REASONS_SHOWN} more, see {store.path / 'manifest.json'}")
    return lines


def check_batches(configs: Iterable[TrialConfig], data: SearchData, workers: int = 1) -> None:
    """Refuse a batch that is larger than its epoch, or has no tile for a worker, before anything starts.

    Raises
    ------
    ConfigError
        Naming the batch and the tiles or workers there are.
    """
    for config in configs:
        training = config.training
        tiles = len(data.store(config.tiles).split("train", empty_tiles=training.empty_tiles))
        epoch = min(tiles, training.tiles_per_epoch or tiles)
        if training.batch_size < workers:
            raise ConfigError(
                f"training.batch_size = {training.batch_size} cannot be divided between {workers} workers; it is the"
                " whole batch's, whatever their number"
            )
        if training.batch_size > epoch:
            raise ConfigError(
                f"training.batch_size = {training.batch_size} is larger than an epoch of {epoch} tiles"
                f" ({tiles} training tiles in {data.store(config.tiles).path})"
            )


def _simulated(folder: Path, survey: SimulatedSurvey) -> Path:
    """Draw the survey's frames that are not there yet."""
    from satdet.simulate import simulate_survey

    with progress_bar("simulating frames") as progress:
        simulate_survey(
            folder,
            frames=survey.frames,
            seed=survey.seed,
            size=survey.size,
            workers=machine().cpus,
            progress=progress,
        )
    return folder
