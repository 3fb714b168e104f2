"""Upkeep as its process does it: nobody calls it, and its leader may be dead when it is needed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from controlplane.store.etcd import Etcd
from podwire import errors
from podwire.client import Client, RetryPolicy, Settings
from tests.integration.controllers.processes import Role, elected, serving
from tests.integration.controlplane.etcd_server import EtcdServer, free_ports
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import config_map


@pytest.fixture
async def full_etcd_server(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    """One that is full after 16 MiB."""
    server = EtcdServer(tmp_path, f"--quota-backend-bytes={16 << 20}")
    await server.start()
    yield server
    await server.kill()


@pytest.mark.slow
async def test_a_full_store_recovers_by_itself_although_its_leader_was_killed(full_etcd_server: EtcdServer) -> None:
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="podwire-") as path:
        folder = Path(path)
        api = Role("api", full_etcd_server.url, folder)
        flags = [f"--upkeep-metrics=127.0.0.1:{port}", "--history=30s"]
        controllers = Role("controllers", full_etcd_server.url, folder, flags=flags)
        once = Settings(retry=RetryPolicy.NEVER)
        try:
            for role in (api, controllers):
                await role.start()
            async with (
                Etcd.connect([full_etcd_server.url]) as etcd,
                Client.connect(f"unix:{api.socket}", settings=once) as client,
            ):
                await serving(client)
                await elected(etcd, "controllers")
                await eventually(lambda: metric(port, "podwire_etcd_db_in_use_bytes{"), within=60)

                await controllers.kill()
                names = await fill(client)
                await controllers.start()
                await eventually(lambda: metric(port, 'podwire_etcd_alarm{alarm="NOSPACE"'), within=60)
                for name in names:
                    await client.config_maps.delete(name, namespace="default")

                async def takes_writes() -> bool:
                    try:
                        await client.config_maps.create(config_map("fits-again", text="x" * 300_000))
                    except errors.StoreFull:
                        return False
                    return True

                await eventually(takes_writes, within=90)
                await elected(etcd, "controllers")
                await eventually(lambda: metric(port, "podwire_etcd_defragmentations_total{"), within=60)
                # Deletions go on being compacted, by the clock.
                await eventually(lambda: metric(port, "podwire_etcd_compactions_total "), within=60)
                assert not await etcd.maintenance.alarms()
        finally:
            for role in (controllers, api):
                await role.kill()


async def metric(port: int, start: str) -> bool:
    """Whether the process says that something is more than 0."""

    def read() -> str:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""

    found = [line for line in (await asyncio.to_thread(read)).splitlines() if line.startswith(start)]
    return any(float(line.rpartition(" ")[2]) > 0 for line in found)


async def fill(client: Client) -> list[str]:
    """Makes objects until the store takes no more; their names."""
    for number in range(100):
        try:
            await client.config_maps.create(config_map(f"c{number}", text="x" * 300_000))
        except errors.StoreFull:
            return [f"c{made}" for made in range(number)]
    raise AssertionError("the store is larger than its quota")
