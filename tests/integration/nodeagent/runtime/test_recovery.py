"""Kills: of the agent between any two steps, and of containerd under running containers."""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from nodeagent.containerd.client import RuntimeUnavailable
from nodeagent.model import Phase
from nodeagent.runtime import Runtime
from podwire import v1
from tests.integration.nodeagent.runtime.conftest import Node
from tests.integration.nodeagent.runtime.pods import eventually, make_pod, output, run, shell, start, uid_of


async def start_and_be_killed(node: Node, pod: v1.Pod, after: float) -> None:
    """An agent that is killed `after` seconds into the start of the pod."""
    arguments = [pickle.dumps(node.settings).hex(), pod.SerializeToString().hex()]
    agent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.nodeagent.runtime.short_lived_agent",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    assert agent.stdout is not None
    try:
        while (line := await agent.stdout.readline()) != b"ready\n":
            assert line, "the agent ended before it began"
        await asyncio.sleep(after)
    finally:
        agent.kill()
        await agent.wait()


@pytest.mark.parametrize("after_ms", [0, 5, 10, 20, 30, 45, 60, 75, 90, 110, 130, 160, 200, 300, 600])
async def test_a_start_cut_short_by_a_kill_is_simply_done_again(runtime: Runtime, node: Node, after_ms: int) -> None:
    pod = make_pod(share_process_namespace=after_ms % 20 == 0)
    await start_and_be_killed(node, pod, after_ms / 1000)

    sandbox = await runtime.run_sandbox(pod, 0)
    container = await run(runtime, pod, shell("sleep 1000"), sandbox)
    assert await output(runtime, container, "hostname") == pod.metadata.name

    await runtime.remove_pod(uid_of(pod), "default", pod.metadata.name)
    assert node.mounts() == []
    assert node.connected() == set()
    assert pod.metadata.uid not in node.containerd.ctr("snapshots", "ls")


@pytest.mark.parametrize("after_ms", [10, 40, 80, 120, 250, 600])
async def test_what_a_killed_agent_began_is_swept_when_nobody_wants_it(
    runtime: Runtime, node: Node, after_ms: int
) -> None:
    pod = make_pod()
    await start_and_be_killed(node, pod, after_ms / 1000)
    await runtime.sweep(())
    assert await runtime.observe() == {}
    assert node.mounts() == []
    assert node.connected() == set()
    assert pod.metadata.uid not in node.containerd.ctr("snapshots", "ls")
    for folder in (node.settings.sandboxes, node.settings.pipes, node.settings.log_dir):
        assert not folder.exists() or list(folder.iterdir()) == []


async def test_containers_and_their_probes_outlive_a_kill_of_containerd(runtime: Runtime, node: Node) -> None:
    pod = make_pod()
    container = await start(runtime, pod, shell("sleep 1000"))
    async with aclosing(runtime.changes()) as changes:
        assert await anext(changes) is None
        node.containerd.kill()
        with pytest.raises(RuntimeUnavailable):
            await runtime.observe_pod(uid_of(pod))
        node.containerd.start()
        async with asyncio.timeout(30):
            while await anext(changes) is not None:
                pass
    (found,) = (await runtime.observe_pod(uid_of(pod))).containers
    assert (found.phase, found.pid) == (Phase.RUNNING, container.pid)
    assert await output(runtime, container, "hostname") == pod.metadata.name


async def test_an_exit_while_containerd_was_away_keeps_its_code(runtime: Runtime, node: Node) -> None:
    pod = make_pod()
    container = await start(runtime, pod, shell("until test -e /tmp/go; do sleep 0.05; done; exit 9"))
    go = Path(f"/proc/{container.pid}/root/tmp/go")
    node.containerd.kill()
    await asyncio.to_thread(go.touch)

    async def has_exited() -> bool:
        observed = await runtime.observe_pod(uid_of(pod))
        exit = observed.containers[0].exit
        return exit is not None and exit.code == 9

    node.containerd.start()
    await eventually(has_exited)


async def test_a_task_lost_with_the_machine_is_an_exit_that_nobody_saw(runtime: Runtime, node: Node) -> None:
    """A reboot: containerd's state, its shims and everything in /run are gone, its database is there."""
    pod = make_pod()
    await start(runtime, pod, shell("sleep 1000"))
    node.containerd.kill()
    node.containerd.kill_shims()
    node.containerd.start()
    observed = await runtime.observe_pod(uid_of(pod))
    exit = observed.containers[0].exit
    assert exit is not None and exit.code == 137
    assert observed.sandboxes[0].phase is Phase.EXITED
    again = await runtime.run_sandbox(pod, 1)
    assert (await run(runtime, pod, shell("sleep 1000"), again, attempt=1)).phase is Phase.RUNNING


async def test_the_next_agent_sees_what_the_last_one_started(runtime: Runtime, second_runtime: Runtime) -> None:
    pod = make_pod()
    container = await start(runtime, pod, shell("sleep 1000"))

    found = (await second_runtime.observe())[uid_of(pod)]
    (seen,) = found.containers
    assert (seen.id, seen.pid, seen.name, seen.attempt) == (container.id, container.pid, "app", 0)
    assert (seen.image, seen.log_path) == (container.image, container.log_path)
    assert (seen.created_at, seen.started_at) == (container.created_at, container.started_at)
    assert found.sandboxes[0].addresses == ("10.244.9.7",)
    async with aclosing(second_runtime.changes()) as changes:
        assert await anext(changes) is None
        await runtime.stop_container(container, grace=0)
        async with asyncio.timeout(30):
            while await anext(changes) != uid_of(pod):
                pass
