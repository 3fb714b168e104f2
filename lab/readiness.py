"""When the nodes of a lab are ready, told by the control plane itself."""

from collections.abc import Collection, Sequence
from pathlib import Path

from podwire import v1
from podwire.client import Client


async def wait_nodes_ready(api_sockets: Sequence[Path], names: Collection[str]) -> None:
    """Returns when all the nodes are Ready."""
    ready: set[str] = set()
    async with Client.connect([f"unix:{socket}" for socket in api_sockets]) as client:
        async for event in client.nodes.watch(send_initial_events=True):
            name = event.object.metadata.name
            if event.type in ("ADDED", "MODIFIED") and _is_ready(event.object):
                ready.add(name)
            else:
                ready.discard(name)
            if ready.issuperset(names):
                return


def _is_ready(node: v1.Node) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions)
