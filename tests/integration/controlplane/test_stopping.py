"""How a replica ends that is told to: what is under way is finished, and nothing that happens meanwhile keeps it."""

from __future__ import annotations

import asyncio
import signal

import pytest

from controlplane.store.etcd import Etcd
from podwire import v1
from podwire.client import Client, RetryPolicy
from tests.integration.controlplane.api_process import api_process, config_map_of
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually

CREATES = 'podwire_calls_total{method="podwire.v1.ConfigMaps/Create"}'
# Far more than an end takes, far less than a service manager's patience.
ENDS_WITHIN = 20.0


async def test_a_request_under_way_is_finished_first(own_etcd_server: EtcdServer, own_etcd: Etcd) -> None:
    async with api_process(own_etcd_server.url) as process, Client.connect(process.endpoint) as client:

        async def came() -> bool:
            return await process.metric(CREATES) > 0

        impatient = client.with_retry(RetryPolicy.NEVER)
        own_etcd_server.freeze()
        creating = asyncio.create_task(impatient.config_maps.create(config_map_of("late", "default", 10)))
        await eventually(came, within=ENDS_WITHIN)
        ending = asyncio.create_task(process.kill(signal.SIGTERM))
        await eventually(lambda: "stopping" in process.log, within=ENDS_WITHIN)
        assert process.running and not creating.done()
        own_etcd_server.thaw()
        async with asyncio.timeout(ENDS_WITHIN):
            created: v1.ConfigMap = await creating
            assert await ending == 0
        assert created.metadata.resource_version
        assert "Traceback" not in process.log


# Seconds by which etcd's end comes before the signal: renewals, watches and proofs fail at different times after it.
@pytest.mark.parametrize("before", [0.0, 0.01, 0.018])
async def test_the_end_of_etcd_at_the_same_time_keeps_nothing(own_etcd_server: EtcdServer, before: float) -> None:
    async with api_process(own_etcd_server.url) as process:
        dying = asyncio.create_task(own_etcd_server.kill(signal.SIGTERM))
        await asyncio.sleep(before)
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                assert await process.kill(signal.SIGTERM) == 0
        finally:
            await process.kill()
        await dying
        assert "Traceback" not in process.log
