"""What Ray is asked of a cluster's nodes: who is alive, and what one of them has to say."""

from dataclasses import dataclass
from typing import Any

from experiments.node_proof import Proof, prove


@dataclass(frozen=True)
class Node:
    """One node that is alive and has CPUs for trials."""

    node_id: str
    name: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        """For a message."""
        return f"node {self.name}"


def alive_nodes() -> list[Node]:
    """The nodes that could be given trials."""
    import ray

    return [
        Node(
            each["NodeID"],
            f"{each['NodeManagerAddress']} ({each['NodeManagerHostname']}, {each['NodeID'][:8]})",
            each["Resources"].get("CPU", 0.0),
            each["Resources"].get("GPU", 0.0),
        )
        for each in ray.nodes()
        if each["Alive"] and each["Resources"].get("CPU", 0.0) > 0
    ]


def ask(proof: Proof, node: Node) -> Any:
    """Have a node prove itself, in a process that nothing else will use."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=0, scheduling_strategy=pinned)(prove)
    return task.remote(proof, node.node_id)


def last_line(error: Exception) -> str:
    """What it comes down to, for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
