"""A storage in an object store, by the S3 protocol: objects, mirrored folders, the record, the lock, the data."""

import errno
import json
import os
from contextlib import ExitStack
from dataclasses import replace

import pytest

from experiments import lock, mirror, node_proof
from experiments.commands import no_search
from experiments.copies import bring_record
from experiments.data import SearchData, send_data, stored_key
from experiments.keeping import CheckpointCap
from experiments.lock import Driver, ObjectSign, sole_driver
from experiments.mirror import Mirror
from experiments.models import export_missing_models, lost_models
from experiments.node_proof import open_proof, prove, prove_here
from experiments.objects import ObjectStore, checked_uri
from experiments.opening import archive, earlier_state
from experiments.options import build_parser, options_of
from experiments.paths import storage_paths
from experiments.record import Record, read_record
from experiments.remote import SCRATCH, RemoteRecord
from experiments.state import SearchState
from experiments.summary import write_summary
from experiments.tile_cache import TileCache, near_store
from satdet.config import digest
from satdet.errors import NodeError, StorageError, StorageLostError, TileStoreError, UsageError
from tests.fault_proxy import Fault, FaultProxy
from tests.object_server import BUCKET, environment, object_server
from tests.searches import BY_ASHA, COMPLETED, begin, report, suggest
from tests.tiny import CONFIG, tiny_store


@pytest.fixture(scope="module")
def port():
    with object_server() as port:
        yield port


@pytest.fixture
def proxy(port):
    with ExitStack() as open_proxies:
        proxy = FaultProxy(port)
        open_proxies.callback(proxy.down)
        yield proxy


@pytest.fixture
def uri(proxy, tmp_path, monkeypatch, request):
    """An address of its own for each test, on this machine."""
    for name, value in environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "scratch"))
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def store(uri):
    return ObjectStore(uri)


@pytest.fixture
def search(uri):
    return storage_paths(uri).search("backbone_ablation")


def recorded(search, **settings):
    """The record of a made-up search, there and here."""
    remote = RemoteRecord(search.remote.objects(search.name))
    return begin(search.record, remote=remote, **settings)


# ---- objects


def test_objects_are_made_replaced_listed_copied_and_removed(store, tmp_path):
    store.create("a/one", b"1")
    store.write("a/one", b"11")
    (tmp_path / "file").write_bytes(b"222")
    store.upload(tmp_path / "file", "a/two")
    store.copy("a/two", "b/three")
    assert {key: each.size for key, each in store.listing().items()} == {"a/one": 2, "a/two": 3, "b/three": 3}
    assert list(store.listing("b")) == ["b/three"]
    assert store.folders() == ["a", "b"]
    assert store.under("b").read("three") == b"222"
    store.download("a/one", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"11"
    store.remove(["a/one", "a/nothing", "a/two"])
    assert list(store.listing()) == ["b/three"]


def test_an_object_is_made_once(store):
    store.create("a", b"1")
    with pytest.raises(FileExistsError):
        store.create("a", b"2")
    assert store.read("a") == b"1"


def test_errors_are_those_of_files(store, proxy, uri, monkeypatch):
    with pytest.raises(FileNotFoundError) as missing:
        store.read("nothing")
    assert missing.value.filename == f"{uri}/nothing"
    with pytest.raises(FileNotFoundError, match="The specified bucket does not exist"):
        ObjectStore("s3://no-such-bucket/a").write("a", b"")
    with proxy.having(Fault("status", 403)), pytest.raises(PermissionError):
        store.write("a", b"")
    proxy.down()
    with pytest.raises(OSError, match="error sending request") as away:
        store.write("a", b"")
    assert away.value.errno == errno.EREMOTEIO
    assert "\n" not in str(away.value)


def test_a_request_that_fails_once_is_made_again(store, proxy):
    with proxy.having(Fault("status", 503, times=1)):
        store.write("a", b"1")
    assert store.read("a") == b"1"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/x", "ftp://…: not a folder, nor like s3://bucket/prefix, gs://bucket/prefix"),
        ("s3://key:secret@bucket/x", "s3://…: an address is bucket and prefix alone"),
        ("s3://bucket/x?endpoint=http://a", "an address is bucket and prefix alone"),
        ("s3:///x", "bucket and prefix are made of"),
        ("s3://bucket/a/../b", "bucket and prefix are made of"),
        ("gs://bucket/a b", "bucket and prefix are made of"),
    ],
)
def test_what_is_no_address_of_objects_is_refused_and_no_secret_repeated(uri, said):
    with pytest.raises(UsageError, match=said) as refused:
        options_of(build_parser().parse_args(["backbone_ablation", "--storage", uri]))
    assert "secret" not in str(refused.value)


