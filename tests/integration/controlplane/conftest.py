"""Real etcd servers for the tests of the control plane."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controlplane.store.etcd import Etcd
from podwire.client import Client
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.replica import Api, namespace, running_api


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
    async with connected(etcd_server) as client:
        yield client


@pytest.fixture
async def own_etcd(own_etcd_server: EtcdServer) -> AsyncIterator[Etcd]:
    async with connected(own_etcd_server) as client:
        yield client


@asynccontextmanager
async def connected(server: EtcdServer) -> AsyncIterator[Etcd]:
    """A client that has had an answer: a server that listens may still be choosing its leader."""
    async with Etcd.connect([server.url]) as client:
        await client.get(b"/", timeout=30.0)
        yield client


@pytest.fixture(scope="session")
async def api(etcd_server: EtcdServer) -> AsyncIterator[Api]:
    """The run's replica, on the run's etcd."""
    async with running_api(etcd_server.url) as running:
        yield running


@pytest.fixture(scope="session")
async def second_api(etcd_server: EtcdServer, api: Api) -> AsyncIterator[Api]:
    """Another replica on the same etcd."""
    async with running_api(etcd_server.url) as running:
        yield running


@pytest.fixture
def client(api: Api) -> Client:
    return api.client


_numbers = itertools.count()


@pytest.fixture
async def ns(client: Client) -> str:
    """A namespace of the test's own."""
    name = f"test-{next(_numbers)}"
    await client.namespaces.create(namespace(name))
    return name
