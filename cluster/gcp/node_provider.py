"""Ray's node provider for Google Cloud, without the rights that it would take for itself.

What ``ray up`` does for the type ``gcp`` before it starts a machine is to give the project a service account with
``compute.admin`` and ``storage.objectAdmin``, and the head the scope ``cloud-platform``, whatever the file says.
Here nothing is set up that the cluster file does not name; ``cluster/gcp/setup.sh`` makes what it names, once.
"""

from typing import Any

from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

from cluster.gcp.declared import as_declared


class LeastPrivilegeNodeProvider(GCPNodeProvider):  # type: ignore[misc]
    """Starts and ends instances exactly as declared."""

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """What every node is started with.

        Raises
        ------
        UsageError
            If it would not be what the cluster file says.
        """
        return as_declared(cluster_config)