def test_slashes_at_the_end_make_no_other_storage(uri):
    assert checked_uri(f"{uri}//") == uri
    assert storage_paths(f"{uri}/") == storage_paths(uri)
    assert storage_paths(uri).root != storage_paths(f"{uri}2").root


def test_tiles_need_a_cache():
    with pytest.raises(
        UsageError, match="--tile-cache off: from s3://bucket/x tiles can only be read by way of a copy"
    ):
        options_of(
            build_parser().parse_args(["backbone_ablation", "--storage", "s3://bucket/x", "--tile-cache", "off"])
        )


def test_a_storage_that_cannot_be_used_is_refused_at_once(uri, proxy, monkeypatch):
    storage_paths(uri).make()
    assert ObjectStore(uri).listing() == {}
    monkeypatch.setattr(ObjectStore, "create", ObjectStore.write)
    with pytest.raises(StorageError, match="replaces what it was asked only to create"):
        storage_paths(uri).make()
    proxy.down()
    with pytest.raises(StorageError, match=f"{uri}: the storage cannot be written"):
        storage_paths(uri).make()


# ---- mirrored folders


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "epoch-0001-aa.pt").write_bytes(b"1" * 1000)
    (folder / "best.pt").hardlink_to(folder / "epoch-0001-aa.pt")
    (folder / "stopped.json").write_text("{}")
    (folder / ".epoch-0002.tmp").write_text("half")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_folder_arrives_elsewhere_and_what_it_has_travels_once(store, folder, tmp_path, proxy):
    Mirror(store, folder).send()
    assert sorted(store.listing()) == names(folder)
    assert sum("epoch-0001" in each or "best.pt" in each for each in proxy.requests if each.startswith("PUT")) == 2
    other = Mirror(store, tmp_path / "other")
    other.fetch()
    assert names(other.folder) == names(folder)
    assert (other.folder / "best.pt").read_bytes() == b"1" * 1000
    before = len(proxy.requests)
    other.fetch()
    other.send()
    Mirror(store, folder).send()
    assert len(proxy.requests) == before + 3  # each looks what is there


def test_the_best_is_copied_by_the_store_itself(store, folder, monkeypatch):
    sent = []
    monkeypatch.setattr(ObjectStore, "upload", lambda self, path, key: sent.append(key) or _upload(self, path, key))
    Mirror(store, folder).send()
    assert sorted(sent) == ["epoch-0001-aa.pt", "stopped.json"]
    assert store.read("best.pt") == b"1" * 1000


_upload = ObjectStore.upload


def test_what_is_removed_here_goes_there_and_nothing_else_does(store, folder, tmp_path):
    store.write("of-another", b"x")
    Mirror(store, folder).send()
    (folder / "stopped.json").unlink()
    Mirror(store, folder).send()
    assert sorted(store.listing()) == ["best.pt", "epoch-0001-aa.pt", "of-another"]
    Mirror(store, tmp_path / "never-fetched").send()
    assert sorted(store.listing()) == ["best.pt", "epoch-0001-aa.pt", "of-another"]


def test_what_another_node_has_done_since_replaces_what_is_here(store, folder, tmp_path):
    Mirror(store, folder).send()
    other = Mirror(store, tmp_path / "other")
    other.fetch()
    (other.folder / "epoch-0002-bb.pt").write_bytes(b"2" * 1000)
    (other.folder / "best.pt").unlink()
    (other.folder / "best.pt").hardlink_to(other.folder / "epoch-0002-bb.pt")
    (other.folder / "epoch-0001-aa.pt").unlink()
    (other.folder / "stopped.json").unlink()
    other.send()
    Mirror(store, folder).fetch()
    assert names(folder) == ["best.pt", "epoch-0002-bb.pt"]
    assert (folder / "best.pt").read_bytes() == b"2" * 1000


def test_only_what_is_asked_for_is_fetched(store, folder, tmp_path):
    Mirror(store, folder).send()
    Mirror(store, tmp_path / "some").fetch(["best.pt", "model.pt"])
    assert names(tmp_path / "some") == ["best.pt"]


def test_a_transfer_that_breaks_leaves_nothing_half(store, folder, tmp_path, proxy):
    Mirror(store, folder).send()
    with proxy.having(Fault("truncate", where="best.pt")), pytest.raises(OSError):
        Mirror(store, tmp_path / "other").fetch()
    assert "best.pt" not in names(tmp_path / "other")
    assert [path for path in (tmp_path / "other").iterdir() if path.suffix == ".tmp"] == []
    Mirror(store, tmp_path / "other").fetch()
    assert names(tmp_path / "other") == names(folder)


