"""The agent's end of logs and exec, played by a script: what podctl sends is recorded, what it gets is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from podwire import v1
from podwire.client import Client
from podwire.v1.agents_pb2_grpc import AgentsStub


class ScriptedAgent:
    """A node with a session. `logs` is what every container wrote; an exec runs `_execute`."""

    def __init__(self, client: Client, node_name: str) -> None:
        self.node_name = node_name
        self.logs = [b"one\n", b"two\n"]
        self.log_requests: list[v1.LogsRequest] = []
        self.exec_starts: list[v1.ExecStart] = []
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.has_session = asyncio.Event()
        self._client = client

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._client.nodes.create(v1.Node(metadata=v1.ObjectMeta(name=self.node_name)))
        stub: Any = AgentsStub(self._client.channel)
        async with asyncio.TaskGroup() as owner:
            call = stub.Session(self._heartbeats())
            async for message in call:
                match message.WhichOneof("message"):
                    case "welcome":
                        self.has_session.set()
                    case "open_stream":
                        owner.create_task(self._serve(stub, message.open_stream))

    async def _heartbeats(self) -> AsyncIterator[v1.AgentMessage]:
        yield v1.AgentMessage(hello=v1.Hello(node_name=self.node_name, instance="scripted"))
        while True:
            await asyncio.sleep(0.5)
            yield v1.AgentMessage(heartbeat=v1.Heartbeat())

    async def _serve(self, stub: Any, request: v1.OpenStream) -> None:
        call = stub.Stream()
        await call.write(v1.AgentFrame(stream_id=request.stream_id))
        if request.WhichOneof("request") == "logs":
            self.log_requests.append(request.logs)
            for data in self.logs:
                await call.write(v1.AgentFrame(logs=v1.LogsChunk(data=data)))
            await call.write(v1.AgentFrame(logs_ended=True))
        else:
            self.exec_starts.append(request.exec)
            await self._execute(call, request.exec)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass

    async def _execute(self, call: Any, start: v1.ExecStart) -> None:
        """Upper case of what comes in, the command on stderr; ends with 7 at `exit` or the end of stdin."""

        async def say(**output: Any) -> None:
            await call.write(v1.AgentFrame(exec=v1.ExecOutput(**output)))

        await say(**{"stdout" if start.tty else "stderr": " ".join(start.command).encode() + b"\r\n"})
        while start.stdin:
            message = await call.read()
            match message.WhichOneof("input"):
                case "stdin" if b"exit" in message.stdin:
                    break
                case "stdin":
                    await say(stdout=message.stdin.upper())
                case "resize":
                    self.sizes.put_nowait((message.resize.rows, message.resize.columns))
                case "stdin_closed":
                    break
        await say(exit_code=7)
