"""Copies of tile stores on a node's own disk: whole or not there, made once, never more than they may be."""

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from experiments import mounts, tile_cache
from experiments.options import build_parser, options_of
from experiments.tile_cache import TileCache, near_store, parse_tile_cache
from experiments.trainable import TrialOrder
from satdet.config import ConfigError
from satdet.data.integrity import FILES, check_content
from satdet.data.store import TileStore
from satdet.errors import TileStoreError
from tests.site import ROOT
from tests.tiny import tiny_store


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch):
    """As in a process that has checked no copy yet."""
    monkeypatch.setattr(tile_cache, "_checked", set())


@pytest.fixture
def store(tmp_path):
    return tiny_store(tmp_path / "shared" / "store")


@pytest.fixture
def cache(tmp_path):
    return TileCache(str(tmp_path / "node"))


def other_store(store, name):
    """A store of other content, of nearly the same size."""
    path = store.path.with_name(name)
    shutil.copytree(store.path, path)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"frame"', f'"{name}"'))
    return TileStore.open(path)


def read(store, cache):
    """Where the store was read from, and what was said."""
    said = []
    with near_store(store.path, store.content_digest, cache, said.append) as path:
        same = TileStore.open(path)
        np.testing.assert_array_equal(same.split("train").image(3), store.split("train").image(3))
        assert same.manifest == store.manifest
    return path, said


def copies(cache):
    return {path.name for path in Path(cache.directory).iterdir() if path.is_dir()}


def test_a_store_is_copied_once_and_read_from_there(store, cache, monkeypatch):
    near = Path(cache.directory) / store.content_digest
    assert read(store, cache) == (near, [])
    assert sorted(path.name for path in near.iterdir()) == sorted(FILES)
    monkeypatch.setattr(tile_cache, "_make_copy", None)
    assert read(store, cache) == (near, [])
    tile_cache._checked.clear()
    assert read(store, cache) == (near, [])


def test_a_copy_that_takes_long_is_told_of(store, cache, monkeypatch):
    monkeypatch.setattr(tile_cache, "_LONG_SECONDS", 0.0)
    assert read(store, cache)[1] == [f"0 MB of tiles were copied to {cache.directory} in 0 s"]
    assert read(store, cache)[1] == []


def test_without_a_cache_or_where_the_storage_is_local_nothing_is_copied(store, monkeypatch):
    monkeypatch.setattr(tile_cache, "_make_copy", None)
    assert read(store, None) == (store.path, [])
    assert read(store, TileCache()) == (store.path, [])


