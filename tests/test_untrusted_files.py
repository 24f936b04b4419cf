"""Files from elsewhere: what is made to run code, to fill memory or to write elsewhere is refused in one line."""

import ast
import gzip
import hashlib
import io
import os
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from satdet.data.catalogues import COLUMNS, read_catalogue
from satdet.data.fits_files import read_image
from satdet.data.labels import read_curation
from satdet.detector.loading import read_source
from satdet.errors import CatalogueError, CheckpointError, DataError, FrameError, WeightsError
from satdet.training import files
from satdet.training.export import open_model
from tests.site import ROOT

PACKAGES = ("satdet", "experiments", "search_spaces", "benchmarks", "cluster")


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self._mark),)


def pickled(path: Path, mark: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(3)}, "format": 1, "extra": Evil(mark)}, path)


def pickled_as_before_2020(path: Path, mark: Path) -> None:
    torch.save({"weight": torch.zeros(3), "extra": Evil(mark)}, path, _use_new_zipfile_serialization=False)


def pickled_in_a_tar(path: Path, mark: Path) -> None:
    """The oldest of torch's formats, whose parts are unpacked into a folder."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", f"../../../../../../{mark}"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())


def rewritten(path: Path, change) -> None:
    """A file of torch's, its parts written anew by `change`."""
    torch.save({"weight": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        change(archive, next(iter(parts)).partition("/")[0])


def bomb(path: Path, mark: Path) -> None:
    def add(archive, root):
        archive.writestr(f"{root}/data/1", bytes(50_000_000), zipfile.ZIP_DEFLATED)

    rewritten(path, add)


def overlapping_bomb(path: Path, mark: Path) -> None:
    """Many parts that are the same bytes of the file."""

    def add(archive, root):
        archive.writestr(f"{root}/data/1", os.urandom(100_000))
        last = archive.infolist()[-1]
        for number in range(2, 200):
            member = zipfile.ZipInfo(f"{root}/data/{number}")
            member.header_offset, member.CRC = last.header_offset, last.CRC
            member.file_size = member.compress_size = last.file_size
            archive.filelist.append(member)

    rewritten(path, add)


def compressed(path: Path, mark: Path) -> None:
    rewritten(path, lambda archive, root: archive.writestr(f"{root}/x", os.urandom(100), zipfile.ZIP_DEFLATED))


def climbing(path: Path, mark: Path) -> None:
    rewritten(path, lambda archive, root: archive.writestr(f"../../{mark.name}", b"1"))


def absolute(path: Path, mark: Path) -> None:
    rewritten(path, lambda archive, root: archive.writestr(str(mark), b"1"))


MALICIOUS = [pickled, pickled_as_before_2020, pickled_in_a_tar, bomb, overlapping_bomb, compressed, climbing, absolute]
READERS = {
    "checkpoint": (files.read, CheckpointError),
    "weights": (read_source, WeightsError),
    "model": (open_model, CheckpointError),
}


@pytest.mark.parametrize("make", MALICIOUS)
@pytest.mark.parametrize("reader", READERS)
def test_a_malicious_checkpoint_is_refused_and_runs_nothing(tmp_path, make, reader):
    read, error = READERS[reader]
    mark = tmp_path / "mark"
    make(path := tmp_path / "best.pt", mark)
    started = time.monotonic()
    with pytest.raises(error, match=r"best\.pt"):
        read(path)
    assert time.monotonic() - started < 10
    assert not mark.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best.pt"]


def test_the_marks_would_be_made(tmp_path):
    """The check of the check: loaded carelessly, the same file runs its code."""
    pickled(path := tmp_path / "best.pt", tmp_path / "mark")
    torch.load(path, weights_only=False)
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("make", [pickled, bomb, climbing])
def test_a_malicious_checkpoint_under_the_name_of_its_digest_is_refused(tmp_path, make):
    make(path := tmp_path / "new.pt", tmp_path / "mark")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(tmp_path / f"epoch-0001-{digest[:16]}.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        files.newest_epoch(tmp_path)
    assert not (tmp_path / "mark").exists()


HEAD = "".join(f"# {number} {name}\n" for number, name in enumerate(COLUMNS, 1)).encode()
ROW = b"10 10 0.001 2 0.1 0 15\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEAD + b"1" * 200_000 + b"\n", "line 8: longer than"),
        (HEAD + b" 1" * 100_000 + b"\n", "line 8: longer than"),
        (HEAD + b"\n" * 2_100_000, "more than 2000000 lines"),
        (b"\x00\xff\xfe" * 5_000, "no ASCII_HEAD header"),
        (b"\x7fELF" + os.urandom(5_000), "no ASCII_HEAD header"),
        (HEAD + ROW + os.urandom(5_000), "line"),
        (b"# 999999999999 X_IMAGE\n" + ROW, "numbers a column above 9999"),
        (gzip.compress(bytes(200_000_000)), "expands to more than 100 times its size"),
        (gzip.compress(HEAD + ROW * 2_100_000), "more than 2000000 lines"),
        (b"cos\nsystem\n(S'true'\ntR.", "no ASCII_HEAD header"),
    ],
    ids=["line", "cells", "rows", "binary", "program", "garbage", "number", "bomb", "packed rows", "pickle"],
)
def test_a_malicious_catalogue_is_refused(tmp_path, content, expected):
    path = tmp_path / "frame_trl.dat"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(CatalogueError, match=f"frame_trl.dat.*{expected}") as caught:
        read_catalogue(path)
    assert time.monotonic() - started < 20
    assert len(str(caught.value)) < 600


def test_files_too_large_to_be_what_they_are_called_are_not_even_read(tmp_path):
    for name, read, size in (
        ("frame_trl.dat", read_catalogue, 600 * 1024**2),
        ("labels.csv", read_curation, 100 * 1024**2),
        ("frame.fits", read_image, 5 * 1024**3),
    ):
        path = tmp_path / name
        path.touch()
        os.truncate(path, size)  # a hole, which takes no room
        with pytest.raises(DataError, match=f"{name}: {size} bytes, more than"):
            read(path)


def header(*cards: str) -> bytes:
    """Of cards such as ``NAXIS=2``, in whole blocks."""
    pairs = [card.split("=") for card in cards]
    lines = [f"{name:<8}= {value:<20}" if "'" in value else f"{name:<8}= {value:>20}" for name, value in pairs]
    content = "".join(line.ljust(80) for line in (*lines, "END")).encode()
    return content + b" " * (-len(content) % 2880)


def fits_with(cards: int, extension: bool) -> bytes:
    """A small image under a header with so many cards more."""
    more = [f"K{number:07d}={number}" for number in range(cards)]
    image = ("BITPIX=-32", "NAXIS=2", "NAXIS1=8", "NAXIS2=8")
    pixels = np.ones((8, 8), ">f4").tobytes().ljust(2880, b"\0")
    if not extension:
        return header("SIMPLE=T", *image, *more) + pixels
    primary = header("SIMPLE=T", "BITPIX=8", "NAXIS=0")
    return primary + header("XTENSION='IMAGE   '", *image, "PCOUNT=0", "GCOUNT=1", *more) + pixels


@pytest.mark.parametrize("extension", [False, True])
def test_an_endless_header_is_refused_and_a_long_one_read(tmp_path, extension):
    path = tmp_path / "frame.fits"
    path.write_bytes(fits_with(20_000, extension))
    assert read_image(path)[1].shape == (8, 8)
    path.write_bytes(fits_with(40_000, extension))
    with pytest.raises(FrameError, match="a header of more than 36000 cards"):
        read_image(path)


FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "xmlrpc", "telnetlib"}
FORBIDDEN_CALLS = {
    "eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all",
    "shutil.unpack_archive", "pandas.read_pickle", "torch.serialization.add_safe_globals",
}  # fmt: skip
SAFE_ONLY_WITH = {
    "torch.load": ("weights_only", True),
    "torch.hub.load_state_dict_from_url": ("weights_only", True),
}


def unsafe(tree: ast.Module) -> list[str]:
    """What in a module could run code that a file brings along."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            found += [f"import {name}" for name in names if name.partition(".")[0] in FORBIDDEN_IMPORTS]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {
            each.arg: ast.literal_eval(each.value) for each in node.keywords if isinstance(each.value, ast.Constant)
        }
        needed = SAFE_ONLY_WITH.get(name)
        careless = needed is not None and given.get(needed[0]) != needed[1]
        careless |= given.get("allow_pickle") is True or given.get("shell") is True
        unpacks = name.rpartition(".")[2] in ("extractall", "extract") and name != "sep.extract"
        careless |= unpacks or name in FORBIDDEN_CALLS
        if careless:
            found.append(f"line {node.lineno}: {ast.unparse(node)[:60]}")
    return found


def test_nothing_in_the_packages_loads_a_file_carelessly():
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 150
    found = {str(path.relative_to(ROOT)): unsafe(ast.parse(path.read_text())) for path in modules}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "torch.load(path)", "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader)", "np.load(path, allow_pickle=True)", "archive.extractall(folder)", "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)  # fmt: skip
def test_what_is_careless_is_found(line):
    assert unsafe(ast.parse(line))
