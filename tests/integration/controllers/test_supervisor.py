"""`podwire-controlplane all`: its children come back when they die, and die when it does."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podwire.client import Client
from tests.integration.controllers.manifests import pod
from tests.integration.controllers.processes import Role, serving
from tests.integration.controlplane.etcd_server import EtcdServer


@pytest.fixture
async def supervisor(own_etcd_server: EtcdServer) -> AsyncIterator[Role]:
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        supervisor = Role("all", own_etcd_server.url, Path(folder))
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.kill()


def children(supervisor: Role) -> dict[str, int]:
    """role -> process id, of the supervisor's children."""
    listed = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
    found = {}
    for pid in listed:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if len(arguments) > 3:
            found[arguments[3]] = int(pid)
    return found


async def ended(descriptors: dict[str, int]) -> None:
    """When each of the processes is gone; a pidfd becomes readable then."""
    loop = asyncio.get_running_loop()
    for descriptor in descriptors.values():
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        await asyncio.wait_for(gone.wait(), 15)
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def serves(supervisor: Role, name: str) -> None:
    """The API takes a pod."""
    async with Client.connect(f"unix:{supervisor.socket}") as client:
        await serving(client)
        await client.pods.create(pod(name))


async def test_a_child_that_is_killed_comes_back(supervisor: Role) -> None:
    await serves(supervisor, "before")
    before = children(supervisor)
    assert set(before) == {"api", "scheduler", "controllers"}
    api = os.pidfd_open(before["api"])
    os.kill(before["api"], signal.SIGKILL)
    await ended({"api": api})

    await serves(supervisor, "after")
    after = children(supervisor)
    assert after["api"] != before["api"]
    assert {role: after[role] for role in ("scheduler", "controllers")} == {
        role: before[role] for role in ("scheduler", "controllers")
    }
    assert "role died, starting it again" in supervisor.log


async def test_sigterm_ends_all_of_them_in_order(supervisor: Role) -> None:
    await serves(supervisor, "web")
    descriptors = {role: os.pidfd_open(pid) for role, pid in children(supervisor).items()}

    assert await supervisor.kill(signal.SIGTERM) == 0

    await ended(descriptors)
    assert "died" not in supervisor.log


async def test_no_child_outlives_a_supervisor_that_is_killed(supervisor: Role) -> None:
    await serves(supervisor, "web")
    descriptors = {role: os.pidfd_open(pid) for role, pid in children(supervisor).items()}

    await supervisor.kill()

    await ended(descriptors)
