"""Making and removing sandboxes: namespaces, network, cgroup, pause.

What takes long is done at the same time: the network is set up while containerd starts pause, since the namespaces are
pinned before both. A call first clears away what an earlier one left of the same attempt; one that fails, its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from cni.errors import CniError
from cni.runner import Network, PortMapping
from nodeagent import labels
from nodeagent.containerd.client import ContainerdError, RuntimeUnavailable
from nodeagent.containerd.events import moment
from nodeagent.containerd.records import Record, Records
from nodeagent.containers import oci
from nodeagent.containers.errors import SandboxError
from nodeagent.containers.exits import Exits
from nodeagent.model import ContainerId, ObservedSandbox, Phase, PodUid, Role
from nodeagent.register import SANDBOX, Register
from nodeagent.runtime_settings import RuntimeSettings
from nodeagent.sandboxes import files, namespaces, pause
from nodeagent.sandboxes.cgroups import Cgroups, Mode
from podwire import v1

log = structlog.get_logger(__name__)

_SHM: Final = "shm"
_SHM_BYTES: Final = 64 << 20
"""Docker's and containerd's size of /dev/shm."""
_UNDO_SECONDS: Final = 30.0
_NO_NETWORK: Final = "the node's network is not ready: it has no pod CIDR yet"


def pins(pod: v1.Pod, folder: Path) -> dict[str, Path | None]:
    """A pod's namespaces by their OCI types, and where each is pinned; what a container joins.

    A type that is missing is the host's; None is the container's own. With the host's network come the host's name and
    therefore its UTS namespace, as in Kubernetes' runtimes.
    """
    spec = pod.spec
    found: dict[str, Path | None] = {}
    if not spec.host_network:
        found["network"] = folder / "net"
        found["uts"] = folder / "uts"
    if not spec.host_ipc:
        found["ipc"] = folder / "ipc"
    if not spec.host_pid:
        found["pid"] = folder / "pid" if spec.share_process_namespace else None
    return found


class Sandboxes:
    """The sandboxes of one node. `network` gives the pod network, or None while the node has none yet."""

    def __init__(
        self,
        settings: RuntimeSettings,
        records: Records,
        register: Register,
        exits: Exits,
        cgroups: Cgroups,
        network: Callable[[], Network | None],
    ) -> None:
        self._settings = settings
        self._records = records
        self._register = register
        self._exits = exits
        self._cgroups = cgroups
        self._network = network
        self._pause_root = pause.prepare_root(settings.pause_root)

    def folder(self, sandbox: ContainerId) -> Path:
        """What belongs to one sandbox: its pins, its shm, and the files of its containers."""
        return self._settings.sandboxes / sandbox

    def surroundings(self, pod: v1.Pod, sandbox: ContainerId, container: ContainerId) -> oci.Surroundings:
        """What `container` finds in the sandbox; known before any of it is there."""
        folder = self.folder(sandbox)
        return oci.Surroundings(
            namespaces=pins(pod, folder),
            group=sandbox,
            cgroup=self._settings.cgroup(PodUid(pod.metadata.uid), container),
            files={f"/etc/{name}": folder / name for name in ("hosts", "hostname", "resolv.conf")},
            shm=Path("/dev/shm") if pod.spec.host_ipc else folder / _SHM,
        )

    def expect(self, id: ContainerId, uid: PodUid) -> None:
        """Has the end of the sandbox's pause noticed. Its task stays until the sandbox is removed, after all others."""
        self._exits.expect(id, uid, self._settings.cgroup(uid, id))

    async def run(self, pod: v1.Pod, attempt: int) -> ObservedSandbox:
        """A running sandbox with its addresses. Raises SandboxError, RuntimeUnavailable."""
        uid = PodUid(pod.metadata.uid)
        network = None if pod.spec.host_network else self._network()
        if network is None and not pod.spec.host_network:
            raise SandboxError(_NO_NETWORK)
        for earlier in await self._register.tries(uid, SANDBOX, attempt):
            await self.remove(earlier, uid)
        id = self._register.sandbox(uid, attempt)
        self._register.add(uid, SANDBOX, attempt, id)
        try:
            return await self._run(pod, id, attempt, network)
        except BaseException as error:
            await asyncio.shield(self._undo(id, uid))
            failure: BaseException = error
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            if isinstance(failure, (ContainerdError, CniError, OSError)) and not isinstance(
                failure, RuntimeUnavailable
            ):
                raise SandboxError(str(failure)) from failure
            raise failure from None

    async def remove(self, id: ContainerId, uid: PodUid) -> None:
        """Removes all of a sandbox, however much of it is there; the record that remembers it last.

        Raises SandboxError, ContainerdError, CniError, OSError: then it is to be called again.
        """
        await self._end(id, uid)
        network = self._network()
        folder = self.folder(id)
        if network is not None:
            await network.delete(id, folder / "net")
        elif (folder / "net").exists():
            raise SandboxError(_NO_NETWORK)
        namespaces.remove(folder)
        await self._cgroups.remove(self._settings.cgroup(uid, id))
        await self._exits.forget(id)
        await self._records.delete(id)
        self._register.drop(uid, id)

    async def _run(self, pod: v1.Pod, id: ContainerId, attempt: int, network: Network | None) -> ObservedSandbox:
        uid = PodUid(pod.metadata.uid)
        async with asyncio.TaskGroup() as owner:
            making = owner.create_task(self._record(pod, id, attempt), name=f"record of {id}")
            owner.create_task(self._prepare_folder(pod, id), name=f"folder of {id}")
        record = making.result()
        async with asyncio.TaskGroup() as owner:
            connecting = owner.create_task(self._connect(pod, id, network), name=f"network of {id}")
            creating = owner.create_task(self._create_pause(pod, id, uid), name=f"pause of {id}")
        # Written down with the start and not before: from then on a missing task is a lost one.
        started = {
            labels.ADDRESSES: " ".join(connecting.result()),
            labels.STARTED_AT: labels.now().isoformat(),
        }
        async with asyncio.TaskGroup() as owner:
            owner.create_task(self._records.start_task(id), name=f"start of {id}")
            owner.create_task(self._records.set_labels(id, started), name=f"labels of {id}")
        return labels.observed_sandbox(
            id,
            {**record.labels, **started},
            phase=Phase.RUNNING,
            created_at=moment(record.created_at),
            pid=creating.result(),
        )

    async def _record(self, pod: v1.Pod, id: ContainerId, attempt: int) -> Record:
        surroundings = self.surroundings(pod, id, id)
        if "pid" in surroundings.namespaces:
            # A shared one is pause's own, in which it is the first process and reaps.
            surroundings = replace(surroundings, namespaces={**surroundings.namespaces, "pid": None})
        spec = oci.pause_spec(
            self._pause_root,
            pause.COMMAND,
            surroundings,
            {sysctl.name: sysctl.value for sysctl in pod.spec.security_context.sysctls},
            private_cgroups=self._cgroups.mode is Mode.V2,
        )
        return await self._records.create(id, spec, _labels(pod, attempt))

    async def _prepare_folder(self, pod: v1.Pod, id: ContainerId) -> None:
        folder = self.folder(id)
        kinds = tuple(pin.name for pin in pins(pod, folder).values() if pin is not None and pin.name != "pid")
        await namespaces.create(folder, kinds, hostname=files.hostname(pod))
        if not pod.spec.host_ipc:
            namespaces.mount_shm(folder / _SHM, _SHM_BYTES)

    async def _connect(self, pod: v1.Pod, id: ContainerId, network: Network | None) -> tuple[str, ...]:
        """The network, and the files that name the pod's addresses."""
        addresses: tuple[str, ...] = ()
        if network is not None:
            result = await network.add(
                id,
                self.folder(id) / "net",
                args=_cni_arguments(pod, id),
                port_mappings=port_mappings(pod),
            )
            addresses = result.addresses
        self._write_files(pod, id, addresses)
        return addresses

    def _write_files(self, pod: v1.Pod, id: ContainerId, addresses: tuple[str, ...]) -> None:
        texts = {
            "hosts": files.hosts(pod, addresses, _text(self._settings.hosts) if pod.spec.host_network else ""),
            "hostname": f"{files.hostname(pod)}\n",
            "resolv.conf": files.resolv_conf(pod, _text(self._settings.resolv_conf)),
        }
        for name, text in texts.items():
            (self.folder(id) / name).write_text(text)

    async def _create_pause(self, pod: v1.Pod, id: ContainerId, uid: PodUid) -> int:
        self.expect(id, uid)
        pid = await self._records.create_task(id)
        if pod.spec.share_process_namespace and not pod.spec.host_pid:
            namespaces.pin_pid_namespace(pid, self.folder(id) / "pid")
        self._exits.watch(id, pid)
        return pid

    async def _end(self, id: ContainerId, uid: PodUid) -> None:
        """Kills pause and deletes its task, and with the last task of its group the shim."""
        task = await self._records.task(id)
        if task is None:
            return
        await self._cgroups.kill(self._settings.cgroup(uid, id))
        await self._records.reap_task(id)

    async def _undo(self, id: ContainerId, uid: PodUid) -> None:
        try:
            async with asyncio.timeout(_UNDO_SECONDS):
                await self.remove(id, uid)
        except (SandboxError, ContainerdError, CniError, OSError) as error:
            # The record is still there: the next attempt, or the pod's removal, goes on from it.
            log.warning("sandbox not cleared away", sandbox=id, error=str(error))


def port_mappings(pod: v1.Pod) -> list[PortMapping]:
    """The ports of the node that the pod asks for."""
    return [
        PortMapping(port.host_port, port.container_port, port.protocol or "TCP", port.host_ip)
        for container in (*pod.spec.init_containers, *pod.spec.containers)
        for port in container.ports
        if port.host_port
    ]


def _labels(pod: v1.Pod, attempt: int) -> dict[str, str]:
    return {
        labels.POD_UID: pod.metadata.uid,
        labels.POD_NAMESPACE: pod.metadata.namespace,
        labels.POD_NAME: pod.metadata.name,
        labels.ROLE: Role.SANDBOX,
        labels.ATTEMPT: str(attempt),
    }


def _cni_arguments(pod: v1.Pod, id: ContainerId) -> Mapping[str, str]:
    """What Kubernetes' runtimes tell plugins in CNI_ARGS."""
    return {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": pod.metadata.namespace,
        "K8S_POD_NAME": pod.metadata.name,
        "K8S_POD_INFRA_CONTAINER_ID": id,
        "K8S_POD_UID": pod.metadata.uid,
    }


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
