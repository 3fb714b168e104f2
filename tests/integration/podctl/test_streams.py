"""Logs and exec, with a real terminal on podctl's side and a scripted agent on the other."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios

import pytest

from podwire import v1
from podwire.client import Client
from tests.integration.podctl.command import Podctl
from tests.integration.podctl.scripted_agent import ScriptedAgent

TWO = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: main, image: nginx}
  - {name: side, image: nginx}
"""


@pytest.fixture
async def pod(podctl: Podctl, client: Client, agent: ScriptedAgent) -> v1.Pod:
    """A pod of two containers that the scripted agent has."""
    await podctl("apply", "-f", "-", stdin=TWO)
    pod = await client.pods.get("web", namespace=podctl.namespace)
    bound = await client.pods.bind("web", podctl.namespace, pod.metadata.uid, agent.node_name)
    for container in bound.spec.containers:
        status = bound.status.container_statuses.add(name=container.name, container_id=f"containerd://{container.name}")
        status.state.running.started_at.GetCurrentTime()
    bound.status.phase = "Running"
    return await client.pods.update_status(bound)


async def test_logs_are_passed_on_with_what_was_asked_for(podctl: Podctl, agent: ScriptedAgent, pod: v1.Pod) -> None:
    output = await podctl("logs", "web")
    assert output.out == "one\ntwo\n"
    assert output.err == 'Defaulted container "main" out of: main, side\n'
    await podctl("logs", "web", "-c", "side", "--tail=5", "--timestamps", "-f", "-p")
    request = agent.log_requests[-1]
    assert (request.name, request.container, request.tail_lines) == ("web", "side", 5)
    assert request.timestamps and request.follow and request.previous
    assert "no container" in (await podctl("logs", "web", "x", status=1)).err


async def test_the_commands_status_is_podctls_and_its_streams_stay_apart(
    podctl: Podctl, agent: ScriptedAgent, pod: v1.Pod
) -> None:
    output = await podctl("exec", "web", "-c", "side", "ls", "-l", "-n", status=7)
    assert (output.out, output.err) == ("", "ls -l -n\r\ncommand terminated with exit code 7\n")
    start = agent.exec_starts[-1]
    assert (start.container, list(start.command), start.stdin, start.tty) == ("side", ["ls", "-l", "-n"], False, False)


async def test_stdin_is_passed_on_to_its_end(podctl: Podctl, agent: ScriptedAgent, pod: v1.Pod) -> None:
    text = "hello\n" * 50_000
    output = await podctl("exec", "-i", "web", "-c", "main", "--", "cat", stdin=text, status=7)
    assert output.out == text.upper()


async def test_without_a_terminal_t_is_dropped_with_a_warning(
    podctl: Podctl, agent: ScriptedAgent, pod: v1.Pod
) -> None:
    output = await podctl("exec", "-it", "web", "-c", "main", "--", "cat", stdin="x", status=7)
    assert output.out == "X" and "Unable to use a TTY" in output.err
    assert not agent.exec_starts[-1].tty


async def test_a_terminal_is_raw_and_its_size_follows(podctl: Podctl, agent: ScriptedAgent, pod: v1.Pod) -> None:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *podctl.argv("-n", podctl.namespace, "exec", "-it", "web", "-c", "main", "--", "sh"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=podctl.environment,
    )
    loop = asyncio.get_running_loop()
    screen = b""
    came = asyncio.Event()

    def read() -> None:
        nonlocal screen
        screen += os.read(master, 1 << 16)
        came.set()

    async def until(text: bytes) -> None:
        while text not in screen:
            came.clear()
            await came.wait()

    loop.add_reader(master, read)
    try:
        async with asyncio.timeout(20):
            await until(b"sh\r\n")
            assert agent.exec_starts[-1].tty
            assert (agent.exec_starts[-1].size.rows, agent.exec_starts[-1].size.columns) == (40, 100)
            # Raw: control characters are for the command, and there is no echo but its own.
            os.write(master, b"ab\x03")
            await until(b"AB\x03")
            assert b"ab" not in screen
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
            # The kernel sends it only to those whose controlling terminal this is.
            process.send_signal(signal.SIGWINCH)
            assert await agent.sizes.get() == (50, 120)
            os.write(master, b"exit\r")
            assert await process.wait() == 7
        assert termios.tcgetattr(terminal)[3] & termios.ECHO, "the terminal is as it was"
    finally:
        loop.remove_reader(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)
        os.close(terminal)


async def test_an_exec_in_a_pod_without_a_node_is_one_line_of_error(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=TWO)
    output = await podctl("exec", "web", "-c", "main", "--", "true", status=1)
    assert output.err.startswith(("error: ", "Error from server"))
    assert len(output.err.splitlines()) == 1


async def test_a_services_name_stands_for_one_of_its_pods(
    podctl: Podctl, client: Client, agent: ScriptedAgent, pod: v1.Pod
) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}"
    await podctl("apply", "-f", "-", stdin=service)
    assert (await podctl("logs", "svc/web", "-c", "main")).out == "one\ntwo\n"
