"""A lab is gone without a trace, whatever state it was in."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from lab import images
from lab.errors import LabError
from lab.lab import CHECKOUT, Lab
from lab.plan import Plan
from tests.integration.lab.traces import shim_sockets, traces

pytestmark = pytest.mark.root

# How far `up` has come when it is killed, told by what it has left on the machine by then.
MOMENTS: dict[str, Callable[[Plan], bool]] = {
    "the plan is written": lambda plan: plan.file.exists(),
    "the bridge is there": lambda plan: plan.switch.exists(),
    "the last host is there": lambda plan: plan.node_hosts[-1].netns.exists(),
    "containerd is starting": lambda plan: plan.node_hosts[0].pidfile("containerd").exists(),
    "etcd runs": lambda plan: plan.controlplane.pidfile("controlplane").exists(),
    "the agent is starting": lambda plan: plan.node_hosts[0].pidfile("agent").exists(),
}


async def kill_up_when(plan: Plan, reached: Callable[[Plan], bool]) -> None:
    """Starts `podwire-lab up` and kills it with SIGKILL once it has come so far."""
    up = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lab", "up", "--name", plan.name, "--nodes", str(plan.nodes), cwd=CHECKOUT
    )
    async with asyncio.timeout(60):
        # A file that appears in a folder that does not exist yet: looking is the only way to know.
        while not reached(plan):
            assert up.returncode is None, "up ended before it had come so far"
            await asyncio.sleep(0.001)
    up.send_signal(signal.SIGKILL)
    await up.wait()


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_up_that_was_killed_is_taken_back_by_down(unborn_lab: Lab, moment: str) -> None:
    plan = unborn_lab.plan
    await kill_up_when(plan, MOMENTS[moment])
    assert traces(plan.name)
    await Lab.existing(plan.name).down()
    assert traces(plan.name) == []


async def test_an_up_that_was_killed_is_completed_by_the_next(unborn_lab: Lab) -> None:
    await kill_up_when(unborn_lab.plan, MOMENTS["containerd is starting"])
    await unborn_lab.up()
    assert None not in unborn_lab.running().values()


async def test_an_up_that_fails_says_what_failed(unborn_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise OSError("no space left")

    monkeypatch.setattr(images, "build_all", fail)
    with pytest.raises(LabError, match=r"^no space left$"):
        await unborn_lab.up()


async def test_down_with_containers_and_strangers_on_a_node_leaves_nothing(unborn_lab: Lab) -> None:
    await unborn_lab.up()
    plan = unborn_lab.plan
    node = plan.node_hosts[0]
    runc = f"--runc-root={node.run / 'runc'}"
    registries = f"--hosts-dir={node.data / 'registries'}"
    image = "docker.io/library/busybox:latest"
    for command in (
        ["ctr", "image", "pull", registries, image],
        ["ctr", "run", "--detach", runc, f"--cgroup={node.cgroup}/x", image, "left", "sh", "-c", "sleep 600"],
    ):
        done = unborn_lab.run(node, command)
        assert done.returncode == 0, done.stderr
    stranger = await asyncio.create_subprocess_exec(*unborn_lab.command(node, ["sleep", "600"]))
    sockets = shim_sockets(plan.name)
    assert sockets
    assert [socket for socket in sockets if not socket.exists()] == []
    await unborn_lab.down()
    assert await stranger.wait() == -signal.SIGKILL
    assert traces(plan.name) == []
    assert [socket for socket in sockets if socket.exists()] == []


async def test_a_frozen_container_does_not_keep_down_from_ending(unborn_lab: Lab) -> None:
    await unborn_lab.up()
    node = unborn_lab.plan.node_hosts[0]
    runc = f"--runc-root={node.run / 'runc'}"
    image = "docker.io/library/busybox:latest"
    for command in (
        ["ctr", "image", "pull", f"--hosts-dir={node.data / 'registries'}", image],
        ["ctr", "run", "--detach", runc, f"--cgroup={node.cgroup}/x", image, "frozen", "sh", "-c", "sleep 600"],
        ["ctr", "task", "pause", "frozen"],
    ):
        done = unborn_lab.run(node, command)
        assert done.returncode == 0, done.stderr
    await unborn_lab.down()
    assert traces(unborn_lab.plan.name) == []


async def test_down_of_what_down_has_removed_changes_nothing(unborn_lab: Lab) -> None:
    await unborn_lab.down()
    assert traces(unborn_lab.plan.name) == []
