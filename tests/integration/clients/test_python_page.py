"""docs/clients/python.md, run from top to bottom: what the page says is printed is printed; and the examples."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from podwire import config, v1
from podwire.client import Client
from tests.integration.clients.conftest import Server, run
from tests.integration.controlplane.replica import pod
from tests.integration.podctl.scripted_agent import ScriptedAgent

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "clients" / "python.md"
# A block of Python, and what it prints where a block of text follows.
BLOCKS = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


class Upper(ScriptedAgent):
    """A node on which every command is `tr a-z A-Z`."""

    async def _execute(self, call: Any, start: v1.ExecStart) -> None:
        while (message := await call.read()).WhichOneof("input") == "stdin":
            await call.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=message.stdin.upper())))
        await call.write(v1.AgentFrame(exec=v1.ExecOutput(exit_code=0)))


@pytest.fixture
async def agent(server: Server) -> AsyncIterator[Upper]:
    agent = Upper(server.client, "upper")
    running = asyncio.create_task(agent.run(), name="scripted agent")
    async with asyncio.timeout(20):
        await agent.has_session.wait()
    yield agent
    running.cancel()
    await asyncio.wait([running])
    await server.client.nodes.delete(agent.node_name)


async def run_on(agent: Upper, client: Client, created: v1.Pod, *, phase: str) -> None:
    """The pod gets to the agent's node, and as far as `phase`."""
    bound = await client.pods.bind(created.metadata.name, "default", created.metadata.uid, agent.node_name)
    for container in bound.spec.containers:
        status = bound.status.container_statuses.add(name=container.name, container_id=f"containerd://{container.name}")
        status.state.running.started_at.GetCurrentTime()
    bound.status.phase = phase
    await client.pods.update_status(bound)


@pytest.fixture
async def config_file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `config.load()` finds, here and in programs that a test starts."""
    tls = server.tls
    path = tmp_path / "config"
    path.write_text(f'endpoints: ["{server.address}"]\ntls: {{ca: {tls.ca}, cert: {tls.cert}, key: {tls.key}}}\n')
    monkeypatch.setenv(config.ENVIRONMENT_VARIABLE, str(path))


async def execute(code: str, names: dict[str, Any]) -> str:
    """What `code` prints; it may await at the top level."""
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if "blocking" in code:
            # The server is in this loop, which must not wait for itself.
            await asyncio.to_thread(exec, compiled, names)
        elif (awaited := eval(compiled, names)) is not None:
            async with asyncio.timeout(30):
                await awaited
    return printed.getvalue()


async def test_the_python_page_does_what_it_says(server: Server, agent: Upper, config_file: None) -> None:
    client = server.client
    await run_on(agent, client, await client.pods.create(pod("web")), phase="Running")
    blocks = BLOCKS.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("```python")
    names: dict[str, Any] = {}
    for code, printed in blocks:
        assert await execute(code, names) == printed, code
    await client.pods.delete("web", namespace="default", grace_period_seconds=0)


@pytest.mark.parametrize(("example", "logs"), [("follow_pod.py", []), ("follow_pod_blocking.py", ["one", "two"])])
async def test_an_example_follows_a_pod_to_its_end(
    server: Server, agent: Upper, config_file: None, example: str, logs: list[str]
) -> None:
    client = server.client
    following = asyncio.create_task(run(sys.executable, ROOT / "examples" / example))
    async with asyncio.timeout(60), aclosing(client.pods.watch(send_initial_events=True)) as events:
        async for event in events:
            if event.type == "ADDED":
                await run_on(agent, client, event.object, phase="Succeeded")
                break
    printed = await following
    assert (printed[0], printed[-1 - len(logs)], printed[len(printed) - len(logs) :]) == (
        "ADDED Pending",
        "MODIFIED Succeeded",
        logs,
    )
    await client.pods.delete("hello", namespace="default", grace_period_seconds=0)
