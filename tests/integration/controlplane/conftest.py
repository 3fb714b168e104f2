"""Real etcd servers for the tests of the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controlplane.store.etcd import Etcd
from tests.integration.controlplane.etcd_server import EtcdServer


@pytest.fixture(scope="session")
async def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EtcdServer]:
    """The run's etcd: tests that neither kill it nor compact it share it, each under keys of its own."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def own_etcd_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EtcdServer]:
    """An etcd for one test that kills, freezes or compacts it."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    await server.start()
    yield server
    server.thaw()
    await server.kill()


@pytest.fixture
async def etcd(etcd_server: EtcdServer) -> AsyncIterator[Etcd]:
    async with Etcd.connect([etcd_server.url]) as client:
        yield client
