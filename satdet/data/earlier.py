"""What earlier stores say: on which side of the split a frame was, so that it stays there."""

import json
from pathlib import Path

from satdet.config import TilesConfig, flatten
from satdet.data.splits import Record
from satdet.data.store import SplitName

_DECIDING = ("group", "split_seed", "train_share", "validation_share")


def earlier_sides(out: Path, source: Path, config: TilesConfig) -> dict[str, SplitName]:
    """The sides of frames of `source` by their keys, from the store at `out`, then from those beside it, by name.

    Only stores that were split by the same rule count; tiles of another size, or other boxes, make no difference. So
    all stores of a search over such values are split alike, too.
    """
    beside = out.parent.iterdir() if out.parent.is_dir() else ()
    wanted = flatten(config)
    sides: dict[str, SplitName] = {}
    for folder in (out, *sorted(beside)):
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            same_rule = all(manifest["config"][key] == wanted[key] for key in _DECIDING)
            known: Record = manifest["sides"] if same_rule and manifest["source"] == str(source.resolve()) else {}
            sides = {**known, **sides}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sides
