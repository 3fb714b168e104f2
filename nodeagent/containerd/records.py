"""A container in containerd: its record (labels, spec, snapshot) and its task, each call repeatable.

Whatever is gone already counts as removed, so that a clean-up that was cut short is simply done again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.field_mask_pb2 import FieldMask

from nodeagent.containerd.api import containers_pb2, runc_options_pb2, snapshots_pb2, tasks_pb2, types_pb2
from nodeagent.containerd.client import LONG, Client, ContainerdError, FailedPrecondition, NotFound
from nodeagent.containerd.events import moment

_RUNTIME: Final = "io.containerd.runc.v2"
_RUNC_OPTIONS: Final = "containerd.runc.v1.Options"
_SPEC: Final = "types.containerd.io/opencontainers/runtime-spec/1/Spec"

_REAP_SECONDS: Final = 60.0
"""From SIGKILL to the end of a process: one in an uninterruptible sleep takes its time."""

Record = containers_pb2.Container


@dataclass(frozen=True, slots=True)
class Task:
    """What a shim says of a container's first process; `code` and `ended_at` count once it has stopped."""

    status: int
    pid: int
    code: int
    ended_at: datetime

    @property
    def stopped(self) -> bool:
        return self.status == tasks_pb2.STOPPED

    @property
    def created(self) -> bool:
        return self.status == tasks_pb2.CREATED


