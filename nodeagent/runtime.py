"""The node's runtime: pods' sandboxes and containers in containerd, observed and changed.

containerd remembers; nothing here has to survive the process. Whoever calls is told what is and does one thing after
another for a pod; different pods at the same time. A call that fails leaves nothing half done, and one that was cut off
by a kill is found by its labels and cleared away by the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Final, NoReturn, Self

import structlog

from cni.runner import Network
from nodeagent.background import Background
from nodeagent.changes import Changes
from nodeagent.containerd import events
from nodeagent.containerd.client import Client, ContainerdError
from nodeagent.containerd.images import Images
from nodeagent.containerd.records import Records
from nodeagent.containers.accounts import AccountsReader
from nodeagent.containers.errors import ContainerError, ImageError, SandboxError
from nodeagent.containers.exec import ExecProcess, ExecResult, Execs, Size
from nodeagent.containers.exits import Exits
from nodeagent.containers.lifecycle import Containers, Prepared
from nodeagent.containers.log_pump import LogPump
from nodeagent.containers.specs import Request, Specs
from nodeagent.image_pulls import ImagePulls
from nodeagent.leftovers import Leftovers
from nodeagent.model import (
    ContainerId,
    Exit,
    Image,
    Mount,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    Phase,
    PodUid,
    Role,
)
from nodeagent.observing import Observer, observed_container
from nodeagent.register import Register
from nodeagent.runtime_settings import RuntimeSettings
from nodeagent.sandboxes.cgroups import Cgroups, Mode
from nodeagent.sandboxes.lifecycle import Sandboxes
from podwire import v1

__all__ = ["ContainerError", "ImageError", "Runtime", "RuntimeSettings", "SandboxError"]

log = structlog.get_logger(__name__)

_RECONNECT: Final = 0.2
"""Seconds between attempts to subscribe; a look at a socket costs nothing."""
_DEFAULT_SIZE: Final = (24, 80)


class Runtime:
    """One node's runtime; an async context manager. Entering it changes nothing of any pod.

    Every method raises RuntimeUnavailable while containerd does not answer.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._changes = Changes()
        self._network: Network | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        cgroups = Cgroups.mounted()
        for folder in (settings.state_dir, settings.run_dir, settings.log_dir, settings.runc_root):
            folder.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as undo:
            self._client = client = await undo.enter_async_context(
                Client(settings.containerd_socket, settings.containerd_namespace)
            )
            owner = await undo.enter_async_context(Background())
            records = Records(client, runc_root=settings.runc_root, snapshotter=settings.snapshotter)
            register = Register(records)
            self._exits = Exits(records, cgroups, owner, self._changes.tell)
            self._execs = Execs(client, records, cgroups, settings.pipes, owner)
            self._pulls = ImagePulls(Images(client), owner)
            self._sandboxes = Sandboxes(settings, records, register, self._exits, cgroups, lambda: self._network)
            self._containers = Containers(
                settings,
                records,
                register,
                self._exits,
                cgroups,
                self._sandboxes,
                AccountsReader(client, records, settings.node_name),
                LogPump(settings.logs_socket),
                Specs(private_cgroups=cgroups.mode is Mode.V2, seccomp_profiles=settings.seccomp_profiles),
            )
            self._observer = Observer(records, register, self._exits, self._sandboxes, self._containers)
            self._leftovers = Leftovers(
                settings,
                client,
                records,
                register,
                self._observer,
                self._sandboxes,
                self._containers,
                self._execs,
                cgroups,
                lambda: self._network,
            )
            owner.create_task(self._follow_events(), name="containerd events")
            self._undo = undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._undo.aclose()

    def set_network(self, network: Network) -> None:
        """Gives the node its pod network, without which only pods of the host's network run."""
        self._network = network

    async def version(self) -> str:
        """Which containerd answers, as in `1.6.20~ds1`."""
        return await self._client.version()

    async def observe(self) -> dict[PodUid, ObservedPod]:
        """All pods. Asks every shim: for the start, and after `changes` has said None."""
        return await self._observer.pods()

    async def observe_pod(self, uid: PodUid) -> ObservedPod:
        """One pod; an empty one where nothing of it is there."""
        return await self._observer.pod(uid)

    def changes(self) -> AsyncGenerator[PodUid | None, None]:
        """The pods whose containers have ended; None, which comes first: look at all, some may have been missed.

        Ends are noticed of containers that this process has started or observed.
        """
        return self._changes.follow()

    async def ensure_image(self, reference: str, policy: str, *, pulling: Callable[[], None]) -> Image:
        """The image, on the node; `policy` is Always, IfNotPresent or Never. `pulling` is called if it is pulled.

        Raises ImageError: InvalidImageName, ErrImageNeverPull or ErrImagePull.
        """
        return await self._pulls.ensure(reference, policy, pulling)

    async def run_sandbox(self, pod: v1.Pod, attempt: int) -> ObservedSandbox:
        """A running sandbox, with its network. What an earlier call left under this attempt is cleared away first.

        Raises SandboxError.
        """
        return await self._sandboxes.run(pod, attempt)

    async def prepare_container(self, request: Request) -> Prepared:
        """What of `run_container` needs no sandbox, to be done while that is made. Raises ContainerError."""
        return await self._containers.prepare(request)

    async def start_container(self, prepared: Prepared) -> ObservedContainer:
        """The rest of `run_container`. Raises ContainerError."""
        started = await self._containers.start(prepared)
        exit = self._exits.noted(ContainerId(started.record.id))
        phase = Phase.EXITED if exit else Phase.RUNNING
        observed = observed_container(started.record, phase=phase, pid=started.pid, exit=exit)
        # As the record says from now on: its start must not look different to whoever observes it later.
        return replace(observed, started_at=started.at)

    async def run_container(
        self,
        pod: v1.Pod,
        container: v1.Container,
        role: Role,
        attempt: int,
        *,
        sandbox: ObservedSandbox,
        image: Image,
        mounts: Sequence[Mount],
        env: Sequence[tuple[str, str]],
        backoff_seconds: float,
    ) -> ObservedContainer:
        """A started container, with the log pump reading its output. It may be over already.

        What an earlier call left under this attempt is cleared away first. Raises ContainerError.
        """
        request = Request(pod, container, role, attempt, sandbox.attempt, image, mounts, env, backoff_seconds)
        return await self.start_container(await self.prepare_container(request))

    async def stop_container(self, container: ObservedContainer, *, grace: float) -> Exit:
        """Sends the stop signal, and SIGKILL after `grace` seconds to all that is in the container; how it ended."""
        return await self._containers.stop(container.id, container.pod_uid, grace)

    async def remove_container(self, container: ObservedContainer) -> None:
        """Removes a container and its logs; one that runs is killed."""
        await self._containers.remove(container.id, container.pod_uid, container.log_path)
        self._execs.forget(container.id)

    async def remove_sandbox(self, sandbox: ObservedSandbox) -> None:
        """Removes a sandbox, whose containers must be over: pause, network, namespaces, files."""
        await self._sandboxes.remove(sandbox.id, sandbox.pod_uid)

    async def remove_pod(self, uid: PodUid, namespace: str, name: str) -> None:
        """Removes everything of a pod, running or not, in containerd and on disk."""
        await self._leftovers.remove_pod(uid)
        log.debug("nothing of the pod is left", pod=f"{namespace}/{name}")

    async def sweep(self, keep: Collection[PodUid]) -> None:
        """At start: removes what a killed agent left, and all pods but those in `keep`."""
        await self._leftovers.sweep(keep)

    async def exec_probe(self, container: ObservedContainer, command: Sequence[str], timeout: float) -> ExecResult:
        """Runs a command in the container for at most `timeout` seconds; nothing of it runs on after that.

        Raises ContainerdError where it cannot be started.
        """
        return await self._execs.probe(container.id, self._cgroup(container), command, timeout)

    async def exec(
        self,
        container: ObservedContainer,
        command: Sequence[str],
        *,
        stdin: bool,
        tty: bool,
        size: Size | None = None,
    ) -> ExecProcess:
        """A command in the container, to be entered as a context; `size` is (rows, columns) of its terminal.

        Entering raises ContainerdError where it cannot be started.
        """
        terminal = (size or _DEFAULT_SIZE) if tty else None
        return self._execs.open(container.id, self._cgroup(container), command, stdin=stdin, size=terminal)

    def _cgroup(self, container: ObservedContainer) -> str:
        return self._settings.cgroup(container.pod_uid, container.id)

    async def _follow_events(self) -> NoReturn:
        interrupted = False
        while True:
            try:
                async for event in events.subscribe(self._client):
                    match event:
                        case events.Subscribed():
                            interrupted = False
                            log.info("following containerd's events")
                            self._changes.tell(None)
                        case events.ProcessExited(container_id, exec_id, code, at) if not exec_id:
                            self._exits.note(ContainerId(container_id), code, at)
            except ContainerdError as error:
                if not interrupted:
                    log.warning("containerd's events interrupted", error=str(error))
                interrupted = True
            await asyncio.sleep(_RECONNECT)
