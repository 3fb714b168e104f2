"""Commands in running containers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from nodeagent.containerd.client import ContainerdError
from nodeagent.containers.exec import ExecProcess
from nodeagent.runtime import Runtime
from tests.integration.nodeagent.runtime.conftest import Node
from tests.integration.nodeagent.runtime.pods import eventually, make_pod, output, shell, start


async def collect(process: ExecProcess) -> dict[str, bytes]:
    collected = {"stdout": b"", "stderr": b""}
    async for stream, data in process:
        collected[stream] += data
    return collected


async def test_a_command_gives_its_output_and_its_exit_code(runtime: Runtime, node: Node) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    async with await runtime.exec(
        container, ["sh", "-c", "echo out; echo err >&2; exit 5"], stdin=False, tty=False
    ) as process:
        assert await collect(process) == {"stdout": b"out\n", "stderr": b"err\n"}
        assert await process.wait() == 5
    assert list((node.settings.pipes / container.id).glob("exec-*")) == []


async def test_a_large_output_arrives_whole_at_a_slow_reader(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    total = 0
    async with await runtime.exec(
        container, ["sh", "-c", "dd if=/dev/zero bs=64k count=200 2> /dev/null"], stdin=False, tty=False
    ) as process:
        # The command ends long before its output is read.
        async for _, data in process:
            total += len(data)
            await asyncio.sleep(0)
        assert await process.wait() == 0
    assert total == 200 << 16


async def test_input_reaches_the_command_until_it_is_closed(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    async with await runtime.exec(container, ["wc", "-c"], stdin=True, tty=False) as process:
        await process.write(b"x" * 300_000)
        await process.close_stdin()
        assert (await collect(process))["stdout"] == b"300000\n"
        assert await process.wait() == 0
    async with await runtime.exec(container, ["cat"], stdin=True, tty=False) as process:
        await process.close_stdin()
        assert await process.wait() == 0


async def test_a_terminal_has_a_size_that_can_change(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    async with await runtime.exec(container, ["sh"], stdin=True, tty=True, size=(33, 99)) as process:
        await process.write(b"stty size; echo $TERM\n")
        seen = b""
        async for stream, data in process:
            assert stream == "stdout"
            seen += data
            if b"33 99" in seen and b"xterm" in seen:
                break
        await process.resize(44, 111)
        await process.write(b"stty size\n")
        async for _, data in process:
            seen += data
            if b"44 111" in seen:
                break
        await process.write(b"exit 9\n")
        assert await process.wait() == 9


async def test_a_command_that_cannot_be_started_is_an_error_and_leaves_nothing(runtime: Runtime, node: Node) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    with pytest.raises(ContainerdError, match="no-such-command"):
        await runtime.exec_probe(container, ["no-such-command"], 5)
    assert list((node.settings.pipes / container.id).glob("exec-*")) == []


async def test_a_probe_that_takes_too_long_is_killed_with_all_its_children(runtime: Runtime, node: Node) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    script = "sleep 7001 & (sleep 7002; true) & sleep 7003"
    result = await runtime.exec_probe(container, ["sh", "-c", script], 0.3)
    assert result.timed_out
    assert "sleep 700" not in await output(runtime, container, "ps")
    assert list((node.settings.pipes / container.id).glob("exec-*")) == []


async def test_a_probe_returns_though_a_child_holds_its_output(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    began = time.monotonic()
    result = await runtime.exec_probe(container, ["sh", "-c", "sleep 7004 & echo started"], 10)
    assert (result.exit_code, result.output) == (0, b"started\n")
    assert time.monotonic() - began < 5
    # What a command starts in the background and leaves is the container's.
    assert "sleep 7004" in await output(runtime, container, "ps")


async def test_of_a_probes_output_ten_kibibytes_are_kept(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    result = await runtime.exec_probe(container, ["sh", "-c", "yes | head -c 1000000"], 20)
    assert (result.exit_code, len(result.output)) == (0, 10 << 10)


async def test_leaving_an_exec_kills_it(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    async with await runtime.exec(container, ["sleep", "7005"], stdin=False, tty=False):
        pass
    assert "sleep 7005" not in await output(runtime, container, "ps")


async def test_execs_that_a_killed_agent_left_are_swept(runtime: Runtime, second_runtime: Runtime, node: Node) -> None:
    pod = make_pod()
    container = await start(runtime, pod, shell("sleep 1000"))
    process = await runtime.exec(container, ["sleep", "7006"], stdin=False, tty=False)
    await process.__aenter__()
    await second_runtime.sweep([container.pod_uid])
    assert "sleep 7006" not in await output(second_runtime, container, "ps")
    assert list((node.settings.pipes / container.id).glob("exec-*")) == []
    await process.__aexit__(None, None, None)


async def test_a_hundred_probes_leave_no_descriptor_and_no_exec(runtime: Runtime, node: Node) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    await runtime.exec_probe(container, ["true"], 10)

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def processes() -> int:
        return len(node.containerd.ctr("tasks", "ps", container.id).splitlines())

    before = open_files(), processes()
    for _ in range(25):
        results = await asyncio.gather(*(runtime.exec_probe(container, ["true"], 20) for _ in range(4)))
        assert [result.exit_code for result in results] == [0] * 4

    async def is_clean() -> bool:
        return (open_files(), processes()) == before

    await eventually(is_clean)
