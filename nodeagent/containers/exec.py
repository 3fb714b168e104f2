"""Commands in a running container: for people, with input and perhaps a terminal, and for probes.

All go through containerd and runc. Entering the namespaces directly would cost a tenth, but a process started that way
lacks the container's seccomp filter, which cannot be taken from it: a probe would be a way around it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage

from nodeagent.containerd.api import tasks_pb2
from nodeagent.containerd.client import LONG, Client, ContainerdError, NotFound, RuntimeUnavailable
from nodeagent.containerd.records import Records, spec_of
from nodeagent.containers.exec_pipes import ExecPipes, opened
from nodeagent.model import ContainerId
from nodeagent.process_trees import kill_tree
from nodeagent.sandboxes.cgroups import Cgroups

log = structlog.get_logger(__name__)

_PROCESS: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_OUTPUT_LIMIT: Final = 10 << 10
"""Bytes of a probe's output that are kept, as in Kubernetes."""
_LAST_OUTPUT: Final = 0.25
"""Seconds that output may still come after the end of the process: a child that goes on may hold the pipe for ever."""
_RETRY: Final = 0.2


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command came to. `exit_code` counts unless `timed_out`."""

    exit_code: int
    timed_out: bool
    output: bytes


Size = tuple[int, int]
"""Of a terminal: rows and columns."""


class ExecProcess:
    """A command that runs while the context lasts: on leaving it, the command and what it started are killed.

    Iterating gives `("stdout" | "stderr", bytes)` until the output ends; with a terminal all of it is stdout.
    """

    def __init__(self, execs: Execs, container: ContainerId, cgroup: str, command: Sequence[str], *, stdin: bool,
                 size: Size | None) -> None:  # fmt: skip
        self._execs = execs
        self._container = container
        self._cgroup = cgroup
        self._command = command
        self._stdin = stdin
        self._size = size
        self._id = f"exec-{uuid.uuid4().hex}"

    async def __aenter__(self) -> Self:
        spec = await self._execs.process_spec(self._container)
        spec |= {"args": list(self._command), "terminal": self._size is not None}
        if self._size is not None:
            spec["env"] = ["TERM=xterm", *(entry for entry in spec["env"] if not entry.startswith("TERM="))]
            spec["consoleSize"] = {"height": self._size[0], "width": self._size[1]}
        self._pipes = self._execs.make_pipes(
            self._container, self._id, stdin=self._stdin, terminal=self._size is not None
        )
        self._pid = 0
        try:
            await self._execs.create(self._container, self._id, spec, self._pipes)
            self._pid = await self._execs.start(self._container, self._id)
            self._pipes.start()
            if self._size is not None:
                await self.resize(*self._size)
        except BaseException:
            await asyncio.shield(self._leave())
            raise
        self._exit = asyncio.create_task(self._execs.wait(self._container, self._id), name=f"end of {self._id}")
        self._end = asyncio.create_task(self._wait_end(), name=f"output of {self._id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = not self._exit.done()
        for task in (self._end, self._exit):
            task.cancel()
        await asyncio.wait((self._end, self._exit))
        if running:
            await asyncio.shield(self._leave())
        else:
            # Deleting waits for up to two seconds where a child goes on and holds the output.
            self._pipes.close()
            self._execs.delete_later(self._container, self._id)

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            piece = self._pipes.take()
            if piece is not None:
                yield piece
            elif self._pipes.ended:
                return
            else:
                await self._pipes.wait_news()

    async def write(self, data: bytes) -> None:
        """Writes to the command's input, as fast as it reads. Raises BrokenPipeError where it has none."""
        await self._pipes.write(data)

    async def close_stdin(self) -> None:
        """Ends the command's input, once it has taken all of it."""
        await self._pipes.drain_input()
        self._pipes.close_input()
        await self._execs.close_input(self._container, self._id)

    async def resize(self, rows: int, columns: int) -> None:
        """Tells the command's terminal its size."""
        await self._execs.resize(self._container, self._id, rows, columns)

    async def wait_exit(self) -> int:
        """The exit code, as soon as the command has ended."""
        return await asyncio.shield(self._exit)

    async def wait(self) -> int:
        """The exit code, once the command has ended and its output is complete."""
        await asyncio.shield(self._end)
        return await self.wait_exit()

    async def _wait_end(self) -> None:
        await asyncio.shield(self._exit)
        while not self._pipes.ended:
            before = self._pipes.taken
            try:
                async with asyncio.timeout(_LAST_OUTPUT):
                    await self._pipes.wait_ended()
            except TimeoutError:
                if self._pipes.taken == before and not self._pipes.paused:
                    self._pipes.read_rest()

    async def _leave(self) -> None:
        self._pipes.close()
        try:
            await self._execs.clear(self._container, self._id, self._cgroup, self._pid)
        except (ContainerdError, OSError) as error:
            log.warning("exec not cleared away", container=self._container, exec=self._id, error=str(error))


