"""The pictures of ``docs/detector.md``.

    python -m benchmarks.detector_pictures --checkpoint MODEL [--out docs/images]

Draws a frame of the test split with its catalogue and what the model finds, a tile under each augmentation, the worst
failures, completeness, the data of the survey, and frames with suggested labels. MODEL is what
``python -m benchmarks.from_scratch --model`` leaves.
"""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.from_scratch import prepare_tiles
from satdet.config import AugmentationConfig
from satdet.curation.review import Review, review_folder
from satdet.data.augmentation import Augmentation, Sample
from satdet.data.labels import read_curation
from satdet.data.normalisation import to_signal
from satdet.data.store import TileStore
from satdet.describe import collect, draw_figures
from satdet.evaluate.__main__ import main as evaluate
from satdet.pictures import TilePicture, draw_detections
from satdet.predict.__main__ import main as predict

CHANGES: dict[str, dict[str, Any]] = {
    "orientation: rotations": {"orientation": "rotations"},
    "orientation: dihedral": {"orientation": "dihedral"},
    "zoom 1.5, smaller": {"zoom": 1.5},
    "zoom 1.5, larger": {"zoom": 1.5},
    "crop 64": {"crop": 64},
    "noise 2": {"noise": 2.0},
    "sky 1": {"sky": 1.0},
}
_SEEDS = {"orientation: rotations": 3, "zoom 1.5, smaller": 3, "zoom 1.5, larger": 4}
_SHOWN = ("ESO", "TRACE", "AMPLIFIER", "GRADIENT", "LIGHT", "CATALOGUE")
_LOOKED_THROUGH = 200
_COLOURS = 128
_CUT = 900


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detector_pictures", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="MODEL")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="where the survey and its tiles are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args(arguments)
    source, store = prepare_tiles(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    draw_augmentations(store, options.out / "augmentation.png")
    draw_suggestions(source, options.out / "suggestions.png")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        draw_figures(collect(store), made)
        frame = next(each["path"] for each in store.manifest["frames"] if each["split"] == "test")
        command = ["--checkpoint", str(options.checkpoint)]
        status = predict([str(source / frame), *command, "--out", str(made / "frame")])
        status = status or evaluate([*command, "--tiles", str(store.path), "--out", str(made), "--failures", "4"])
        if status != 0:
            return status
        _cut_out(next((made / "frame").glob("*.png")), options.out / "frame.png")
        for name in ("box_areas", "completeness", "predictions_minus_objects", "missed", "merged", "false"):
            if (made / f"{name}.png").exists():
                shutil.copyfile(made / f"{name}.png", options.out / f"{name}.png")
    return 0


def draw_augmentations(store: TileStore, path: Path) -> None:
    """One training tile as it is, and under each change alone."""
    split = store.split("train", empty_tiles=False)
    position = max(range(_LOOKED_THROUGH), key=lambda each: len(split.boxes(each)))
    sample = Sample(to_signal(split.image(position)), split.boxes(position), split.ignored(position))
    pictures = [_picture("as it is", sample)]
    for title, values in CHANGES.items():
        augmentation = Augmentation(AugmentationConfig(**{"orientation": "none", **values}), min_visible=0.4)
        pictures.append(_picture(title, augmentation(sample, seed=_SEEDS.get(title, 2))))
    draw_detections(path, pictures)


def draw_suggestions(source: Path, path: Path) -> None:
    """The first frame for which each label alone is suggested, marked as on the contact sheet."""
    reviews = review_folder(source, read_curation(source / "labels.csv"))
    only = {label: [each for each in reviews if [s.label for s in each.suggestions] == [label]] for label in _SHOWN}
    tiles = [_captioned(found[0]) for found in only.values() if found]
    columns = 3
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    _save(sheet, path)


def _captioned(review: Review) -> Image.Image:
    with Image.open(io.BytesIO(review.picture)) as picture:
        tile = Image.new("RGB", (picture.width + 8, picture.height + 34), "white")
        tile.paste(picture, (4, 30))
    suggestion = review.suggestions[0]
    ImageDraw.Draw(tile).multiline_text((4, 2), f"{suggestion.label}\n{suggestion.reason}", fill="black", spacing=1)
    return tile


def _picture(title: str, sample: Sample) -> TilePicture:
    nothing = np.empty((0, 4))
    return TilePicture(image=sample.pixels, truth=sample.boxes, detections=nothing, scores=nothing[:, 0], title=title)


def _cut_out(path: Path, target: Path) -> None:
    """The middle of a picture: shrunk, its lines would lose their colours."""
    with Image.open(path) as picture:
        left, top = ((length - _CUT) // 2 for length in picture.size)
        part = picture.convert("RGB").crop((left, top, left + _CUT, top + _CUT))
    _save(part, target)


def _save(picture: Image.Image, path: Path) -> None:
    picture.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
