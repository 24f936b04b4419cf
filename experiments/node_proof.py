"""What a node shows before trials are trained on it: that it sees our storage, and runs our code.

The driver leaves a file with a random text in the storage. A node proves itself by reading that text, by leaving a file
of its own that the driver finds, and by naming its versions and sources. `experiments.nodes` asks it to.
"""

import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.node_facts import facts_here, version_difference
from experiments.objects import ObjectStore, is_uri
from experiments.paths import SearchPaths
from satdet._storage import FULL, OUT_OF_REACH
from satdet.errors import NodeError, StorageError

_SOON_SECONDS = 10.0
"""How long a file of another machine may take to appear."""
_LOOK_SECONDS = 0.2
_NONCE = "driver"
_MOUNT = "mount the same storage there under the same path"
_ALLOW = "give that machine the store's endpoint and credentials in its environment, or a role that may use it"


@dataclass(frozen=True)
class Proof:
    """What is asked of a node.

    Attributes
    ----------
    folder : str
        In the storage, a path or the address of objects, for the files of this session's proofs.
    nonce : str
        What the driver's file there holds.
    versions : dict of str
        Of the driver.
    code : str
        SHA-256 of the driver's sources.
    """

    folder: str
    nonce: str
    versions: dict[str, str]
    code: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def answer(self, node: str) -> str:
        """What a node's own file holds."""
        return hashlib.sha256(f"{self.nonce} {node}".encode()).hexdigest()

    def arrived(self, node: str) -> bool:
        """Whether the driver finds that file."""
        try:
            return _soon(self.place, node) == self.answer(node)
        except OSError:
            return False

    def accept(self, node: str) -> None:
        """Leave word for the trials' processes that the node has proven itself; without it they prove it again."""
        with suppress(OSError):
            self.place.write(_accepted(node), self.nonce)

    def holds(self) -> bool:
        """Whether the driver itself can use the storage now."""
        name = _NONCE + "-again"
        try:
            self.place.write(name, self.answer(name))
        except OSError:
            return False
        return True

    @property
    def place(self) -> "_Folder | _Objects":
        """Where the files are."""
        return _Objects(ObjectStore(self.folder)) if is_uri(self.folder) else _Folder(Path(self.folder))


@dataclass(frozen=True)
class _Folder:
    """Files of proofs in a folder."""

    path: Path

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def write(self, name: str, text: str) -> None:
        with (self.path / name).open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class _Objects:
    """Files of proofs in an object store."""

    store: ObjectStore

    def read(self, name: str) -> str:
        return self.store.read(name).decode()

    def write(self, name: str, text: str) -> None:
        self.store.write(name, text.encode())


@contextmanager
def open_proof(search: SearchPaths) -> Iterator[Proof]:
    """Leave the driver's file in the storage for as long as the context lasts.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    prefix = f".{search.name}.nodes-"
    facts = facts_here()
    nonce = secrets.token_hex(16)
    if search.remote is not None:
        # Beside the search, of which nothing is listed but its own files.
        objects = search.remote.objects(search.name, "nodes", secrets.token_hex(6))
        try:
            objects.write(_NONCE, nonce.encode())
        except OSError as error:
            raise StorageError(f"{objects}: the storage cannot be written ({error.strerror})") from None
        try:
            yield Proof(str(objects), nonce, facts.versions, facts.code)
        finally:
            with suppress(OSError):
                objects.remove(objects.listing())
        return
    for left in search.root.parent.glob(f"{prefix}*"):  # of a driver that was killed; the lock says that it is gone
        shutil.rmtree(left, ignore_errors=True)
    # A name of its own for each session: network file systems remember for a while what was at a path before.
    folder = search.root.with_name(prefix + secrets.token_hex(6))
    try:
        folder.mkdir()
        (folder / _NONCE).write_text(nonce)
    except OSError as error:
        raise StorageError(f"{folder}: the storage cannot be written ({error.strerror})") from None
    try:
        yield Proof(str(folder), nonce, facts.versions, facts.code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prove(proof: Proof, node: str) -> dict[str, Any]:
    """What this node, which Ray knows as `node`, says as plain data: its facts, and its storage's fault or None."""
    try:
        fault = _storage_fault(proof, node)
    except OSError as error:
        fault = _unusable(proof, error)
    return {"facts": facts_here().to_json(), "fault": fault}


def prove_here(order: dict[str, Any] | None, node: str | None = None) -> None:
    """In a trial's process: make sure that this node can train it, unless the driver knows already.

    A storage that is only full or out of reach for a while is no reason: training waits for it.

    Parameters
    ----------
    order : dict or None
        Plain data of the `Proof`; None where there is nothing to prove.
    node : str, optional
        The id by which Ray knows this node; by default Ray is asked.

    Raises
    ------
    NodeError
        If it cannot.
    """
    if order is None:
        return
    proof, node = Proof(**order), node or _this_node()
    try:
        with suppress(FileNotFoundError):
            if proof.place.read(_accepted(node)) == proof.nonce:
                return
        fault = _storage_fault(proof, f"{node}-{os.getpid()}")
    except OSError as error:
        fault = None if error.errno in FULL | OUT_OF_REACH else _unusable(proof, error)
    facts = facts_here()
    fault = fault or version_difference(facts.versions, proof.versions)
    if fault is None and facts.code != proof.code:
        fault = f"the code in {facts.folder} is not the driver's; put the same checkout there"
    if fault is not None:
        raise NodeError(f"node {socket.gethostname()} {node[:8]}: {fault}")


def _this_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _storage_fault(proof: Proof, name: str) -> str | None:
    """What keeps this process from reading what the driver wrote; else None, and its own file is there, too.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    where = f"{proof.folder}/{_NONCE}"
    try:
        text = _soon(proof.place, _NONCE)
    except FileNotFoundError:
        return f"it does not see {where}, which the driver wrote; {_remedy(proof)}"
    if text != proof.nonce:
        return f"it sees another file than the driver at {where}; {_remedy(proof)}"
    proof.place.write(name, proof.answer(name))
    return None


def _unusable(proof: Proof, error: OSError) -> str:
    return f"it cannot use {proof.folder} ({error.strerror}); {_remedy(proof)}"


def _remedy(proof: Proof) -> str:
    return _ALLOW if is_uri(proof.folder) else _MOUNT


def _soon(place: _Folder | _Objects, name: str) -> str:
    """The text of a file that another machine wrote.

    Raises
    ------
    OSError
        If it does not appear in time.
    """
    deadline = time.monotonic() + _SOON_SECONDS
    while True:
        try:
            if text := place.read(name):
                return text
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            return ""
        time.sleep(_LOOK_SECONDS)


def _accepted(node: str) -> str:
    return f"{node}.accepted"