class Execs:
    """The execs of one node's containers. What is cleared away later belongs to `owner`."""

    def __init__(
        self, client: Client, records: Records, cgroups: Cgroups, folder: Path, owner: asyncio.TaskGroup
    ) -> None:
        self._client = client
        self._records = records
        self._cgroups = cgroups
        self._folder = folder
        self._owner = owner
        self._specs: dict[ContainerId, Mapping[str, Any]] = {}

    def open(
        self,
        container: ContainerId,
        cgroup: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        size: Size | None = None,
    ) -> ExecProcess:
        """A command as the container's own user, with its environment; `size` gives it a terminal.

        Entering the context raises ContainerdError where it cannot be started.
        """
        return ExecProcess(self, container, cgroup, command, stdin=stdin, size=size)

    async def probe(self, container: ContainerId, cgroup: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Runs a command to its end, or to `timeout` seconds after its start; then it is killed with its children.

        What containerd takes to start it is not the command's fault and does not count. Raises ContainerdError.
        """
        output = bytearray()

        async def collect() -> None:
            async for _, data in process:
                output.extend(data[: _OUTPUT_LIMIT - len(output)])

        async with self.open(container, cgroup, command) as process, asyncio.TaskGroup() as owner:
            collecting = owner.create_task(collect(), name=f"output of a probe in {container}")
            try:
                async with asyncio.timeout(timeout):
                    code = await process.wait_exit()
            except TimeoutError:
                collecting.cancel()
                return ExecResult(-1, timed_out=True, output=bytes(output))
            await process.wait()
        return ExecResult(code, timed_out=False, output=bytes(output))

    async def clear_leftovers(self, container: ContainerId, cgroup: str) -> None:
        """Kills and removes the execs that a killed agent left in a running container. Raises ContainerdError."""
        for folder in (self._folder / container).glob("exec-*"):
            with opened(folder):
                await self.clear(container, folder.name, cgroup, 0)
            shutil.rmtree(folder, ignore_errors=True)

    def forget(self, container: ContainerId) -> None:
        self._specs.pop(container, None)

    # What follows is for ExecProcess.

    async def process_spec(self, container: ContainerId) -> dict[str, Any]:
        """What the container's first process was started with. Raises NotFound."""
        if container not in self._specs:
            self._specs[container] = spec_of(await self._records.get(container))["process"]
        return dict(self._specs[container])

    def make_pipes(self, container: ContainerId, exec_id: str, *, stdin: bool, terminal: bool) -> ExecPipes:
        return ExecPipes(self._folder / container / exec_id, stdin=stdin, terminal=terminal)

    async def create(self, container: ContainerId, exec_id: str, spec: Mapping[str, Any], pipes: ExecPipes) -> None:
        request = tasks_pb2.ExecProcessRequest(
            container_id=container,
            exec_id=exec_id,
            stdin=pipes.path("stdin"),
            stdout=pipes.path("stdout"),
            stderr=pipes.path("stderr"),
            terminal=spec["terminal"],
            spec=AnyMessage(type_url=_PROCESS, value=json.dumps(spec).encode()),
        )
        await self._client.call(self._client.tasks.Exec, request, timeout=LONG)

    async def start(self, container: ContainerId, exec_id: str) -> int:
        request = tasks_pb2.StartRequest(container_id=container, exec_id=exec_id)
        return (await self._client.call(self._client.tasks.Start, request, timeout=LONG)).pid

    async def wait(self, container: ContainerId, exec_id: str) -> int:
        """The exit code; 137 where the container, and the exec with it, is gone."""
        request = tasks_pb2.WaitRequest(container_id=container, exec_id=exec_id)
        while True:
            try:
                return (await self._client.call(self._client.tasks.Wait, request, timeout=None)).exit_status
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY)
            except ContainerdError:
                return 128 + signal.SIGKILL

    async def close_input(self, container: ContainerId, exec_id: str) -> None:
        request = tasks_pb2.CloseIORequest(container_id=container, exec_id=exec_id, stdin=True)
        try:
            await self._client.call(self._client.tasks.CloseIO, request)
        except ContainerdError as error:
            # It has ended before its input.
            log.debug("input not closed", container=container, exec=exec_id, error=str(error))

    async def resize(self, container: ContainerId, exec_id: str, rows: int, columns: int) -> None:
        request = tasks_pb2.ResizePtyRequest(container_id=container, exec_id=exec_id, width=columns, height=rows)
        try:
            await self._client.call(self._client.tasks.ResizePty, request)
        except ContainerdError as error:
            # It has ended; who waits for it learns so.
            log.debug("terminal not resized", container=container, exec=exec_id, error=str(error))

    def delete_later(self, container: ContainerId, exec_id: str) -> None:
        """Has an exec that has ended forgotten by containerd."""
        self._owner.create_task(self._delete_quietly(container, exec_id), name=f"delete {exec_id}")

    async def clear(self, container: ContainerId, exec_id: str, cgroup: str, pid: int) -> None:
        """Kills the exec with what it started, waits for its end, and deletes it; at any stage. Raises ContainerdError.

        Of an exec that a killed agent left, whose `pid` is unknown, containerd is asked.
        """
        if not pid:
            pid = await self._pid(container, exec_id)
        if pid:
            await kill_tree(pid, lambda: self._cgroups.processes(cgroup))
            await self.wait(container, exec_id)
        await self._delete(container, exec_id)

    async def _pid(self, container: ContainerId, exec_id: str) -> int:
        request = tasks_pb2.GetRequest(container_id=container, exec_id=exec_id)
        try:
            process = (await self._client.call(self._client.tasks.Get, request)).process
        except NotFound:
            return 0
        return process.pid if process.status == tasks_pb2.RUNNING else 0

    async def _delete_quietly(self, container: ContainerId, exec_id: str) -> None:
        try:
            await self._delete(container, exec_id)
        except ContainerdError as error:
            # It goes with its container at the latest.
            log.debug("exec not deleted", container=container, exec=exec_id, error=str(error))

    async def _delete(self, container: ContainerId, exec_id: str) -> None:
        request = tasks_pb2.DeleteProcessRequest(container_id=container, exec_id=exec_id)
        try:
            await self._client.call(self._client.tasks.DeleteProcess, request, timeout=LONG)
        except NotFound:
            pass
