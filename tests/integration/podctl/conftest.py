"""A control plane on a real etcd for podctl to talk to, and a namespace for each test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podwire import v1
from podwire.client import Client
from tests.integration.controllers.processes import Role, serving
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.podctl.command import Podctl
from tests.integration.podctl.scripted_agent import ScriptedAgent

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
async def control_plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """API and controllers as processes; the path of a client's configuration."""
    folder = tmp_path_factory.mktemp("podctl")
    etcd = EtcdServer(tmp_path_factory.mktemp("etcd"))
    await etcd.start()
    roles = [Role(name, etcd.url, folder) for name in ("api", "controllers")]
    for role in roles:
        await role.start()
    config = folder / "client.yaml"
    config.write_text(f'endpoints: ["unix:{folder}/api.sock"]\n')
    yield config
    for role in roles:
        await role.kill()
    await etcd.kill()


@pytest.fixture(scope="session")
async def client(control_plane: Path) -> AsyncIterator[Client]:
    async with Client.connect(f"unix:{control_plane.parent}/api.sock") as client:
        await serving(client)
        yield client


@pytest.fixture
async def podctl(control_plane: Path, client: Client) -> Podctl:
    """podctl in a namespace of its own."""
    name = f"test-{next(_NUMBERS)}"
    await client.namespaces.create(v1.Namespace(metadata=v1.ObjectMeta(name=name)))
    return Podctl(control_plane, name)


# Of the file that uses it: a later file of plain functions would keep the loop, and so the heartbeats, for itself.
@pytest.fixture(scope="module")
async def agent(client: Client) -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent(client, "scripted")
    running = asyncio.create_task(agent.run(), name="scripted agent")
    async with asyncio.timeout(10):
        await agent.has_session.wait()
    yield agent
    running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        pass  # As it should.