def test_a_note_of_what_is_known_that_is_damaged_costs_only_time(store, folder):
    Mirror(store, folder).send()
    (folder / mirror._KNOWN).write_text("[1]")
    Mirror(store, folder).fetch()
    assert names(folder) == ["best.pt", "epoch-0001-aa.pt", "stopped.json"]


# ---- the record


def test_a_record_is_there_before_it_is_here_and_the_same_elsewhere(search, tmp_path, monkeypatch):
    with recorded(search) as record:
        trial = suggest(record, 0)
        report(record, trial, 1, 0.5)
        events = list(record.events)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "another-machine"))
    other = storage_paths(search.remote.uri).search(search.name)
    assert other.root != search.root
    bring_record(other)
    assert other.record.read_bytes() == search.record.read_bytes()
    assert read_record(other.record) == events
    assert storage_paths(search.remote.uri).searches() == [search.name]


def test_a_line_that_did_not_arrive_is_not_here_either(search, proxy):
    with recorded(search) as record:
        before = search.record.read_bytes()
        proxy.down()
        record._patience = 0.0
        with pytest.raises(
            StorageLostError, match=f"{search.remote.uri}/{search.name}/record: .*bring it back and resume"
        ):
            record.append("session", host="h", process=2)
        assert search.record.read_bytes() == before


def test_a_store_that_forbids_it_is_left_at_once_and_not_written_again(search, proxy):
    with recorded(search) as record:
        with proxy.having(Fault("status", 403)):
            with pytest.raises(StorageLostError, match="see to its credentials and resume") as lost:
                record.append("session", host="h", process=2)
            with pytest.raises(StorageError, match=r"trials: cannot be used"):
                write_summary(search, SearchState.of(record.events))
        assert record.lost is lost.value
        with pytest.raises(StorageLostError):
            record.append("session", host="h", process=2)


def test_a_store_that_is_away_is_waited_for(search, proxy):
    waited = []

    def pause(seconds, error):
        waited.append(error.errno)
        proxy.up()
        return False

    with recorded(search) as record:
        record._pause = pause
        proxy.down()
        record.append("session", host="h", process=2)
        assert waited == [errno.EREMOTEIO]
    assert read_record(search.record) == record.events


@pytest.mark.parametrize("kind", ["reset", "hang"])
def test_a_line_whose_answer_was_lost_is_there_once(search, proxy, kind, monkeypatch):
    monkeypatch.setattr("experiments.objects._CLIENT", {"timeout": "1s"})
    with recorded(search) as record, proxy.having(Fault(kind, times=1, where="PUT", late=kind == "hang")):
        record.append("session", host="h", process=2)
    bring_record(search)
    assert [event["n"] for event in read_record(search.record)] == [1, 2, 3]


def test_a_driver_that_was_taken_over_cannot_write(search, tmp_path, monkeypatch):
    with recorded(search) as record:
        monkeypatch.setenv(SCRATCH, str(tmp_path / "another-machine"))
        other = storage_paths(search.remote.uri).search(search.name)
        bring_record(other, ours=True)
        with Record(other.record, remote=RemoteRecord(other.remote.objects(other.name))) as theirs:
            theirs.append("session", host="other", process=2)
        before = search.record.read_bytes()
        with pytest.raises(
            StorageError, match="another process has written event 3 of this search, so this one leaves"
        ):
            record.append("session", host="h", process=3)
        assert search.record.read_bytes() == before


def test_a_long_record_is_read_in_one_piece_and_stays_closed_to_others(search, proxy):
    with recorded(search) as record:
        for process in range(120):
            record.append("session", host="h", process=process)
    bring_record(search, ours=True)
    search.record.unlink()
    before = len(proxy.requests)
    bring_record(search)
    assert read_record(search.record) == record.events
    assert len(proxy.requests) - before <= 3
    with pytest.raises(StorageError, match="another process has written event 50"):
        RemoteRecord(search.remote.objects(search.name)).append(50, b"other")
    with Record(search.record, remote=RemoteRecord(search.remote.objects(search.name))) as record:
        record.append("session", host="h", process=1)
    search.record.unlink()
    bring_record(search)
    assert read_record(search.record) == record.events


def test_a_part_that_is_missing_is_an_error(search):
    with recorded(search):
        pass
    search.remote.objects(search.name).remove(["record/0000000001-0000000001.jsonl"])
    with pytest.raises(StorageError, match=r"record/0000000001-0000000001\.jsonl: missing; restore it"):
        bring_record(search)