def test_a_network_storage_is_copied_to_a_folder_of_ones_own(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tile_cache, "is_remote", lambda path: path == store.path)
    monkeypatch.setattr(mounts, "_LOCAL", tmp_path)
    folder = tmp_path / f"satdet-tiles-{os.getuid()}"
    assert read(store, TileCache()) == (folder / store.content_digest, [])
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    path, said = read(store, TileCache())
    assert path == store.path
    assert said == [f"tiles are read from {store.path}: {folder} can be written by others; name a folder of your own"
                    " with --tile-cache"]  # fmt: skip
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert read(store, TileCache())[0] == store.path
    folder.unlink()
    monkeypatch.setattr(tile_cache, "is_own_disk", lambda path: False)
    assert "is not on a disk of this node" in read(store, TileCache())[1][0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_copy_is_found_and_copied_anew(store, cache, name, damage):
    near, _ = read(store, cache)
    whole = {file.name: file.read_bytes() for file in near.iterdir()}
    file, content = near / name, bytearray(whole[name])
    if damage == "remove":
        file.unlink()
    else:
        content[-1] ^= 1
        file.write_bytes(content[:-3] if damage == "truncate" else content)
    tile_cache._checked.clear()
    with pytest.raises(TileStoreError):
        check_content(near, store.content_digest)
    assert read(store, cache) == (near, [])
    assert {file.name: file.read_bytes() for file in near.iterdir()} == whole


def test_a_damaged_store_is_not_handed_on_by_its_copy(store, cache):
    with (store.path / "tiles.f16").open("r+b") as tiles:
        tiles.seek(100)
        tiles.write(b"\xff\xff")
    with pytest.raises(TileStoreError, match=f"{store.path}: damaged tiles or boxes"):
        read(store, cache)
    assert copies(cache) == set()


def test_a_copy_that_does_not_stay_the_same_is_not_used(store, cache, monkeypatch):
    def bad_disk(source, target):
        content = source.read_bytes()
        target.write_bytes(bytes(len(content)) if target.name == "tiles.f16" else content)

    monkeypatch.setattr(tile_cache.shutil, "copyfile", bad_disk)
    path, said = read(store, cache)
    assert path == store.path and "does not stay the same; see to that disk" in said[0]
    assert copies(cache) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_is_done_without(store, cache, monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(tile_cache.shutil, "copyfile", refuse)
    path, said = read(store, cache)
    assert path == store.path and os.strerror(number) in said[0] and len(said) == 1
    assert copies(cache) == set()


def test_an_error_of_the_reader_is_his_own(store, cache):
    said = []
    with pytest.raises(OSError, match="mine"), near_store(store.path, store.content_digest, cache, said.append):
        raise OSError(errno.EIO, "mine")
    assert said == []


def test_the_longest_unused_copies_make_room_but_none_that_is_read(store, cache):
    stores = [store, *(other_store(store, name) for name in ("second", "third_", "fourth"))]
    size = max(sum(file.stat().st_size for file in each.path.iterdir()) for each in stores)
    cache = dataclasses.replace(cache, total_bytes=2 * size + 10)
    digests = [each.content_digest for each in stores]
    for each in stores[:2]:
        read(each, cache)
    lock = Path(cache.directory) / f"{digests[1]}.lock"
    os.utime(lock, (time.time() - 100, time.time() - 100))
    read(stores[0], cache)
    read(stores[2], cache)
    assert copies(cache) == {digests[0], digests[2]}
    with ExitStack() as readers:
        for each in (stores[0], stores[2]):
            readers.enter_context(near_store(each.path, each.content_digest, cache, pytest.fail))
        path, said = read(stores[3], cache)
        assert path == stores[3].path and "copies that are in use have" in said[0]
        assert copies(cache) == {digests[0], digests[2]}
    assert read(stores[3], cache) == (Path(cache.directory) / digests[3], [])
    assert len(copies(cache)) == 2


def test_what_is_larger_than_the_cache_is_not_copied(store, cache):
    read(other_store(store, "second"), cache)
    before = copies(cache)
    path, said = read(store, dataclasses.replace(cache, total_bytes=1000))
    assert path == store.path and "more than the 0 MB of --tile-cache" in said[0]
    assert copies(cache) == before


def test_a_disk_that_is_nearly_full_is_left_alone(store, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(tile_cache.shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**9, 10**9))
    path, said = read(store, cache)
    assert path == store.path and f"1.0 GB are free in {cache.directory}" in said[0]


COPIER = """
import sys, time
from pathlib import Path
from experiments import tile_cache
from experiments.tile_cache import TileCache, near_store
real = tile_cache.shutil.copyfile
def slow(source, target):
    print("copying", Path(target).name, flush=True)
    real(source, target)
    time.sleep(float(sys.argv[4]))
tile_cache.shutil.copyfile = slow
with near_store(Path(sys.argv[1]), sys.argv[2], TileCache(sys.argv[3]), print) as path:
    print("reads", path, flush=True)
    sys.stdin.read()
"""


def copier(store, cache, pause):
    command = [sys.executable, "-c", COPIER, str(store.path), store.content_digest, cache.directory, str(pause)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_trials_on_a_node_copy_once_and_a_killed_one_leaves_nothing_that_is_read(store, cache):
    near = Path(cache.directory) / store.content_digest
    killed = copier(store, cache, 60)
    assert killed.stdout.readline() == "copying manifest.json\n"
    killed.kill()
    killed.communicate()
    assert copies(cache) == {f"{store.content_digest}.partial"}
    both = [copier(store, cache, 0.1) for _ in range(2)]
    lines = [[], []]
    for said, process in zip(lines, both, strict=True):
        while not any(line.startswith("reads") for line in said):
            said.append(process.stdout.readline())
            assert said[-1], said
    assert sorted(len(said) for said in lines) == [1, 1 + len(FILES)]
    assert lines[0][-1] == lines[1][-1] == f"reads {near}\n"
    assert copies(cache) == {near.name}
    assert not tile_cache._remove(near)
    for process in both:
        process.communicate(timeout=60)
    assert tile_cache._remove(near) and copies(cache) == set()


def test_a_trial_reads_the_copy(store, cache):
    order = TrialOrder(
        trial_id="t0000", config={}, seed=0, directory="d", store=str(store.path), stoppers=[], threads=1,
        store_digest=store.content_digest, tile_cache=cache.to_json(),
    )  # fmt: skip
    with TrialOrder(**order.to_json()).tiles(pytest.fail) as near:
        assert near.path == Path(cache.directory) / store.content_digest
    with dataclasses.replace(order, tile_cache=None).tiles(pytest.fail) as near:
        assert near.path == store.path


@pytest.mark.parametrize(
    ("text", "cache"),
    [
        ("off", None),
        ("/scratch/tiles", TileCache("/scratch/tiles", 50 * 10**9)),
        ("/scratch/tiles,1.5TB", TileCache("/scratch/tiles", 15 * 10**11)),
        ("~/a,b,20GB", TileCache("~/a,b", 20 * 10**9)),
        ("20GB", TileCache(None, 20 * 10**9)),
    ],
)
def test_the_flag_is_read(text, cache):
    assert parse_tile_cache(text) == cache
    assert options_of(build_parser().parse_args(["x", "--tile-cache", text])).tile_cache == cache


@pytest.mark.parametrize("text", ["", ",20GB", "/scratch,0GB", " "])
def test_a_wrong_flag_is_refused(text):
    with pytest.raises(ConfigError, match="is not like /scratch/tiles"):
        parse_tile_cache(text)


def test_without_the_flag_only_network_storages_are_copied():
    assert options_of(build_parser().parse_args(["x"])).tile_cache == TileCache(None, 50 * 10**9)


MOUNTS = r"""/dev/vda / ext4 rw 0 0
tmpfs /var/tmp tmpfs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb /home/local\040disk xfs rw 0 0
gcsfuse /home/bucket fuse.gcsfuse rw 0 0
overlay /over fuse.fuse-overlayfs rw 0 0
/dev/sdc /twice ext4 rw 0 0
server:/t /twice nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "remote", "own"),
    [
        ("/data", False, True),
        ("/homeless", False, True),
        ("/home/me/runs", True, False),
        ("/home/local disk/runs", False, True),
        ("/home/bucket/runs", True, False),
        ("/var/tmp/tiles", False, False),
        ("/over/runs", False, True),
        ("/twice", True, False),
    ],
)
def test_whose_disk_it_is_is_told_from_the_mounts(path, remote, own, tmp_path, monkeypatch):
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(MOUNTS)
    assert (mounts.is_remote(Path(path)), mounts.is_own_disk(Path(path))) == (remote, own)
    (tmp_path / "mounts").unlink()
    assert not mounts.is_remote(Path(path))
