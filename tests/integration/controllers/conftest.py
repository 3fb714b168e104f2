"""Real etcd and real processes of the control plane for the tests of election, scheduler and controllers."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.store.etcd import Etcd
from podwire.client import Client
from tests.integration.controllers.processes import ControlPlane
from tests.integration.controllers.simulated_agent import SimulatedAgent
from tests.integration.controlplane.etcd_server import EtcdServer


@pytest.fixture(scope="session")
async def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EtcdServer]:
    """The run's etcd, for tests that do it no harm."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def own_etcd_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EtcdServer]:
    """An etcd for one test, which may freeze it."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    await server.start()
    yield server
    server.thaw()
    await server.kill()


@pytest.fixture
async def etcd(etcd_server: EtcdServer) -> AsyncIterator[Etcd]:
    async with Etcd.connect([etcd_server.url]) as client:
        yield client


@pytest.fixture
async def control_plane(own_etcd_server: EtcdServer) -> AsyncIterator[ControlPlane]:
    """All three roles, each a process, on an etcd of their own."""
    # Not pytest's folder: the path of a unix socket ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        control_plane = ControlPlane(own_etcd_server.url, Path(folder))
        await control_plane.start()
        try:
            yield control_plane
        finally:
            await control_plane.kill()


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[Client]:
    async with control_plane.client() as client:
        yield client


@pytest.fixture
async def nodes(client: Client) -> AsyncIterator[list[SimulatedAgent]]:
    """Two nodes of four cores, with agents that run whatever they get."""
    agents = [SimulatedAgent(client, name) for name in ("node1", "node2")]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    for agent in agents:
        await asyncio.wait_for(agent.has_session.wait(), 20)
    yield agents
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
