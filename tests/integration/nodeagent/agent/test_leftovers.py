"""What a killed agent leaves in the middle of something, and the next one finds."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress

from google.protobuf.any_pb2 import Any as AnyMessage

from nodeagent.containerd.api import tasks_pb2
from nodeagent.containerd.client import Client, ContainerdError
from nodeagent.model import ContainerId, PodUid
from tests.integration.nodeagent.agent.conftest import Host
from tests.integration.nodeagent.agent.test_pods_on_containerd import FOREVER, container, pod

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"


async def start_exec_without_reader(client: Client, host: Host, running: ContainerId) -> None:
    """As of an agent that died before the shim had opened the exec's pipes; the start waits for their reader."""
    folder = host.node.settings.pipes / running / "exec-left"
    folder.mkdir()
    for name in ("stdout", "stderr"):
        os.mkfifo(folder / name, 0o600)
    process = {"args": ["sleep", "7007"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    request = tasks_pb2.ExecProcessRequest(
        container_id=running,
        exec_id=folder.name,
        stdout=str(folder / "stdout"),
        stderr=str(folder / "stderr"),
        spec=AnyMessage(type_url=PROCESS, value=json.dumps(process).encode()),
    )
    await client.call(client.tasks.Exec, request)
    # It is taken away under its start, or killed after it.
    with suppress(ContainerdError):
        await client.call(client.tasks.Start, tasks_pb2.StartRequest(container_id=running, exec_id=folder.name))


async def test_an_exec_that_waits_for_its_dead_agent_holds_nobody_up(host: Host) -> None:
    wanted = pod(container(FOREVER))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    running = ContainerId(host.container(wanted).container_id.removeprefix("containerd://"))
    settings = host.node.settings
    async with Client(settings.containerd_socket, settings.containerd_namespace) as client:
        starting = asyncio.create_task(start_exec_without_reader(client, host, running))
        # Long enough for the shim to have come to the pipes.
        await asyncio.wait([starting], timeout=0.5)
        async with asyncio.timeout(10):
            await host.runtime.sweep([PodUid(wanted.metadata.uid)])
        await starting
    assert "exec-left" not in host.node.containerd.ctr("task", "ps", running)
    assert not list((settings.pipes / running).glob("exec-*"))
