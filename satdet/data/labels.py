"""The curator's labels: a CSV file with the columns ``frame`` and ``labels``, the latter separated by ``;``."""

import csv
from collections.abc import Collection
from pathlib import Path

from satdet.errors import DataError

FRAME_ENDINGS = (".fits.gz", ".fits.fz", ".fits.bz2", ".fits")
"""File names of frames end like this; what is before it is the frame's name."""

KNOWN_LABELS = (
    "OK", "ESO", "COMET", "TRACE", "GALAXY", "BINARY", "LIGHT",
    "FRINGES", "AMPLIFIER", "GRADIENT", "DUPLICATE", "CATALOGUE",
)  # fmt: skip
"""The report's labels, then the defects that it describes. Others are taken too, but said to be unknown."""


def frame_name(file_name: str) -> str:
    """The name of a frame: its file's name without folder and ending."""
    name = file_name.strip().replace("\\", "/").rpartition("/")[2]
    for ending in FRAME_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def read_labels(path: Path) -> dict[str, tuple[str, ...]]:
    """Labels by the frame's name; frames may be listed with or without their file's ending.

    Raises
    ------
    DataError
        If the file is unreadable, lacks a column, or lists a frame twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"frame", "labels"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(
                    f"{path}: no column {', '.join(sorted(missing))}; its first line is to name frame,labels"
                )
            labels: dict[str, tuple[str, ...]] = {}
            for row in reader:
                name = frame_name(row["frame"] or "")
                if name in labels:
                    raise DataError(f"{path} line {reader.line_num}: frame {name} is listed twice")
                labels[name] = tuple(label.strip() for label in (row["labels"] or "").split(";") if label.strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the label file cannot be read ({error})") from error
    return labels


def unaccepted(labels: Collection[str], accepted: Collection[str]) -> list[str]:
    """The labels for which a frame is excluded."""
    return [label for label in labels if label not in accepted]
