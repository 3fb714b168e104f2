"""Creating, starting, stopping and removing containers.

The record is made first: it names the snapshot that is made next, so that containerd's garbage collector finds an owner
for it at any time, and an agent that was killed in between finds the record by its labels. Everything else of a
container has the record's name. What does not need the sandbox to run (`prepare`) is apart from what does (`start`), so
that the two overlap.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from nodeagent import labels
from nodeagent.containerd.api import types_pb2
from nodeagent.containerd.client import ContainerdError, NotFound, RuntimeUnavailable
from nodeagent.containerd.records import Record, Records
from nodeagent.containerd.references import parse
from nodeagent.containers.accounts import AccountsReader
from nodeagent.containers.errors import ContainerError
from nodeagent.containers.exits import KILLED, UNKNOWN_REASON, Exits
from nodeagent.containers.log_pump import LogPump
from nodeagent.containers.process import stop_signal
from nodeagent.containers.specs import Request, Specs
from nodeagent.model import ContainerId, Exit, Image, PodUid
from nodeagent.pods.hashing import spec_hash
from nodeagent.processes import Process
from nodeagent.register import Register
from nodeagent.runtime_settings import RuntimeSettings
from nodeagent.sandboxes import files
from nodeagent.sandboxes.cgroups import Cgroups
from nodeagent.sandboxes.lifecycle import Sandboxes

log = structlog.get_logger(__name__)

_CREATE_ERROR: Final = "CreateContainerError"
_RUN_ERROR: Final = "RunContainerError"
_UNDO_SECONDS: Final = 30.0
_KILL_SECONDS: Final = 60.0
"""From SIGKILL to the end of a process: one in an uninterruptible sleep takes its time."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A container that only its start in `sandbox` is missing from; `record` is what containerd knows of it."""

    request: Request
    record: Record
    rootfs: Sequence[types_pb2.Mount]
    sandbox: ContainerId


@dataclass(frozen=True, slots=True)
class Started:
    """A container that runs, or ran."""

    record: Record
    pid: int
    at: datetime


