from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nodeagent.model import ObservedContainer, ObservedPod, PodUid
from nodeagent.pods.checkpoints import Checkpoints
from nodeagent.pods.surroundings import Surroundings
from nodeagent.pods.turns import Turns
from nodeagent.pods.worker import PodWorker
from nodeagent.probes.verdicts import Answer, Result
from nodeagent.volumes.volumes import Volumes
from podwire import v1
from tests.unit.nodeagent.clock import ManualClock, settle
from tests.unit.nodeagent.pods.builders import UID
from tests.unit.nodeagent.pods.scripted_runtime import ScriptedRuntime


class AtOnceCheckpoints(Checkpoints):
    """Written in the event loop: a thread would take time that the test's clock does not know of."""

    async def save(self, pod: v1.Pod, status: v1.PodStatus) -> None:
        kept = v1.Pod(metadata=pod.metadata, spec=pod.spec, status=status)
        self._write(PodUid(pod.metadata.uid), kept.SerializeToString())


@dataclass
class Stage:
    """A node with one pod on it, whose runtime and clock the test moves."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    statuses: list[v1.PodStatus] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    forget_failures: list[Exception] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: Answer(Result.SUCCESS))
    worker: PodWorker | None = None
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.runtime = ScriptedRuntime(self.clock, self._runtime_changed)
        self.checkpoints = AtOnceCheckpoints(self.folder / "pods")
        self.surroundings = Surroundings(
            runtime=self.runtime,
            volumes=Volumes(self.folder / "pods"),
            checkpoints=self.checkpoints,
            asks=self,
            announce=self._announce,
            report=lambda pod, status: self.statuses.append(status),
            turns=Turns(8),
            forget=self._forget,
            clock=self.clock,
            uniform=lambda: 0.5,
            host_ip="10.77.0.11",
        )

    def start(self, pod: v1.Pod, *, observed: ObservedPod | None = None, reported: v1.PodStatus | None = None) -> None:
        """A worker for the pod; by default there is nothing of it yet."""
        there = observed or ObservedPod(PodUid(pod.metadata.uid), "default", "web")
        self.worker = PodWorker(pod, self.surroundings, observed=there, reported=reported)
        self.task = asyncio.create_task(self.worker.run(), name="worker")

    async def stop(self) -> None:
        """The agent is killed."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition without moving the clock: for threads and tasks."""
        for _ in range(2000):
            await settle()
            if condition():
                return
            assert self.task is None or not self.task.done() or condition(), "the worker has ended"
            await asyncio.sleep(0.001)
        raise AssertionError(f"it did not come about; calls so far: {self.runtime.calls}")

    async def until_running(self) -> None:
        await self.until(lambda: bool(self.statuses) and self.status.phase == "Running")

    @property
    def status(self) -> v1.PodStatus:
        return self.statuses[-1]

    @property
    def web(self) -> v1.ContainerStatus:
        return self.status.container_statuses[0]

    def is_ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    async def saved(self) -> v1.Pod | None:
        return (await self.checkpoints.load()).get(UID)

    async def ask(self, probe: v1.Probe, of: v1.Container, running: ObservedContainer, address: str) -> Answer:
        return self.answer

    def _runtime_changed(self) -> None:
        if self.worker is not None:
            self.worker.runtime_changed()

    def _announce(self, pod: v1.Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        self.events.append(f"{reason}: {message}")

    async def _forget(self, pod: v1.Pod) -> None:
        if self.forget_failures:
            raise self.forget_failures.pop(0)
        self.forgotten.append(pod.metadata.uid)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    await made.stop()