def test_a_copy_that_is_behind_before_or_of_another_search_is_replaced(search):
    with recorded(search) as record:
        whole = search.record.read_bytes()
        for mine in (whole[:-7], whole + b"more", b"", whole.splitlines(keepends=True)[0]):
            search.record.write_bytes(mine)
            bring_record(search, ours=True)
            assert search.record.read_bytes() == whole
    archived = search.root.parent / "archive"
    search.record.write_bytes(b"")
    with begin(search.root.with_name("x") / "record.jsonl", search_id="other") as other:
        suggest(other, 0)
    search.record.write_bytes(other.path.read_bytes())
    bring_record(search)
    assert search.record.read_bytes() == whole
    assert sum(path.name.startswith("backbone_ablation-other-") for path in archived.iterdir()) == 1
    assert record.events == read_record(search.record)


def test_while_a_driver_here_is_writing_its_copy_is_left_alone(search):
    with recorded(search):
        pass
    with sole_driver(search.lock):
        search.record.write_bytes(b"newer")
        bring_record(search)
        assert search.record.read_bytes() == b"newer"


def test_trials_without_a_record_are_no_search_to_begin_anew(search):
    search.remote.objects(search.name).write("trials/t0000/epoch-0001-aa.pt", b"x")
    with pytest.raises(StorageError, match="there are trials but the beginning of their record"):
        earlier_state(search)


def test_a_fresh_search_moves_the_earlier_one_away(search):
    objects = search.remote.objects(search.name)
    with recorded(search):
        objects.write("trials/t0000/model.pt", b"x")
    archive(storage_paths(search.remote.uri), search, earlier_state(search))
    assert objects.listing() == {}
    moved = search.remote.objects("archive", f"{search.name}-5ea2c4")
    assert "trials/t0000/model.pt" in moved.listing()
    assert len(RemoteRecord(moved).content().splitlines()) == 2
    bring_record(search, ours=True)
    assert not earlier_state(search).header


def test_a_damaged_record_is_moved_away_too(search):
    with recorded(search):
        pass
    objects = search.remote.objects(search.name)
    objects.remove(["record/0000000001-0000000001.jsonl"])
    archive(storage_paths(search.remote.uri), search, earlier_state(search, fresh=True))
    assert objects.listing() == {}
    with recorded(search, search_id="new") as record:
        assert len(record.events) == 2


# ---- the lock


def test_a_second_driver_elsewhere_is_refused_by_host_and_process(search, tmp_path, monkeypatch):
    objects = search.remote.objects(search.name)
    with sole_driver(search.lock, objects):
        here = ObjectSign(objects).read()
        # Of this process as another machine sees it: the kernel there does not know it.
        monkeypatch.setattr(lock, "_kernel", lambda: "another boot")
        with pytest.raises(StorageError, match=f"process {os.getpid()} on {here.host}; stop that one first"):
            sole_driver(tmp_path / "elsewhere", objects).__enter__()
    assert ObjectSign(objects).read() is None
    with sole_driver(tmp_path / "elsewhere", objects):
        pass


