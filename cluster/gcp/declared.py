"""Nodes exactly as the cluster file declares them: no public address, no account and no right that it does not name."""

import copy
from pathlib import Path
from typing import Any

from satdet.errors import UsageError


def as_declared(config: dict[str, Any]) -> dict[str, Any]:
    """The cluster's configuration with the public half of the ssh key on every node, and nothing else.

    Parameters
    ----------
    config : dict
        As ``ray up`` has read it, with Ray's defaults.

    Raises
    ------
    UsageError
        If a node type leaves its network, its public address or its service account to others, or there is no key.
    """
    declared = copy.deepcopy(config)
    for name, node_type in declared["available_node_types"].items():
        _check(name, node_type["node_config"])
        node_type["node_config"]["metadata"] = {"items": _ssh_metadata(declared["auth"])}
    return declared


def _check(name: str, node: dict[str, Any]) -> None:
    interfaces = node.get("networkInterfaces")
    if not interfaces:
        raise UsageError(f"node type {name}: name its subnetwork in networkInterfaces")
    if any(interface.get("accessConfigs") for interface in interfaces):
        raise UsageError(f"node type {name}: remove accessConfigs, which are public addresses")
    if "serviceAccounts" not in node:
        raise UsageError(f"node type {name}: say serviceAccounts: [], or which and with which scopes")


def _ssh_metadata(auth: dict[str, Any]) -> list[dict[str, str]]:
    private = auth.get("ssh_private_key")
    if private is None:
        raise UsageError("auth: name the key in ssh_private_key; cluster/gcp/setup.sh makes one")
    public = Path(f"{private}.pub").expanduser()
    if not public.is_file():
        raise UsageError(f"{public} is missing; cluster/gcp/setup.sh makes the pair of keys")
    key = f"{auth['ssh_user']}:{public.read_text(encoding='utf-8').strip()}"
    return [{"key": "ssh-keys", "value": key}, {"key": "block-project-ssh-keys", "value": "true"}]