class Records:
    """The containers of one containerd namespace; runc keeps its state in `runc_root`."""

    def __init__(self, client: Client, *, runc_root: Path, snapshotter: str) -> None:
        self._client = client
        self._snapshotter = snapshotter
        options = runc_options_pb2.Options(root=str(runc_root)).SerializeToString()
        self._runtime = containers_pb2.Container.Runtime(
            name=_RUNTIME, options=AnyMessage(type_url=_RUNC_OPTIONS, value=options)
        )

    async def create(
        self, id: str, spec: Mapping[str, Any], labels: Mapping[str, str], *, image: str = "", snapshot: bool = False
    ) -> Record:
        """Makes a record. With `snapshot` it owns the one of its own name from now on, before that is prepared.

        Raises AlreadyExists.
        """
        record = containers_pb2.Container(
            id=id,
            labels=labels,
            image=image,
            runtime=self._runtime,
            spec=AnyMessage(type_url=_SPEC, value=json.dumps(spec, separators=(",", ":")).encode()),
            snapshotter=self._snapshotter if snapshot else "",
            snapshot_key=id if snapshot else "",
        )
        request = containers_pb2.CreateContainerRequest(container=record)
        return (await self._client.call(self._client.containers.Create, request)).container

    async def get(self, id: str) -> Record:
        """Raises NotFound."""
        request = containers_pb2.GetContainerRequest(id=id)
        return (await self._client.call(self._client.containers.Get, request)).container

    async def list(self, *filters: str) -> Sequence[Record]:
        """The records that match one of `filters` (containerd's filter language)."""
        request = containers_pb2.ListContainersRequest(filters=filters)
        return (await self._client.call(self._client.containers.List, request)).containers

    async def set_labels(self, id: str, labels: Mapping[str, str]) -> Record:
        """Sets these labels, and leaves the others as they are. Raises NotFound."""
        request = containers_pb2.UpdateContainerRequest(
            container=containers_pb2.Container(id=id, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{name}" for name in labels]),
        )
        return (await self._client.call(self._client.containers.Update, request)).container

    async def delete(self, id: str) -> None:
        """Removes the record; its task must be gone."""
        try:
            await self._client.call(self._client.containers.Delete, containers_pb2.DeleteContainerRequest(id=id))
        except NotFound:
            pass

    async def prepare_snapshot(
        self, key: str, parent: str, labels: Mapping[str, str], *, lease: str = ""
    ) -> Sequence[types_pb2.Mount]:
        """Makes the writable file system of the record called `key`. Raises NotFound where the parent is not there.

        Where the record does not exist yet, it must belong to a lease.
        """
        request = snapshots_pb2.PrepareSnapshotRequest(
            snapshotter=self._snapshotter, key=key, parent=parent, labels=labels
        )
        return (await self._client.call(self._client.snapshots.Prepare, request, lease=lease)).mounts

    async def view(self, key: str, parent: str, lease: str) -> Sequence[types_pb2.Mount]:
        """A read-only look at `parent`, which belongs to `lease`."""
        request = snapshots_pb2.ViewSnapshotRequest(snapshotter=self._snapshotter, key=key, parent=parent)
        return (await self._client.call(self._client.snapshots.View, request, lease=lease)).mounts

    async def remove_snapshot(self, key: str) -> None:
        request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=self._snapshotter, key=key)
        try:
            await self._client.call(self._client.snapshots.Remove, request)
        except NotFound:
            pass

    async def snapshots(self, label: str) -> dict[str, str]:
        """The keys of the snapshots that carry `label`, and its values."""
        request = snapshots_pb2.ListSnapshotsRequest(snapshotter=self._snapshotter, filters=[f'labels."{label}"'])
        found: dict[str, str] = {}
        async for answer in self._client.stream(self._client.snapshots.List, request):
            found.update({info.name: info.labels[label] for info in answer.info})
        return found

    async def create_task(
        self,
        id: str,
        *,
        rootfs: Sequence[types_pb2.Mount] = (),
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
    ) -> int:
        """Makes the container's first process, which waits to be started; its pid."""
        request = tasks_pb2.CreateTaskRequest(
            container_id=id, rootfs=rootfs, stdin=stdin, stdout=stdout, stderr=stderr, terminal=terminal
        )
        return (await self._client.call(self._client.tasks.Create, request, timeout=LONG)).pid

    async def start_task(self, id: str) -> None:
        request = tasks_pb2.StartRequest(container_id=id)
        await self._client.call(self._client.tasks.Start, request, timeout=LONG)

    async def task(self, id: str) -> Task | None:
        """What there is to know of the container's task; None where it has none."""
        try:
            answer = await self._client.call(self._client.tasks.Get, tasks_pb2.GetRequest(container_id=id))
        except NotFound:
            return None
        process = answer.process
        return Task(process.status, process.pid, process.exit_status, _ended_at(process))

    async def tasks(self) -> dict[str, Task]:
        """All tasks by their containers' ids. A call to every shim: for starts, not for hot paths."""
        answer = await self._client.call(self._client.tasks.List, tasks_pb2.ListTasksRequest(), timeout=LONG)
        return {
            process.id: Task(process.status, process.pid, process.exit_status, _ended_at(process))
            for process in answer.tasks
        }

    async def wait_task(self, id: str) -> tuple[int, datetime]:
        """Returns the exit code and time once the container's first process has ended. Raises NotFound."""
        request = tasks_pb2.WaitRequest(container_id=id)
        answer = await self._client.call(self._client.tasks.Wait, request, timeout=None)
        return answer.exit_status, moment(answer.exited_at)

    async def reap_task(self, id: str) -> None:
        """Removes a task that was killed, once its first process has ended."""
        try:
            async with asyncio.timeout(_REAP_SECONDS):
                await self.wait_task(id)
        except NotFound:
            # containerd was undoing its create meanwhile.
            return
        await self.delete_task(id)

    async def delete_task(self, id: str) -> None:
        """Removes a task whose process has ended. Raises FailedPrecondition where it has not."""
        request = tasks_pb2.DeleteTaskRequest(container_id=id)
        try:
            await self._client.call(self._client.tasks.Delete, request, timeout=LONG)
        except NotFound:
            pass
        except FailedPrecondition:
            raise
        except ContainerdError:
            # A shim that dies during the call takes the task with it.
            if await self.task(id) is not None:
                raise


def spec_of(record: Record) -> dict[str, Any]:
    """The OCI specification that the record was made with."""
    return cast(dict[str, Any], json.loads(record.spec.value))


def _ended_at(process: tasks_pb2.Process) -> datetime:
    return moment(process.exited_at) if process.status == tasks_pb2.STOPPED else datetime.now(UTC)
