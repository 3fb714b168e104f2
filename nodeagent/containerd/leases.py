"""Leases: what is made under one is safe from containerd's garbage collector, which may run between any two calls.

Containers need none here: their record is made first and names the snapshot that is made next, so that nothing is ever
without an owner. A view that no container ever refers to does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from nodeagent.containerd.api import leases_pb2
from nodeagent.containerd.client import Client, ContainerdError, NotFound

AGENT_LABEL: Final = "podwire.io/agent"
_EXPIRE_LABEL: Final = "containerd.io/gc.expire"
_LONGEST: Final = timedelta(hours=1)
"""containerd ends a lease by itself after this, should the agent never come back."""


@asynccontextmanager
async def held(client: Client, lease: str, agent: str) -> AsyncIterator[str]:
    """A lease called `lease` while the block runs; what it held is collected before the block is left."""
    expires = (datetime.now(UTC) + _LONGEST).isoformat(timespec="seconds").replace("+00:00", "Z")
    labels = {AGENT_LABEL: agent, _EXPIRE_LABEL: expires}
    await client.call(client.leases.Create, leases_pb2.CreateRequest(id=lease, labels=labels))
    try:
        yield lease
    finally:
        await asyncio.shield(_end(client, lease))


async def _end(client: Client, lease: str) -> None:
    try:
        await client.call(client.leases.Delete, leases_pb2.DeleteRequest(id=lease, sync=True))
    except ContainerdError:
        # The sweep of the next start finds it by its label.
        pass


async def end_leftovers(client: Client, agent: str) -> int:
    """Ends every lease that an agent of this name left behind; how many there were."""
    request = leases_pb2.ListRequest(filters=[f'labels."{AGENT_LABEL}"=={agent}'])
    leases = (await client.call(client.leases.List, request)).leases
    for lease in leases:
        try:
            await client.call(client.leases.Delete, leases_pb2.DeleteRequest(id=lease.id, sync=True))
        except NotFound:
            pass
    return len(leases)
