"""The nodes of a cluster as a driver knows them: which have proven themselves, and which are left out and why."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.node_facts import NodeFacts, facts_here
from experiments.node_proof import Proof, open_proof
from experiments.paths import SearchPaths
from experiments.ray_nodes import Node, alive_nodes, ask, last_line
from experiments.record import Event
from experiments.resources import Capacity
from experiments.resources import Node as Machine
from experiments.state import SearchState
from satdet.errors import NodeError, UsageError

if TYPE_CHECKING:
    from ray.tune.execution.placement_groups import PlacementGroupFactory

_ANSWER_SECONDS = 120.0
"""How long a node may take at the start; importing from a cold network file system takes a minute."""
_DOUBT_SECONDS = 30.0
_LOOK_SECONDS = 5.0
_WAIT_SECONDS = 1.0


class Nodes:
    """One machine: there is nothing to prove."""

    proof: Proof | None = None

    def usable(self, capacity: Capacity) -> Capacity:
        """What is left of a cluster without the nodes that are left out."""
        return capacity

    def placed(self, resources: "PlacementGroupFactory") -> "PlacementGroupFactory":
        """The resources of a trial, away from nodes that are left out."""
        return resources

    def look(self, say: Callable[[str], None]) -> None:
        """See, every few seconds at most, who has joined and who has left."""

    def event(self, event: Event, state: SearchState) -> None:
        """Look after what a trial's process has found out."""


class ClusterNodes(Nodes):
    """The nodes of a cluster; each proves itself, those that join later too.

    A node that has failed is left out for the rest of the session. What joins is told from it by its id: Ray has to be
    started there anew once its fault is mended.

    Parameters
    ----------
    address : str
        Of the cluster, for messages.
    proof : Proof
    """

    def __init__(self, address: str, proof: Proof) -> None:
        self.proof: Proof = proof
        self._address = address
        self._known: dict[str, Node] = {}
        self._fit: set[str] = set()
        self._unfit: dict[str, str] = {}
        self._asked: dict[Any, Node] = {}
        self._news: list[str] = []
        self._next_look = 0.0

    def begin(self) -> list[str]:
        """Have every node prove itself; returns a line for each that is left out.

        Raises
        ------
        UsageError
            If there are nodes and none can run trials.
        """
        self._see()
        self._collect(_ANSWER_SECONDS)
        self._give_up_asking()
        if self._unfit and not self._fit:
            reasons = "; ".join(f"{self._known[node]}: {reason}" for node, reason in self._unfit.items())
            raise UsageError(f"--address {self._address}: no node there can run trials: {reasons}")
        self._news.clear()
        return [_left_out(self._known[node], reason) for node, reason in self._unfit.items()]

    def usable(self, capacity: Capacity) -> Capacity:
        """What is left of the cluster without the nodes that are left out."""
        if not self._known:
            return capacity
        usable = [node for node_id, node in self._known.items() if node_id not in self._unfit and node.cpus >= 1]
        return Capacity(tuple(Machine(int(node.cpus), node.gpus) for node in usable))

    def placed(self, resources: "PlacementGroupFactory") -> "PlacementGroupFactory":
        """The resources of a trial, away from nodes that are left out, whenever they are asked for."""
        from experiments.placement import PlacedElsewhere

        return PlacedElsewhere(resources, lambda: sorted(self._unfit))

    def look(self, say: Callable[[str], None]) -> None:
        """See, every few seconds at most, who has joined and who has left, and say so."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            self._see()
            self._collect(0.0)
        news, self._news = self._news, []
        for line in news:
            say(line)

    def event(self, event: Event, state: SearchState) -> None:
        """Have the nodes prove themselves again when a trial's process has found its own unfit."""
        if event["kind"] == "retried" and NodeError.__name__ in event["error"]:
            self._ask(self._known[node] for node in self._fit)
            self._see()
            self._collect(_DOUBT_SECONDS)

    def _see(self) -> None:
        """Compare with who is alive now, and ask those of whom nothing is known."""
        alive = {node.node_id: node for node in alive_nodes()}
        for gone in self._known.keys() - alive.keys():
            self._news.append(f"{self._known.pop(gone)} has left the cluster")
            self._fit.discard(gone)
            self._unfit.pop(gone, None)
        self._known |= alive
        self._ask(node for node in alive.values() if node.node_id not in self._fit | self._unfit.keys())

    def _ask(self, nodes: Iterable[Node]) -> None:
        """Have nodes prove themselves, unless they are at it."""
        asked = {node.node_id for node in self._asked.values()}
        for node in nodes:
            if node.node_id not in asked:
                self._asked[ask(self.proof, node)] = node

    def _collect(self, seconds: float) -> None:
        """Take the answers that come within so many seconds."""
        import ray

        deadline = time.monotonic() + seconds
        while self._asked:
            left = deadline - time.monotonic()
            done, _ = ray.wait(list(self._asked), num_returns=1, timeout=max(0.0, min(_WAIT_SECONDS, left)))
            for answer in done:
                self._judge(self._asked.pop(answer), answer)
            if not done and left <= 0:
                return

    def _give_up_asking(self) -> None:
        """Leave out who has not answered."""
        import ray

        for answer, node in self._asked.items():
            ray.cancel(answer, force=True)
            self._leave_out(node, f"it has not answered within {_ANSWER_SECONDS:.0f} s; see whether it is well")
        self._asked.clear()

    def _judge(self, node: Node, answer: Any) -> None:
        """Take a node or leave it out by what it says."""
        import ray
        from ray.exceptions import RayError

        if node.node_id not in self._known:
            return
        try:
            said = ray.get(answer)
        except RayError as error:
            if node.node_id in {each.node_id for each in alive_nodes()}:
                self._leave_out(node, f"it cannot run this code ({last_line(error)}); put the same checkout there")
            return
        try:
            fault = said["fault"] or NodeFacts(**said["facts"]).difference(facts_here())
        except (KeyError, TypeError):
            fault = "it runs another version of this code; put the same checkout there"
        if fault is None and not self.proof.arrived(node.node_id):
            fault = f"what it writes in {self.proof.folder} does not arrive here; mount the same storage there"
        if fault is not None:
            if self.proof.holds():  # else it is the storage that is away, and the node is asked again
                self._leave_out(node, fault)
            return
        self.proof.accept(node.node_id)
        if node.node_id in self._fit:
            return
        self._fit.add(node.node_id)
        self._news.append(f"{node} has joined: {node.cpus:g} CPUs and {node.gpus:g} GPUs")

    def _leave_out(self, node: Node, reason: str) -> None:
        self._fit.discard(node.node_id)
        self._unfit[node.node_id] = reason
        self._news.append(_left_out(node, reason))


@contextmanager
def proven_nodes(address: str | None, search: SearchPaths) -> Iterator[Nodes]:
    """The nodes that a search may use, once each has proven itself; on a Ray of our own there is nothing to prove.

    Raises
    ------
    UsageError
        If no node of the cluster can run trials.
    """
    if address is None:
        yield Nodes()
        return
    with open_proof(search) as proof:
        nodes = ClusterNodes(address, proof)
        for line in nodes.begin():
            sys.stderr.write(f"{line}\n")
        yield nodes


def _left_out(node: Node, reason: str) -> str:
    return f"{node} is left out: {reason}, then start Ray there anew"
