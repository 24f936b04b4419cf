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
from experiments.paths import SearchPaths
from satdet._storage import FULL, OUT_OF_REACH
from satdet.errors import NodeError, StorageError

_SOON_SECONDS = 10.0
"""How long a file of another machine may take to appear."""
_LOOK_SECONDS = 0.2
_NONCE = "driver"
_MOUNT = "mount the same storage there under the same path"


@dataclass(frozen=True)
class Proof:
    """What is asked of a node.

    Attributes
    ----------
    folder : str
        In the storage, for the files of this session's proofs.
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
            return _soon(Path(self.folder, node)) == self.answer(node)
        except OSError:
            return False

    def accept(self, node: str) -> None:
        """Leave word for the trials' processes that the node has proven itself; without it they prove it again."""
        with suppress(OSError):
            Path(self.folder, _accepted(node)).write_text(self.nonce)

    def holds(self) -> bool:
        """Whether the driver itself can use the storage now."""
        try:
            _write(self, _NONCE + "-again")
        except OSError:
            return False
        return True


@contextmanager
def open_proof(search: SearchPaths) -> Iterator[Proof]:
    """Leave the driver's file in the storage for as long as the context lasts.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    prefix = f".{search.name}.nodes-"
    for left in search.root.parent.glob(f"{prefix}*"):  # of a driver that was killed; the lock says that it is gone
        shutil.rmtree(left, ignore_errors=True)
    # A name of its own for each session: network file systems remember for a while what was at a path before.
    folder = search.root.with_name(prefix + secrets.token_hex(6))
    nonce = secrets.token_hex(16)
    try:
        folder.mkdir()
        (folder / _NONCE).write_text(nonce)
    except OSError as error:
        raise StorageError(f"{folder}: the storage cannot be written ({error.strerror})") from None
    facts = facts_here()
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
        accepted = Path(proof.folder, _accepted(node))
        if accepted.exists() and accepted.read_text() == proof.nonce:
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
    path = Path(proof.folder, _NONCE)
    try:
        text = _soon(path)
    except FileNotFoundError:
        return f"it does not see {path}, which the driver wrote; {_MOUNT}"
    if text != proof.nonce:
        return f"it sees another file than the driver at {path}; {_MOUNT}"
    _write(proof, name)
    return None


def _unusable(proof: Proof, error: OSError) -> str:
    return f"it cannot use {proof.folder} ({error.strerror}); {_MOUNT}"


def _write(proof: Proof, name: str) -> None:
    with Path(proof.folder, name).open("w") as file:
        file.write(proof.answer(name))
        file.flush()
        os.fsync(file.fileno())


def _soon(path: Path) -> str:
    """The text of a file that another machine wrote.

    Raises
    ------
    OSError
        If it does not appear in time.
    """
    deadline = time.monotonic() + _SOON_SECONDS
    while True:
        try:
            if text := path.read_text():
                return text
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            return ""
        time.sleep(_LOOK_SECONDS)


def _accepted(node: str) -> str:
    return f"{node}.accepted"
