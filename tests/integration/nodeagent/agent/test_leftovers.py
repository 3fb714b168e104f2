"""What a killed agent leaves in the middle of something, and the next one finds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress

from google.protobuf.any_pb2 import Any as AnyMessage

from nodeagent.containerd.api import containers_pb2, tasks_pb2
from nodeagent.containerd.client import Client, ContainerdError
from nodeagent.model import ContainerId, PodUid
from nodeagent.runtime import Runtime
from nodeagent.sandboxes.shims import running
from tests.integration.nodeagent.agent.conftest import Host
from tests.integration.nodeagent.agent.test_pods_on_containerd import FOREVER, container, pod

PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"


async def start_exec_without_reader(client: Client, host: Host, main: ContainerId) -> None:
    """As of an agent that died before the shim had opened the exec's pipes; the start waits for their reader."""
    folder = host.node.settings.pipes / main / "exec-left"
    folder.mkdir()
    for name in ("stdout", "stderr"):
        os.mkfifo(folder / name, 0o600)
    process = {"args": ["sleep", "7007"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    request = tasks_pb2.ExecProcessRequest(
        container_id=main,
        exec_id=folder.name,
        stdout=str(folder / "stdout"),
        stderr=str(folder / "stderr"),
        spec=AnyMessage(type_url=PROCESS, value=json.dumps(process).encode()),
    )
    await client.call(client.tasks.Exec, request)
    # It is taken away under its start, or killed after it.
    with suppress(ContainerdError):
        await client.call(client.tasks.Start, tasks_pb2.StartRequest(container_id=main, exec_id=folder.name))


async def test_an_exec_that_waits_for_its_dead_agent_holds_nobody_up(host: Host) -> None:
    wanted = pod(container(FOREVER))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    main = ContainerId(host.container(wanted).container_id.removeprefix("containerd://"))
    settings = host.node.settings
    async with Client(settings.containerd_socket, settings.containerd_namespace) as client:
        starting = asyncio.create_task(start_exec_without_reader(client, host, main))
        # Long enough for the shim to have come to the pipes.
        await asyncio.wait([starting], timeout=0.5)
        async with asyncio.timeout(10):
            await host.runtime.sweep([PodUid(wanted.metadata.uid)])
        await starting
    assert "exec-left" not in host.node.containerd.ctr("task", "ps", main)
    assert not list((settings.pipes / main).glob("exec-*"))


async def test_a_shim_that_containerd_has_forgotten_is_ended(host: Host) -> None:
    wanted = pod(container(FOREVER))
    host.apply(wanted)
    await host.until(lambda: host.is_ready(wanted))
    worker = host.pods.find("default", "web")
    assert worker is not None
    settings = host.node.settings
    sandbox, app = worker.observed.sandboxes[0], worker.observed.containers[0]

    def shims() -> list[str]:
        return [shim.id for shim in running(settings.containerd_socket, settings.containerd_namespace)]

    await host.stop()
    # As a killed agent leaves it: nothing runs, the records are gone, and nobody has ended the shim.
    async with Client(settings.containerd_socket, settings.containerd_namespace) as client:
        for each in (app, sandbox):
            os.kill(each.pid, signal.SIGKILL)
            await client.call(client.containers.Delete, containers_pb2.DeleteContainerRequest(id=each.id))
    assert sandbox.id in shims()
    async with Runtime(settings) as runtime:
        runtime.set_network(host.node.network)
        await runtime.sweep([])
    assert sandbox.id not in shims()
    await host.start()
