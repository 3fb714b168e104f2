"""Everybody comes back at once: after a compaction every watcher of a replica that was replaced has to list again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from podwire import v1
from podwire.client import Client, RetryPolicy, Settings
from tests.integration.controlplane.api_process import ApiProcess, api_process, store_pods
from tests.integration.controlplane.conftest import connected
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually

_LISTS = 'podwire_calls_total{method="podwire.v1.Pods/List"}'
_SPREAD = 2.0
_PATIENT = Settings(retry=RetryPolicy(patience=120.0), relist_spread=_SPREAD)


@pytest.mark.parametrize(
    ("watchers", "pods"), [(40, 1_500), pytest.param(200, 5_000, marks=pytest.mark.slow)], ids=["small", "whole"]
)
async def test_after_a_compaction_each_watcher_lists_once_and_memory_at_most_doubles(
    own_etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch, watchers: int, pods: int
) -> None:
    async with connected(own_etcd_server) as etcd, api_process(own_etcd_server.url) as api, AsyncExitStack() as undo:
        await store_pods(etcd, pods)
        clients = [
            await undo.enter_async_context(Client.connect(api.endpoint, settings=_PATIENT)) for _ in range(watchers)
        ]
        delays = _recorded_delays(clients, monkeypatch)
        listed = await clients[0].pods.list()
        pages = await api.metric(_LISTS)
        watches = [
            await undo.enter_async_context(
                aclosing(client.pods.watch(resource_version=listed.resource_version, epoch=listed.epoch))
            )
            for client in clients
        ]
        following = [asyncio.create_task(_until_new(watch)) for watch in watches]
        await eventually(lambda: _watched_by(api, watchers), within=60)
        steady = api.memory()
        await api.kill()
        # What the watchers miss is compacted before a replica is there again.
        await store_pods(etcd, 1, first=99_999)
        await etcd.compact((await etcd.range(b"/")).revision)
        await api.start()
        async with asyncio.timeout(240):
            assert await asyncio.gather(*following) == ["p99999"] * watchers
        assert await api.metric(_LISTS) == watchers * pages
        assert api.memory("VmHWM") < 2 * steady
        assert len(delays) == watchers
        assert max(delays) - min(delays) > _SPREAD / 2


def _recorded_delays(clients: list[Client], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments at which the clients choose to list again."""
    delays: list[float] = []
    for client in clients:
        connection = client.pods.connection
        choose = connection.relist_delay

        def recorded(choose: Any = choose) -> float:
            delays.append(choose())
            return delays[-1]

        monkeypatch.setattr(connection, "relist_delay", recorded)
    return delays


async def _until_new(watch: AsyncIterator[Any]) -> str:
    """The pod that was made while nobody served."""
    async for event in watch:
        if event.type == "ADDED":
            pod: v1.Pod = event.object
            return pod.metadata.name
    raise AssertionError("a watch does not end by itself")


async def _watched_by(api: ApiProcess, count: int) -> bool:
    return await api.metric('podwire_watchers{kind="Pod"}') == count
