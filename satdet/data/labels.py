"""The curator's labels: a CSV file of ``frame``, ``labels`` (separated by ``;``, ``|`` or ``,``) and ``note``."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from satdet._fields import unknown_name
from satdet.errors import DataError

FRAME_ENDINGS = (".fits.gz", ".fits.fz", ".fits.bz2", ".fits")
"""File names of frames end like this; what is before it is the frame's name."""

KNOWN_LABELS = (
    "OK", "ESO", "COMET", "TRACE", "GALAXY", "BINARY", "LIGHT",
    "FRINGES", "AMPLIFIER", "GRADIENT", "DUPLICATE", "CATALOGUE",
)  # fmt: skip
"""The report's labels, then the defects that it describes. Others are taken too, but said to be unknown."""

_MOST_BYTES = 64 * 1024**2
"""A line a frame; no survey has so many."""
_SEPARATORS = re.compile(r"[;|,]")


def frame_name(file_name: str) -> str:
    """The name of a frame: its file's name without folder and ending."""
    name = file_name.strip().replace("\\", "/").rpartition("/")[2]
    for ending in FRAME_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


@dataclass(frozen=True)
class Curation:
    """What a curator wrote about a frame."""

    labels: tuple[str, ...] = ()
    note: str = ""


def read_curation(path: Path) -> dict[str, Curation]:
    """Labels and notes by the frame's name; frames may be listed with or without their file's ending.

    Raises
    ------
    DataError
        If the file is unreadable or too large, lacks a column, or lists a frame twice, or a row has too many cells.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise DataError(f"{path}: {size} bytes, more than {_MOST_BYTES}; no label file is so large")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"frame", "labels"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(
                    f"{path}: no column {', '.join(sorted(missing))}; its first line is to name frame,labels"
                )
            curation: dict[str, Curation] = {}
            for row in reader:
                name, where = frame_name(row["frame"] or ""), f"{path} line {reader.line_num}"
                if name in curation:
                    raise DataError(f"{where}: frame {name} is listed twice")
                surplus = row.pop(None, [])  # commas in a note that nobody put in quotes
                if surplus and (reader.fieldnames or [""])[-1] != "note":
                    raise DataError(f"{where}: more cells than columns; put labels in quotes, or separate them with ;")
                labels = (label.strip() for label in _SEPARATORS.split(row["labels"] or ""))
                note = ",".join([row.get("note") or "", *surplus]).strip()
                curation[name] = Curation(tuple(filter(None, labels)), note)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the label file cannot be read ({error})") from error
    return curation


def read_labels(path: Path) -> dict[str, tuple[str, ...]]:
    """The labels alone; otherwise like `read_curation`."""
    return {name: curation.labels for name, curation in read_curation(path).items()}


def unknown_labels(curation: Iterable[Curation]) -> list[str]:
    """A line for every label that is none of `KNOWN_LABELS`: how often it is given, and which may have been meant."""
    given = Counter(label for each in curation for label in each.labels if label not in KNOWN_LABELS)
    return [f"{count} frames: {unknown_name('label', label, KNOWN_LABELS)}" for label, count in sorted(given.items())]


def unaccepted(labels: Collection[str], accepted: Collection[str]) -> list[str]:
    """The labels for which a frame is excluded."""
    return [label for label in labels if label not in accepted]
