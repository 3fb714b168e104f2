"""How containers end, and how that is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

from nodeagent.model import ObservedContainer, Phase
from nodeagent.runtime import Runtime
from podwire import v1
from tests.integration.nodeagent.runtime.pods import IMAGE, eventually, make_pod, output, run, shell, start, uid_of


async def trapping(runtime: Runtime, number: str, **fields: Any) -> ObservedContainer:
    """A container that exits with 7 on a signal."""
    script = f"trap 'exit 7' {number}; touch /tmp/ready; while true; do sleep 0.05; done"
    container = await start(runtime, make_pod(), shell(script, **fields))

    async def is_ready() -> bool:
        return await output(runtime, container, "test -e /tmp/ready && echo yes") == "yes"

    await eventually(is_ready)
    return container


async def test_a_container_that_ends_when_asked_is_not_killed(runtime: Runtime) -> None:
    exit = await runtime.stop_container(await trapping(runtime, "TERM"), grace=30)
    assert (exit.code, exit.reason) == (7, "Error")


async def test_the_signal_is_the_one_that_the_container_names(runtime: Runtime) -> None:
    container = await trapping(runtime, "QUIT", lifecycle=v1.Lifecycle(stop_signal="SIGQUIT"))
    assert (await runtime.stop_container(container, grace=30)).code == 7


async def test_a_container_that_ignores_the_signal_is_killed_after_its_grace(runtime: Runtime) -> None:
    container = await start(runtime, make_pod(), shell("sleep 1000"))
    exit = await runtime.stop_container(container, grace=0.3)
    assert (exit.code, exit.reason) == (137, "Error")


async def test_stopping_again_says_how_it_ended(runtime: Runtime) -> None:
    container = await trapping(runtime, "TERM")
    first, second = await asyncio.gather(
        runtime.stop_container(container, grace=30), runtime.stop_container(container, grace=30)
    )
    assert first == second == await runtime.stop_container(container, grace=30)


async def test_a_container_of_an_agent_that_was_killed_can_be_stopped_by_the_next(
    runtime: Runtime, second_runtime: Runtime
) -> None:
    container = await trapping(runtime, "TERM")
    assert (await second_runtime.stop_container(container, grace=30)).code == 7


async def test_an_end_is_told_at_once(runtime: Runtime) -> None:
    pod = make_pod()
    async with aclosing(runtime.changes()) as changes:
        assert await anext(changes) is None
        container = await start(runtime, pod, shell("sleep 1000"))
        os.kill(container.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while await anext(changes) != uid_of(pod):
                pass
    (found,) = (await runtime.observe_pod(uid_of(pod))).containers
    assert found.phase is Phase.EXITED and found.exit is not None and found.exit.code == 137


async def test_the_end_of_pause_is_the_end_of_the_sandbox(runtime: Runtime) -> None:
    pod = make_pod()
    sandbox = await runtime.run_sandbox(pod, 0)
    container = await run(runtime, pod, shell("sleep 1000"), sandbox)
    os.kill(sandbox.pid, signal.SIGKILL)

    async def is_over() -> bool:
        return (await runtime.observe_pod(uid_of(pod))).sandboxes[0].phase is Phase.EXITED

    await eventually(is_over)
    assert (await runtime.stop_container(container, grace=0)).code == 137
    await runtime.remove_container(container)
    await runtime.remove_sandbox(sandbox)
    again = await runtime.run_sandbox(pod, 1)
    assert (await run(runtime, pod, shell("sleep 1000"), again, image=IMAGE, attempt=1)).phase is Phase.RUNNING


async def test_the_death_of_the_shim_ends_everything_of_the_pod(runtime: Runtime) -> None:
    pod = make_pod()
    sandbox = await runtime.run_sandbox(pod, 0)
    await run(runtime, pod, shell("sleep 1000"), sandbox)
    shim = int(Path(f"/proc/{sandbox.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)

    async def is_over() -> bool:
        observed = await runtime.observe_pod(uid_of(pod))
        return {observed.sandboxes[0].phase, observed.containers[0].phase} == {Phase.EXITED}

    await eventually(is_over)
    await runtime.remove_pod(uid_of(pod), "default", pod.metadata.name)
    assert (await runtime.observe_pod(uid_of(pod))).containers == ()
