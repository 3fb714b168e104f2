"""A way to a server that can be cut without either end being told, and waiting for a condition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Wire:
    """Forwards bytes both ways while it is not cut; a cut one answers nothing, and a severed one resets."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    async def sever(self) -> None:
        """Resets every connection that there is."""
        for task in list(self.connections):
            task.cancel()
        if self.connections:
            await asyncio.wait(self.connections)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def wire_to(target: str) -> AsyncIterator[Wire]:
    """A wire on a loopback port to `target` (http://host:port)."""
    host, _, port = target.removeprefix("http://").partition(":")
    wire = Wire()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        for way in (wire.forward(reader, far_writer), wire.forward(far_reader, writer)):
            task = asyncio.create_task(way)
            wire.connections.add(task)
            task.add_done_callback(wire.connections.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.sever()


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within: float = 20.0) -> None:
    """Waits until `condition` holds; TimeoutError where it does not in time."""
    async with asyncio.timeout(within):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)
