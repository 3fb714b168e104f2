"""What pods have beyond the common verbs: binding to a node, logs, and commands in their containers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from podwire import errors, v1
from podwire.client.connection import Connection, Stream
from podwire.client.kind_client import KindClient
from podwire.client.retrying import RetryPolicy
from podwire.kinds import POD


class ExecSession:
    """A command that runs in a container. Iterate for its output; `exit_code` is known when the output has ended."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int:
        """The command's exit status; 128 + n where signal n killed it."""
        if self._exit_code is None:
            raise RuntimeError("the exit code is known when the output was read to its end")
        return self._exit_code

    async def write(self, data: bytes) -> None:
        """Sends to the command's stdin."""
        await self._stream.write(v1.ExecInput(stdin=data))

    async def close_stdin(self) -> None:
        """Ends stdin; resizing stays possible."""
        await self._stream.write(v1.ExecInput(stdin_closed=True))

    async def resize(self, rows: int, columns: int) -> None:
        await self._stream.write(v1.ExecInput(resize=v1.TerminalSize(rows=rows, columns=columns)))

    async def __aiter__(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """("stdout" or "stderr", data) as it comes; with a terminal, all of it is stdout."""
        while self._exit_code is None:
            output = await self._stream.read()
            if output is None:
                raise errors.Unavailable("the exec stream ended without an exit code")
            which = output.WhichOneof("output")
            if which == "exit_code":
                self._exit_code = output.exit_code
            elif which is not None:
                yield which, getattr(output, which)


class PodClient(KindClient[v1.Pod]):
    def __init__(self, connection: Connection, retry: RetryPolicy | None = None) -> None:
        super().__init__(connection, POD, retry)

    async def bind(self, name: str, namespace: str, uid: str, node_name: str) -> v1.Pod:
        """Gives the pod to a node; PreconditionFailed where it has one, or is another pod than `uid`."""
        return await self._write("Bind", v1.BindRequest(name=name, namespace=namespace, uid=uid, node_name=node_name))

    async def logs(self, request: v1.LogsRequest) -> AsyncGenerator[bytes, None]:
        """The container's output, in pieces that end anywhere."""
        stream = await self.connection.open("unary_stream", self._method("Logs"), v1.LogsChunk, request)
        try:
            while (chunk := await stream.read()) is not None:
                yield chunk.data
        finally:
            stream.cancel()

    def exec(self, start: v1.ExecStart) -> AbstractAsyncContextManager[ExecSession]:
        """Runs a command in a container; leaving the context ends it."""
        return self._exec(start)

    @asynccontextmanager
    async def _exec(self, start: v1.ExecStart) -> AsyncGenerator[ExecSession, None]:
        stream = await self.connection.open("stream_stream", self._method("Exec"), v1.ExecOutput)
        try:
            await stream.write(v1.ExecInput(start=start))
            yield ExecSession(stream)
        finally:
            stream.cancel()