class Containers:
    """The containers of one node."""

    def __init__(
        self,
        settings: RuntimeSettings,
        records: Records,
        register: Register,
        exits: Exits,
        cgroups: Cgroups,
        sandboxes: Sandboxes,
        accounts: AccountsReader,
        pump: LogPump,
        specs: Specs,
    ) -> None:
        self._settings = settings
        self._records = records
        self._register = register
        self._exits = exits
        self._cgroups = cgroups
        self._sandboxes = sandboxes
        self._accounts = accounts
        self._pump = pump
        self._specs = specs

    async def prepare(self, request: Request) -> Prepared:
        """Makes the record, the file system and the pipes of a container; its sandbox need not run yet.

        Raises ContainerError, RuntimeUnavailable; then nothing is left.
        """
        async with self._undone_on_failure(request, _CREATE_ERROR):
            for earlier in await self._register.tries(request.uid, request.container.name, request.attempt):
                await self.remove(earlier, request.uid, self.log_path(request))
            self._register.add(request.uid, request.container.name, request.attempt, request.id)
            sandbox = self._register.sandbox(request.uid, request.sandbox_attempt)
            record = await self._record(request, sandbox)
            async with asyncio.TaskGroup() as owner:
                owner.create_task(self._make_pipes(request), name=f"pipes of {request.id}")
                rootfs = await self._prepare_snapshot(request)
            return Prepared(request, record, rootfs, sandbox)

    async def start(self, prepared: Prepared) -> Started:
        """Starts a prepared container, whose sandbox must run. Raises as `prepare` does."""
        request = prepared.request
        if prepared.sandbox != self._register.sandbox(request.uid, request.sandbox_attempt):
            # The try to make the sandbox that it was prepared for has failed, and another one came about.
            return await self.start(await self.prepare(replace(request, nonce=labels.nonce())))
        async with self._undone_on_failure(request, _RUN_ERROR):
            self.expect(request.id, request.uid)
            pipes = self.pipes(request.id)
            pid = await self._records.create_task(
                request.id,
                rootfs=prepared.rootfs,
                stdin=str(pipes / "stdin") if request.container.stdin else "",
                stdout=str(pipes / "stdout"),
                stderr="" if request.container.tty else str(pipes / "stderr"),
                terminal=request.container.tty,
            )
            self._exits.watch(request.id, pid)
            at = labels.now()
            # Written down while it happens, so that it is on record for whoever hears of it.
            async with asyncio.TaskGroup() as owner:
                owner.create_task(self._records.start_task(request.id), name=f"start of {request.id}")
                owner.create_task(self._records.set_labels(request.id, {labels.STARTED_AT: at.isoformat()}))
            return Started(prepared.record, pid, at)

    def expect(self, id: ContainerId, uid: PodUid) -> None:
        """Has the container's end noticed, and what it leaves behind cleared away."""
        self._exits.expect(id, uid, self._settings.cgroup(uid, id), partial(self._finish, id, uid))

    async def stop(self, id: ContainerId, uid: PodUid, grace: float) -> Exit:
        """Asks the container to end, kills it after `grace` seconds, and returns how it ended.

        Raises ContainerdError, and TimeoutError where the kernel cannot end it.
        """
        record = await self._records.get(id)
        if (exit := labels.exit_of(record.labels)) is not None:
            return exit
        self.expect(id, uid)
        task = await self._records.task(id)
        if task is None or task.created:
            self._exits.note(id, KILLED, labels.now(), UNKNOWN_REASON)
            return await self._exits.wait(id)
        self._exits.watch(id, task.pid)
        if grace > 0 and not task.stopped:
            self._signal(task.pid, self._settings.cgroup(uid, id), int(record.labels[labels.STOP_SIGNAL]))
            try:
                async with asyncio.timeout(grace):
                    return await self._exits.wait(id)
            except TimeoutError:
                log.info("container killed after its grace period", container=id, grace=grace)
        async with asyncio.timeout(_KILL_SECONDS):
            await self._cgroups.kill(self._settings.cgroup(uid, id), timeout=_KILL_SECONDS)
            return await self._exits.wait(id)

    async def remove(self, id: ContainerId, uid: PodUid, log_path: Path) -> None:
        """Removes all of a container, running or not, however much of it is there; the record goes last.

        Raises ContainerdError, OSError: then it is to be called again.
        """
        await self._end(id, uid)
        await self._exits.forget(id)
        await self._records.delete_task(id)
        await self.clear_pipes(id)
        await self._records.remove_snapshot(id)
        for file in log_path.parent.glob(f"{log_path.name}*"):
            file.unlink(missing_ok=True)
        await self._cgroups.remove(self._settings.cgroup(uid, id))
        await self._records.delete(id)
        self._register.drop(uid, id)

    async def clear_pipes(self, id: ContainerId) -> None:
        """Removes the container's pipes, once what is in them is in its log. Raises LogPumpError."""
        folder = self.pipes(id)
        if folder.exists():
            await self._pump.detach(id)
            shutil.rmtree(folder)

    def pipes(self, id: ContainerId) -> Path:
        return self._settings.pipes / id

    def log_path(self, request: Request) -> Path:
        metadata = request.pod.metadata
        pod = self._settings.pod_logs(request.uid, metadata.namespace, metadata.name)
        return pod / request.container.name / f"{request.attempt}.log"

    async def _record(self, request: Request, sandbox: ContainerId) -> Record:
        accounts = await self._accounts.read(request.image.chain_id)
        surroundings = self._sandboxes.surroundings(request.pod, sandbox, request.id)
        spec = self._specs.container(request, surroundings, accounts, files.hostname(request.pod))
        return await self._records.create(
            request.id, spec, self._labels(request), image=request.image.name, snapshot=True
        )

    async def _prepare_snapshot(self, request: Request) -> Sequence[types_pb2.Mount]:
        found = {labels.POD_UID: request.uid}
        try:
            return await self._records.prepare_snapshot(request.id, request.image.chain_id, found)
        except NotFound as error:
            raise ContainerError(
                _CREATE_ERROR, f"the layers of image {request.image.name} are not unpacked: {error}"
            ) from None

    async def _make_pipes(self, request: Request) -> None:
        """The FIFOs, with the log pump reading them: a task without a reader hangs while it is created."""
        folder = self.pipes(request.id)
        folder.mkdir(parents=True)
        names = ["stdout"] if request.container.tty else ["stdout", "stderr"]
        # Nobody writes to the input yet: whoever attaches will. Until then its reader waits.
        for name in [*names, "stdin"] if request.container.stdin else names:
            os.mkfifo(folder / name, 0o600)
        stderr = None if request.container.tty else folder / "stderr"
        await self._pump.attach(request.id, stdout=folder / "stdout", stderr=stderr, log=self.log_path(request))

    def _labels(self, request: Request) -> dict[str, str]:
        metadata = request.pod.metadata
        return {
            labels.POD_UID: metadata.uid,
            labels.POD_NAMESPACE: metadata.namespace,
            labels.POD_NAME: metadata.name,
            labels.ROLE: request.role,
            labels.CONTAINER: request.container.name,
            labels.ATTEMPT: str(request.attempt),
            labels.SPEC_HASH: spec_hash(request.container),
            labels.IMAGE: request.image.name,
            labels.IMAGE_ID: _image_id(request.image),
            labels.BACKOFF: str(request.backoff_seconds),
            labels.SANDBOX_ATTEMPT: str(request.sandbox_attempt),
            labels.LOG_PATH: str(self.log_path(request)),
            labels.STOP_SIGNAL: str(stop_signal(request.image, request.container)),
        }

    async def _finish(self, id: ContainerId, uid: PodUid) -> None:
        """After the end of a container's first process: nothing of it runs on, and its last output is in the log.

        What it has left running (in a shared PID namespace) would hold its output, and the task's deletion, open.
        """
        await self._cgroups.kill(self._settings.cgroup(uid, id))
        await self._records.delete_task(id)
        await self.clear_pipes(id)

    async def _end(self, id: ContainerId, uid: PodUid) -> None:
        task = await self._records.task(id)
        if task is None or task.stopped:
            return
        await self._cgroups.kill(self._settings.cgroup(uid, id), timeout=_KILL_SECONDS)
        await self._records.reap_task(id)

    def _signal(self, pid: int, cgroup: str, number: int) -> None:
        try:
            with Process(pid) as process:
                # Checked after it is held: the number cannot be given to another process any more.
                if self._cgroups.contains(cgroup, pid):
                    process.send(number)
        except ProcessLookupError:
            pass

    @asynccontextmanager
    async def _undone_on_failure(self, request: Request, reason: str) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            await asyncio.shield(self._undo(request))
            failure: BaseException = error
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            if isinstance(failure, (ContainerdError, OSError)) and not isinstance(failure, RuntimeUnavailable):
                raise ContainerError(reason, str(failure)) from failure
            raise failure from None

    async def _undo(self, request: Request) -> None:
        try:
            async with asyncio.timeout(_UNDO_SECONDS):
                await self.remove(request.id, request.uid, self.log_path(request))
        except (ContainerdError, OSError) as error:
            # The record is still there: the next attempt, or the pod's removal, goes on from it.
            log.warning("container not cleared away", container=request.id, error=str(error))


def _image_id(image: Image) -> str:
    """As Kubernetes shows it: the repository and the digest."""
    return f"{parse(image.name).familiar_repository}@{image.digest}"
