"""docs/clients/python.md, run from top to bottom: what the page says is printed is what is printed."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from podwire import config, v1
from tests.integration.clients.conftest import Server
from tests.integration.controlplane.replica import pod
from tests.integration.podctl.scripted_agent import ScriptedAgent

PAGE = Path(__file__).parents[3] / "docs" / "clients" / "python.md"
# A block of Python, and what it prints where a block of text follows.
BLOCKS = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


class Upper(ScriptedAgent):
    """A node on which every command is `tr a-z A-Z`."""

    async def _execute(self, call: Any, start: v1.ExecStart) -> None:
        while (message := await call.read()).WhichOneof("input") == "stdin":
            await call.write(v1.AgentFrame(exec=v1.ExecOutput(stdout=message.stdin.upper())))
        await call.write(v1.AgentFrame(exec=v1.ExecOutput(exit_code=0)))


@pytest.fixture
async def web(server: Server) -> AsyncIterator[None]:
    """A pod that runs on a node."""
    client = server.client
    agent = Upper(client, "upper")
    running = asyncio.create_task(agent.run(), name="scripted agent")
    async with asyncio.timeout(20):
        await agent.has_session.wait()
    created = await client.pods.create(pod("web"))
    bound = await client.pods.bind("web", "default", created.metadata.uid, agent.node_name)
    status = bound.status.container_statuses.add(name="main", container_id="containerd://main")
    status.state.running.started_at.GetCurrentTime()
    bound.status.phase = "Running"
    await client.pods.update_status(bound)
    yield
    await client.pods.delete("web", namespace="default", grace_period_seconds=0)
    running.cancel()
    await asyncio.wait([running])
    await client.nodes.delete(agent.node_name)


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


async def test_the_python_page_does_what_it_says(
    server: Server, web: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = server.tls
    path = tmp_path / "config"
    path.write_text(f'endpoints: ["{server.address}"]\ntls: {{ca: {tls.ca}, cert: {tls.cert}, key: {tls.key}}}\n')
    monkeypatch.setenv(config.ENVIRONMENT_VARIABLE, str(path))
    blocks = BLOCKS.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("```python")
    names: dict[str, Any] = {}
    for code, printed in blocks:
        assert await execute(code, names) == printed, code
