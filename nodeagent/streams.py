"""Logs and exec for clients: what a container wrote, and commands run in it, over a stream that the agent opened.

Requests have been checked against the pod's object by the control plane: they name a container that the pod has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from nodeagent.containerd.client import ContainerdError, RuntimeUnavailable
from nodeagent.containers.exec import ExecProcess
from nodeagent.logs.reader import read_logs
from nodeagent.model import ObservedContainer, Phase
from nodeagent.pods.history import last_attempts, previous_attempt
from nodeagent.pods.worker import PodWorker
from podwire import errors, v1
from podwire.client.connection import Stream


class ExecRuntime(Protocol):
    """The part of the runtime that exec needs."""

    async def exec(
        self,
        container: ObservedContainer,
        command: Sequence[str],
        *,
        stdin: bool,
        tty: bool,
        size: tuple[int, int] | None,
    ) -> ExecProcess: ...


class FindsPods(Protocol):
    def find(self, namespace: str, name: str) -> PodWorker | None: ...


class Streams:
    def __init__(self, pods: FindsPods, runtime: ExecRuntime) -> None:
        self._pods = pods
        self._runtime = runtime

    async def serve(self, request: v1.OpenStream, stream: Stream) -> None:
        """Answers over `stream` until there is no more to say. Raises podwire.errors."""
        if request.WhichOneof("request") == "logs":
            await self._logs(request.logs, stream)
        else:
            await self._exec(request.exec, stream)

    async def _logs(self, request: v1.LogsRequest, stream: Stream) -> None:
        worker = self._worker(request.namespace, request.name)
        name = request.container
        if request.previous:
            container = previous_attempt(worker.observed, name)
            if container is None:
                raise errors.NotFound(f'previous terminated container "{name}" in pod "{request.name}" not found')
        else:
            container = last_attempts(worker.observed).get(name)
            if container is None or container.phase is Phase.CREATED:
                raise errors.PreconditionFailed(f'container "{name}" in pod "{request.name}" {_why(worker, name)}')
        tail = request.tail_lines if request.HasField("tail_lines") else None
        chunks = read_logs(
            container.log_path,
            follow=request.follow,
            tail=tail,
            timestamps=request.timestamps,
            ended=worker.ended(container.id),
        )
        try:
            async for chunk in chunks:
                await stream.write(v1.AgentFrame(logs=v1.LogsChunk(data=chunk)))
            await stream.write(v1.AgentFrame(logs_ended=True))
            await stream.done_writing()
        except FileNotFoundError:
            raise errors.NotFound(f'container "{name}" in pod "{request.name}" has no log any more') from None
        # The other end closes when it has read everything.
        while await stream.read() is not None:
            pass

    async def _exec(self, request: v1.ExecStart, stream: Stream) -> None:
        worker = self._worker(request.namespace, request.name)
        name = request.container
        container = last_attempts(worker.observed).get(name)
        if container is None or container.phase is not Phase.RUNNING:
            raise errors.PreconditionFailed(f'container "{name}" in pod "{request.name}" is not running')
        size = (request.size.rows, request.size.columns) if request.HasField("size") else None
        command = await self._runtime.exec(
            container, list(request.command), stdin=request.stdin, tty=request.tty, size=size
        )
        try:
            async with command as process:
                await _converse(stream, process)
        except RuntimeUnavailable as error:
            raise errors.Unavailable(f"containerd does not answer: {error}") from None
        except ContainerdError as error:
            raise errors.PreconditionFailed(f"the command cannot be run: {error}") from None

    def _worker(self, namespace: str, name: str) -> PodWorker:
        worker = self._pods.find(namespace, name)
        if worker is None:
            raise errors.NotFound(f'pod "{name}" is not on this node')
        return worker


async def _converse(stream: Stream, process: ExecProcess) -> None:
    """Joins a command to a stream until the command is over and the other end has closed the stream."""
    feeding = asyncio.create_task(_feed(stream, process), name="input of an exec")
    try:
        async for which, data in process:
            output = v1.ExecOutput(stdout=data) if which == "stdout" else v1.ExecOutput(stderr=data)
            await stream.write(v1.AgentFrame(exec=output))
        await stream.write(v1.AgentFrame(exec=v1.ExecOutput(exit_code=await process.wait())))
        await stream.done_writing()
        # Its read must not be cancelled before the other end closes: that ends the stream, and with it whatever of the
        # output is still on its way.
        await feeding
    finally:
        feeding.cancel()
        await asyncio.wait([feeding])


async def _feed(stream: Stream, process: ExecProcess) -> None:
    """Hands the client's input on, until the other end closes the stream. A command that has ended takes no more."""
    try:
        while (message := await stream.read()) is not None:
            match message.WhichOneof("input"):
                case "stdin":
                    with suppress(BrokenPipeError):
                        await process.write(message.stdin)
                case "stdin_closed":
                    await process.close_stdin()
                case "resize":
                    await process.resize(message.resize.rows, message.resize.columns)
    except errors.PodwireError:
        # The stream broke: the session, which has the same connection, ends what is served over it.
        return


def _why(worker: PodWorker, name: str) -> str:
    """Why a container has no log, as a phrase."""
    for container in (*worker.reported.container_statuses, *worker.reported.init_container_statuses):
        if container.name == name and container.state.waiting.reason:
            return f"is waiting to start: {container.state.waiting.reason}"
        if container.name == name and container.state.HasField("terminated"):
            return f"did not start: {container.state.terminated.message or container.state.terminated.reason}"
    return "is waiting to start: ContainerCreating"
