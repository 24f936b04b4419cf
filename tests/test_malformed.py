"""Every kind of malformed frame and catalogue: a typed error with file and reason, and the rest goes on."""

import os
import time
from collections import Counter

import pytest

from satdet.data.ingest import prepare
from satdet.errors import DataError
from tests.corpus import KINDS, make_corpus
from tests.surveys import CONFIG, write_pair


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder, its kinds, and the store made of it."""
    folder = tmp_path_factory.mktemp("corpus") / "in"
    kinds = make_corpus(folder)
    return folder, kinds, prepare(folder, CONFIG, folder.with_name("store"), workers=1)


def test_there_are_more_than_30_kinds():
    assert len({kind.name for kind in KINDS if kind.state == "rejected"}) > 30


def test_every_frame_ends_as_it_should_and_the_counts_add_up(corpus):
    _, kinds, store = corpus
    entries = {entry["name"]: entry for entry in store.manifest["frames"]}
    for kind in kinds:
        entry = entries[kind.name]
        assert entry["state"] == kind.state, (kind.name, entry["reason"])
        assert kind.words in f"{entry['reason']} {entry['dropped']}", (kind.name, entry["reason"])
        if kind.state == "rejected":
            assert kind.name in entry["reason"] and "\n" not in entry["reason"]
            assert entry["objects"] == entry["tiles"] == 0 and entry["split"] is None
    expected = Counter(kind.state for kind in kinds) + Counter(used=3)  # two good ones, and the duplicate's original
    assert store.manifest["counts"]["frames"] == expected and len(entries) == expected.total()
    assert entries["good1"]["state"] == entries["good2"]["state"] == "used"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.state == "rejected"], ids=lambda kind: kind.name)
def test_strict_stops_at_it_within_a_second(kind, tmp_path):
    if kind.name == "permission_denied" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    write_pair(tmp_path / "in", "good")
    kind.make(tmp_path / "in", kind.name)
    start = time.process_time()
    with pytest.raises(kind.error) as caught:
        prepare(tmp_path / "in", CONFIG, tmp_path / "store", workers=1, strict=True)
    assert time.process_time() - start < 1
    assert kind.name in str(caught.value) and kind.words in str(caught.value)
    assert isinstance(caught.value, DataError) and caught.value.exit_status == 4
    assert not (tmp_path / "store").exists()
