"""Writes whose answer is lost: nobody is told that one has happened because another, just like it, has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from controlplane.store import keys
from controlplane.store.etcd import Etcd
from podwire import errors, kinds, v1
from podwire.client import Client
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import Wire, eventually, wire_to
from tests.integration.controlplane.replica import Api, config_map, running_api


@dataclass
class Apart:
    """A replica whose way to etcd can be cut, and a client of another one, whose way cannot."""

    wire: Wire
    replica: Api
    other: Client

    async def lose(self, write: Awaitable[v1.ConfigMap], meanwhile: Awaitable[object]) -> v1.ConfigMap:
        """What the replica says of a `write` that never reached etcd, where `meanwhile` happened through the other."""
        self.wire.cut()
        writing = asyncio.ensure_future(write)
        await eventually(lambda: self.wire.held > 0)
        await meanwhile
        await self.wire.sever()
        self.wire.mend()
        async with asyncio.timeout(30):
            return await writing


@pytest.fixture
async def apart(etcd_server: EtcdServer, api: Api) -> AsyncIterator[Apart]:
    async with _apart(etcd_server, api.client) as made:
        yield made


@asynccontextmanager
async def _apart(etcd_server: EtcdServer, other: Client) -> AsyncIterator[Apart]:
    async with wire_to(etcd_server.url) as wire, running_api(wire.url) as replica:
        yield Apart(wire, replica, other)


async def _known_to(api: Api, obj: v1.ConfigMap) -> None:
    """The replica's cache has the object, so that a write of it needs no question first."""
    await api.client.config_maps.get(obj.metadata.name, namespace=obj.metadata.namespace)


async def test_of_two_equal_updates_a_lost_one_is_not_taken_for_the_other(apart: Apart, ns: str) -> None:
    made = await apart.other.config_maps.create(config_map("counter", ns, count="1"))
    await _known_to(apart.replica, made)
    made.data["count"] = "2"
    with pytest.raises(errors.Unavailable):
        await apart.lose(apart.replica.client.config_maps.update(made), apart.other.config_maps.update(made))


async def test_a_lost_deletion_is_not_taken_for_anothers(apart: Apart, ns: str) -> None:
    made = await apart.other.config_maps.create(config_map("once", ns))
    await _known_to(apart.replica, made)
    with pytest.raises(errors.Unavailable):
        await apart.lose(
            apart.replica.client.config_maps.delete("once", namespace=ns),
            apart.other.config_maps.delete("once", namespace=ns),
        )


async def test_a_create_that_happened_is_found_where_its_answer_was_lost(apart: Apart, etcd: Etcd, ns: str) -> None:
    await apart.replica.client.config_maps.list(namespace=ns)
    apart.wire.cut_back()
    writing = asyncio.create_task(apart.replica.client.config_maps.create(config_map("made", ns)))
    key = keys.object_key(kinds.CONFIG_MAP, f"{ns}/made")

    async def stored() -> bool:
        return await etcd.get(key) is not None

    await eventually(stored)
    await apart.wire.sever()
    apart.wire.mend()
    async with asyncio.timeout(30):
        assert await writing == await apart.other.config_maps.get("made", namespace=ns)
