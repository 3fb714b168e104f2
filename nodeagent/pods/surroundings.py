"""What a pod's worker works with: the parts of the agent it calls, as it sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nodeagent.clock import Clock
from nodeagent.containers.lifecycle import Prepared
from nodeagent.containers.specs import Request
from nodeagent.model import Exit, Image, ObservedContainer, ObservedPod, ObservedSandbox, PodUid
from nodeagent.pods.checkpoints import Checkpoints
from nodeagent.pods.turns import Turns
from nodeagent.probes.prober import Asks
from nodeagent.volumes.volumes import Volumes
from podwire import v1


class PodRuntime(Protocol):
    """The part of `nodeagent.runtime.Runtime` that a worker uses."""

    async def observe_pod(self, uid: PodUid) -> ObservedPod: ...

    async def ensure_image(self, reference: str, policy: str, *, pulling: Callable[[], None]) -> Image: ...

    async def run_sandbox(self, pod: v1.Pod, attempt: int) -> ObservedSandbox: ...

    async def prepare_container(self, request: Request) -> Prepared: ...

    async def start_container(self, prepared: Prepared) -> ObservedContainer: ...

    async def stop_container(self, container: ObservedContainer, *, grace: float) -> Exit: ...

    async def remove_container(self, container: ObservedContainer) -> None: ...

    async def remove_sandbox(self, sandbox: ObservedSandbox) -> None: ...

    async def remove_pod(self, uid: PodUid, namespace: str, name: str) -> None: ...


class Announces(Protocol):
    """Makes events of a pod; `container` is the one it is about, if any."""

    def __call__(self, pod: v1.Pod, kind: str, reason: str, message: str, container: str = "") -> None: ...


class ForgetsPods(Protocol):
    """Tells the API that nothing of a pod is left. Raises podwire.errors; that it is gone already is no error."""

    async def __call__(self, pod: v1.Pod) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """`report` takes a pod's status on its way to the API; `uniform` gives random numbers from 0 to 1."""

    runtime: PodRuntime
    volumes: Volumes
    checkpoints: Checkpoints
    asks: Asks
    announce: Announces
    report: Callable[[v1.Pod, v1.PodStatus], None]
    turns: Turns
    forget: ForgetsPods
    clock: Clock
    uniform: Callable[[], float]
    host_ip: str
