"""A way to a server that can be cut without either end being told, and waiting for a condition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """Forwards bytes both ways while it is not cut; a cut one answers nothing, and a severed one resets."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: set[asyncio.Task[None]] = set()
        # Bytes that wait for the wire to be mended.
        self.held = 0
        self._there = asyncio.Event()
        self._back = asyncio.Event()
        self.mend()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._there.clear()
        self._back.clear()

    def cut_back(self) -> None:
        """What is asked arrives, what is answered does not."""
        self._back.clear()

    def mend(self) -> None:
        self._there.set()
        self._back.set()

    async def sever(self) -> None:
        """Resets every connection that there is."""
        for task in list(self.connections):
            task.cancel()
        if self.connections:
            await asyncio.wait(self.connections)
        self.held = 0

    def connect(self, near: End, far: End) -> None:
        """Forwards between the ends of one connection, until it ends."""
        for reader, writer, is_open in ((near[0], far[1], self._there), (far[0], near[1], self._back)):
            task = asyncio.create_task(self._forward(reader, writer, is_open))
            self.connections.add(task)
            task.add_done_callback(self.connections.discard)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event
    ) -> None:
        try:
            while data := await reader.read(65536):
                self.held += len(data)
                await is_open.wait()
                self.held -= len(data)
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
        wire.connect((reader, writer), await asyncio.open_connection(host, int(port)))

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
