"""The floor under a pod's start: what containerd itself takes for pause and one container, and nothing else.

Through its API directly and under one lease: Snapshots.Prepare (not for pause), Containers.Create, Tasks.Create,
Tasks.Start, for pause and then for a container in its namespaces and its shim; no network, no pipes, no hardening. It
runs on the node's own containerd, between the benchmark's pods, so that both meet the same disk and the same noise.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from lab.plan import Host
from nodeagent.containerd.client import Client
from nodeagent.containerd.images import Images
from nodeagent.containerd.leases import held
from nodeagent.containerd.records import Records
from nodeagent.containerd.references import parse
from nodeagent.containers.oci import GROUP_ANNOTATION, VERSION
from nodeagent.sandboxes.cgroups import Cgroups
from nodeagent.sandboxes.pause import COMMAND, prepare_root

_NAMESPACE: Final = "k8s.io"
_SNAPSHOTTER: Final = "overlayfs"
_OWN: Final = ("network", "ipc", "uts", "pid", "mount")
_JOINED: Final = {"network": "net", "ipc": "ipc", "uts": "uts"}


@dataclass(frozen=True, slots=True)
class Floor:
    """Bare starts on one containerd, of an image that it has."""

    client: Client
    records: Records
    cgroups: Cgroups
    cgroup: str
    pause_root: Path
    chain_id: str

    @classmethod
    @asynccontextmanager
    async def connect(cls, node: Host, image: str) -> AsyncIterator[Self]:
        """The floor on a lab's node. Raises LookupError where the image is not there yet."""
        socket = node.run / "containerd" / "containerd.sock"
        async with Client(socket, _NAMESPACE) as client:
            yield await cls.on(
                client, image, runc_root=node.run / "runc", cgroup=f"{node.cgroup}-floor", data=node.data
            )

    @classmethod
    async def on(cls, client: Client, image: str, *, runc_root: Path, cgroup: str, data: Path) -> Self:
        """The floor on any containerd; `cgroup` and a folder in `data` are the floor's own."""
        found = await Images(client).find(parse(image))
        if found is None:
            raise LookupError(f"{image} is not on the node: start a pod of it first")
        records = Records(client, runc_root=runc_root, snapshotter=_SNAPSHOTTER)
        return cls(client, records, Cgroups.mounted(), cgroup, prepare_root(data / "floor"), found.chain_id)

    async def start(self, n: int, concurrency: int = 1) -> float:
        """Seconds until `n` pairs of pause and container run, `concurrency` at a time; they are removed after it."""
        names = [f"floor-{uuid.uuid4().hex}" for _ in range(n)]
        turns = asyncio.Semaphore(concurrency)

        async def one(name: str, lease: str) -> None:
            async with turns:
                await self._start_pair(name, lease)

        try:
            async with held(self.client, names[0], "podwire-bench") as lease:
                began = time.perf_counter()
                async with asyncio.TaskGroup() as owner:
                    for name in names:
                        owner.create_task(one(name, lease), name=name)
                return time.perf_counter() - began
        finally:
            async with asyncio.TaskGroup() as owner:
                for name in names:
                    owner.create_task(self._remove_pair(name), name=f"remove {name}")
            await self.cgroups.remove(self.cgroup)

    async def _start_pair(self, name: str, lease: str) -> None:
        pause, container = f"{name}-pause", f"{name}-main"
        spec = self._spec(name, pause, list(COMMAND), str(self.pause_root), [{"type": kind} for kind in _OWN])
        await self.records.create(pause, spec, {})
        pid = await self.records.create_task(pause)
        await self.records.start_task(pause)
        mounts = await self.records.prepare_snapshot(container, self.chain_id, {}, lease=lease)
        joined = [{"type": kind, "path": f"/proc/{pid}/ns/{file}"} for kind, file in _JOINED.items()]
        joined += [{"type": "pid"}, {"type": "mount"}]
        spec = self._spec(name, container, ["/bin/sleep", "3600"], "rootfs", joined)
        await self.records.create(container, spec, {}, snapshot=True)
        await self.records.create_task(container, rootfs=mounts)
        await self.records.start_task(container)

    async def _remove_pair(self, name: str) -> None:
        for id in (f"{name}-main", f"{name}-pause"):
            if await self.records.task(id) is not None:
                await self.cgroups.kill(f"{self.cgroup}/{id}")
                await self.records.wait_task(id)
                await self.records.delete_task(id)
            await self.records.remove_snapshot(id)
            await self.records.delete(id)

    def _spec(
        self, group: str, id: str, arguments: Sequence[str], root: str, namespaces: Sequence[Mapping[str, str]]
    ) -> dict[str, Any]:
        proc = {"destination": "/proc", "type": "proc", "source": "proc"}
        dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
        return {
            "ociVersion": VERSION,
            "process": {"user": {"uid": 0, "gid": 0}, "args": list(arguments), "cwd": "/", "env": ["PATH=/bin"]},
            "root": {"path": root, "readonly": root != "rootfs"},
            "mounts": [proc, dev],
            "annotations": {GROUP_ANNOTATION: group},
            "linux": {"namespaces": list(namespaces), "cgroupsPath": f"{self.cgroup}/{id}"},
        }
