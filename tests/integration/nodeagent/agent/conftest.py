"""Workers on a real containerd, without a control plane: what they would report and announce is kept for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import pytest_asyncio

from nodeagent.clock import SystemClock
from nodeagent.model import PodUid
from nodeagent.pods.checkpoints import Checkpoints
from nodeagent.pods.pods import Pods
from nodeagent.pods.surroundings import Surroundings
from nodeagent.pods.turns import Turns
from nodeagent.probes.actions import Actions
from nodeagent.runtime import Runtime
from nodeagent.volumes.volumes import Volumes
from podwire import v1
from tests.integration.nodeagent.runtime.conftest import Node, containerd, logs_socket, node

__all__ = ["containerd", "logs_socket", "node"]


class Host:
    """A node with everything of an agent but its connection to a control plane."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.statuses: dict[str, list[v1.PodStatus]] = {}
        self.events: list[str] = []
        self.forgotten: set[str] = set()
        self.pods: Pods
        self.runtime: Runtime
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """An agent starts, with whatever one before it left."""
        self._undo = AsyncExitStack()
        self.runtime = await self._undo.enter_async_context(Runtime(self.node.settings))
        self.runtime.set_network(self.node.network)
        actions = await self._undo.enter_async_context(Actions(self.runtime))
        folder = self.node.settings.state_dir / "pods"
        checkpoints = Checkpoints(folder)
        self.pods = Pods(
            Surroundings(
                runtime=self.runtime,
                volumes=Volumes(folder),
                checkpoints=checkpoints,
                asks=actions,
                announce=self._announce,
                report=lambda pod, status: self.statuses.setdefault(pod.metadata.uid, []).append(status),
                turns=Turns(8),
                forget=self._forget,
                clock=SystemClock(),
                uniform=lambda: 0.0,
                host_ip="192.0.2.1",
            )
        )
        left, observed = await checkpoints.load(), await self.runtime.observe()
        self._tasks = [
            asyncio.create_task(self.pods.run(left, observed), name="pods"),
            asyncio.create_task(self._follow(), name="changes"),
        ]
        self.pods.open()

    async def stop(self, *, sweep: bool = False) -> None:
        """The agent ends, and its pods go on, or are swept away."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if sweep:
            await self.runtime.sweep(())
        await self._undo.aclose()

    def apply(self, pod: v1.Pod) -> None:
        self.pods.changed("", None, pod)

    def delete(self, pod: v1.Pod, grace: int = 0) -> None:
        deleted = v1.Pod()
        deleted.CopyFrom(pod)
        deleted.metadata.deletion_timestamp.GetCurrentTime()
        deleted.metadata.deletion_grace_period_seconds = grace
        self.pods.changed("", pod, deleted)

    def status(self, pod: v1.Pod) -> v1.PodStatus:
        return self.statuses.get(pod.metadata.uid, [v1.PodStatus()])[-1]

    def container(self, pod: v1.Pod, name: str = "main") -> v1.ContainerStatus:
        found = [c for c in self.status(pod).container_statuses if c.name == name]
        return found[0] if found else v1.ContainerStatus()

    def is_ready(self, pod: v1.Pod) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status(pod).conditions)

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            # Files and containerd tell no event.
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def _announce(self, pod: v1.Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        self.events.append(f"{reason}: {message}")

    async def _forget(self, pod: v1.Pod) -> None:
        self.forgotten.add(PodUid(pod.metadata.uid))

    async def _follow(self) -> None:
        async for uid in self.runtime.changes():
            self.pods.runtime_changed(uid)


@pytest_asyncio.fixture
async def host(node: Node) -> AsyncIterator[Host]:
    made = Host(node)
    await made.start()
    yield made
    await made.stop(sweep=True)
