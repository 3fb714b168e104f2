"""A runtime in memory that does as the test says: for faults and moments that containerd cannot be made to show.

What really runs containers is tested against a real containerd, in tests/integration/nodeagent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nodeagent.clock import Clock
from nodeagent.containerd.records import Record
from nodeagent.containers.lifecycle import Prepared
from nodeagent.containers.specs import Request
from nodeagent.model import (
    ContainerId,
    Exit,
    Image,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    Phase,
    PodUid,
)
from podwire import v1
from tests.unit.nodeagent.pods.builders import IMAGE, UID, attempt


@dataclass
class ScriptedRuntime:
    """`calls` are the steps that were carried out; `failures` (by call) are raised once each; `gates` hold calls up."""

    clock: Clock
    changed: Callable[[], None] = lambda: None
    calls: list[str] = field(default_factory=list)
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    sandboxes: dict[ContainerId, ObservedSandbox] = field(default_factory=dict)
    containers: dict[ContainerId, ObservedContainer] = field(default_factory=dict)
    # Seconds a container takes to end after SIGTERM; None: it ignores it.
    obeys_within: float | None = 0.0
    addresses: int = 1

    async def observe_pod(self, uid: PodUid) -> ObservedPod:
        await self._call("observe_pod")
        return self.now()

    def now(self) -> ObservedPod:
        return ObservedPod(UID, "default", "web", tuple(self.sandboxes.values()), tuple(self.containers.values()))

    async def ensure_image(self, reference: str, policy: str, *, pulling: Callable[[], None]) -> Image:
        if policy == "Always":
            pulling()
        await self._call(f"ensure_image {reference}")
        return IMAGE

    async def run_sandbox(self, pod: v1.Pod, attempt: int) -> ObservedSandbox:
        await self._call(f"run_sandbox {attempt}")
        self.addresses += 1
        made = ObservedSandbox(
            ContainerId(f"{UID}-s{attempt}"),
            UID,
            attempt,
            Phase.RUNNING,
            (f"10.244.1.{self.addresses}",),
            self.clock.now(),
            100,
        )
        self.sandboxes[made.id] = made
        return made

    async def prepare_container(self, request: Request) -> Prepared:
        await self._call(f"prepare_container {request.container.name} {request.attempt}")
        return Prepared(request, Record(), (), ContainerId("sandbox"))

    async def start_container(self, prepared: Prepared) -> ObservedContainer:
        request = prepared.request
        await self._call(f"start_container {request.container.name} {request.attempt}")
        made = replace(
            attempt(
                request.container.name,
                request.attempt,
                role=request.role,
                backoff=request.backoff_seconds,
                sandbox_attempt=request.sandbox_attempt,
                image=request.container.image,
            ),
            created_at=self.clock.now(),
            started_at=self.clock.now(),
        )
        self.containers[made.id] = made
        return made

    async def stop_container(self, container: ObservedContainer, *, grace: float) -> Exit:
        await self._call(f"stop_container {container.name} {grace:g}")
        takes = grace if self.obeys_within is None else min(self.obeys_within, grace)
        if takes:
            await self.clock.sleep(takes)
        code = 143 if self.obeys_within is not None and self.obeys_within <= grace and grace else 137
        return self.exit(container.name, code, tell=False)

    async def remove_container(self, container: ObservedContainer) -> None:
        await self._call(f"remove_container {container.name} {container.attempt}")
        self.containers.pop(container.id, None)

    async def remove_sandbox(self, sandbox: ObservedSandbox) -> None:
        await self._call(f"remove_sandbox {sandbox.attempt}")
        self.sandboxes.pop(sandbox.id, None)

    async def remove_pod(self, uid: PodUid, namespace: str, name: str) -> None:
        await self._call("remove_pod")
        self.sandboxes.clear()
        self.containers.clear()

    def exit(self, name: str, code: int, *, tell: bool = True) -> Exit:
        """The container's process ends."""
        running = next(c for c in self.containers.values() if c.name == name and c.phase is Phase.RUNNING)
        ending = Exit(code, self.clock.now(), "Completed" if code == 0 else "Error")
        self.containers[running.id] = replace(running, phase=Phase.EXITED, exit=ending, pid=0)
        if tell:
            self.changed()
        return ending

    def lose_sandbox(self) -> None:
        """pause dies."""
        for id, sandbox in self.sandboxes.items():
            self.sandboxes[id] = replace(sandbox, phase=Phase.EXITED)
        self.changed()

    async def _call(self, call: str) -> None:
        self.calls.append(call)
        for prefix, gate in self.gates.items():
            if call.startswith(prefix):
                await gate.wait()
        for prefix, failures in self.failures.items():
            if call.startswith(prefix) and failures:
                raise failures.pop(0)
