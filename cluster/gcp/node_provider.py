"""Ray's node provider for Google Cloud, without the rights that it would take for itself.

What ``ray up`` does for the type ``gcp`` before it starts a machine is to give the project a service account with
``compute.admin`` and ``storage.objectAdmin``, and the head the scope ``cloud-platform``, whatever the file says.
Here nothing is set up that the cluster file does not name; ``cluster/gcp/setup.sh`` makes what it names, once.
"""

import copy
from pathlib import Path
from typing import Any

from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

from satdet.errors import UsageError


class LeastPrivilegeNodeProvider(GCPNodeProvider):  # type: ignore[misc]
    """Starts and ends instances exactly as declared."""

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with the public half of the ssh key on every node, and nothing else.

        Raises
        ------
        UsageError
            If a node type leaves its network, its public address or its service account to Ray, or there is no key.
        """
        config = copy.deepcopy(cluster_config)
        for name, node_type in config["available_node_types"].items():
            check_node(name, node_type["node_config"])
            node_type["node_config"]["metadata"] = {"items": _ssh_metadata(config["auth"])}
        return config


def check_node(name: str, node: dict[str, Any]) -> None:
    """Refuse a node that would get a public address, or more rights than are written down.

    Raises
    ------
    UsageError
    """
    interfaces = node.get("networkInterfaces")
    if not interfaces:
        raise UsageError(
            f"node type {name}: name its subnetwork in networkInterfaces; Ray would give it a public address"
        )
    if any(interface.get("accessConfigs") for interface in interfaces):
        raise UsageError(f"node type {name}: remove accessConfigs, which are public addresses")
    if "serviceAccounts" not in node:
        raise UsageError(f"node type {name}: say serviceAccounts: [] or which; Ray would take one with wide rights")


def _ssh_metadata(auth: dict[str, Any]) -> list[dict[str, str]]:
    private = auth.get("ssh_private_key")
    if private is None:
        raise UsageError("auth: name the key in ssh_private_key; cluster/gcp/setup.sh makes one")
    public = Path(f"{private}.pub").expanduser()
    if not public.is_file():
        raise UsageError(f"{public} is missing; cluster/gcp/setup.sh makes the pair of keys")
    key = f"{auth['ssh_user']}:{public.read_text().strip()}"
    return [{"key": "ssh-keys", "value": key}, {"key": "block-project-ssh-keys", "value": "true"}]