def test_a_driver_that_died_elsewhere_is_taken_over(search, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_WATCH_SECONDS", 0.2)
    monkeypatch.setattr(lock, "_LEASE_SECONDS", 0.4)
    objects = search.remote.objects(search.name)
    gone = replace(Driver.this(), host="gone", kernel="another boot")
    ObjectSign(objects).write(gone)
    with sole_driver(search.lock, objects):
        assert "the search was being run by process" in capsys.readouterr().err
        assert ObjectSign(objects).read().host != "gone"


def test_who_was_taken_over_knows(search, monkeypatch):
    objects = search.remote.objects(search.name)
    with sole_driver(search.lock, objects) as ownership:
        other = replace(Driver.this(), host="other")
        ObjectSign(objects).write(other)
        ownership._thread.join(5)
        assert ownership.lost == other
    assert ObjectSign(objects).read() == other


# ---- what is made from it


def test_what_trials_have_there_is_what_the_summary_and_a_resume_go_by(search, tmp_path):
    objects = search.remote.objects(search.name, "trials")
    with recorded(search) as record:
        for number in range(3):
            trial = suggest(record, number)
            report(record, trial, 1, 0.1 * number, BY_ASHA if number else COMPLETED)
        objects.write("t0000/model.pt", b"m" * 10)
        objects.write("t0001/epoch-0001-aa.pt", b"e")
    state = SearchState.of(record.events)
    summary = write_summary(search, state)
    found = [trial["checkpoint"] for trial in summary["trials"]]
    assert found == [f"{search.remote.uri}/{search.name}/trials/t0000/model.pt", None, None]
    assert json.loads(search.remote.objects(search.name).read("summary.json")) == summary
    assert [trial.trial_id for trial in lost_models(state, search)] == ["t0002"]
    export_missing_models(state, search)  # of which there is no whole checkpoint
    assert search.trial_here("t0000") == search.trial("t0000")
    assert (search.trial("t0000") / "model.pt").read_bytes() == b"m" * 10
    assert f"searches in {search.remote.uri}: backbone_ablation" in str(no_search(replace(search, root=tmp_path / "x")))


def test_checkpoints_of_ended_trials_are_capped_the_newest_of_the_best_last(search):
    objects = search.remote.objects(search.name, "trials")
    with recorded(search) as record:
        for number in range(2):
            trial = suggest(record, number)
            report(record, trial, 1, 0.1 * number, COMPLETED)
            for name in ("epoch-0001-aa.pt", "epoch-0002-bb.pt", "best.pt", "model.pt"):
                objects.write(f"{trial}/{name}", b"x" * 100)
        open_trial = suggest(record, 2)
        objects.write(f"{open_trial}/epoch-0001-aa.pt", b"x" * 100)
    state = SearchState.of(record.events)
    assert CheckpointCap(search, 500, print).enforce(state) == 200
    assert "t0000/epoch-0002-bb.pt" in objects.listing()
    assert CheckpointCap(search, 200, print).enforce(state) == 300
    left = sorted(objects.listing())
    assert left == ["t0000/model.pt", "t0001/epoch-0002-bb.pt", "t0001/model.pt", f"{open_trial}/epoch-0001-aa.pt"]


# ---- nodes and tiles


def test_a_node_proves_that_it_reads_what_the_driver_wrote(search, proxy, monkeypatch):
    monkeypatch.setattr(node_proof, "_SOON_SECONDS", 0.5)
    with open_proof(search) as proof:
        assert prove(proof, "node")["fault"] is None
        assert proof.arrived("node")
        assert not proof.arrived("another")
        proof.accept("node")
        prove_here(proof.to_json(), "node")
        assert proof.holds()
        strange = replace(proof, nonce="other")
        assert "sees another file than the driver at" in prove(strange, "node")["fault"]
        with proxy.having(Fault("status", 403)):
            fault = prove(proof, "node")["fault"]
        assert "give that machine the store's endpoint and credentials in its environment" in fault
    assert search.remote.objects(search.name).listing() == {}


@pytest.fixture
def data(tmp_path):
    store = tiny_store(tmp_path / "store")
    return SearchData(tmp_path, {digest(CONFIG.tiles): store})


def test_tiles_are_sent_once_and_each_node_has_a_whole_copy(uri, data, tmp_path, proxy):
    storage = storage_paths(uri)
    (store,) = data.stores.values()
    send_data(storage, data)
    before = len(proxy.requests)
    send_data(storage, data)
    assert len(proxy.requests) == before + 1
    objects = storage.remote.objects(stored_key(store))
    for node in ("one", "two"):
        cache = TileCache(str(tmp_path / node))
        with near_store(objects, store.content_digest, cache, print) as path:
            assert path.is_relative_to(tmp_path / node)
            assert (path / "tiles.f16").read_bytes() == (store.path / "tiles.f16").read_bytes()


def test_tiles_that_are_damaged_or_missing_there_are_not_trained_on(uri, data, tmp_path):
    storage = storage_paths(uri)
    (store,) = data.stores.values()
    send_data(storage, data)
    objects = storage.remote.objects(stored_key(store))
    content = objects.read("tiles.f16")
    objects.write("tiles.f16", content[:-1] + bytes([content[-1] ^ 1]))
    with (
        pytest.raises(TileStoreError, match="damaged tiles or boxes"),
        near_store(objects, store.content_digest, TileCache(str(tmp_path / "node")), print),
    ):
        pass
    objects.remove(["boxes.npy"])
    with (
        pytest.raises(TileStoreError, match=r"boxes\.npy: not there; resume the search, which sends it"),
        near_store(objects, store.content_digest, TileCache(str(tmp_path / "node")), print),
    ):
        pass


def test_a_node_without_room_for_the_copy_is_not_trained_on(uri, data, tmp_path):
    storage = storage_paths(uri)
    (store,) = data.stores.values()
    send_data(storage, data)
    cache = TileCache(str(tmp_path / "node"), total_bytes=10)
    with (
        pytest.raises(NodeError, match=r"have no copy on this node: they have .* more than"),
        near_store(storage.remote.objects(stored_key(store)), store.content_digest, cache, print),
    ):
        pass
