"""A server that says whatever a test wants said in HTTP/2: the other side of raw_client, with the same notes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from controlplane.http2 import frames
from tests.unit.controlplane.http2.raw_client import PATIENCE, Answer, RawClient, message
from tests.unit.controlplane.http2.serving import HOST


class Peer(RawClient):
    """One client's connection, as its server sees it: `answers` are what the client asks, by streams."""

    async def greet(self, settings: dict[int, int] | None = None) -> None:
        async with asyncio.timeout(PATIENCE):
            assert await self._reader.readexactly(len(frames.PREFACE)) == frames.PREFACE
        self.send(frames.settings(settings or {}))

    async def asked(self, stream: int) -> Answer:
        """Once the headers of a call have come."""
        await self.until(lambda: stream in self.answers and self.answers[stream].headers)
        return self.answers[stream]

    async def asked_all(self, stream: int) -> Answer:
        """Once its client has said everything."""
        await self.until(lambda: stream in self.answers and self.answers[stream].ended)
        return self.answers[stream]

    def head(self, stream: int, *more: tuple[str, str], status: int = 200, flags: int = 0) -> None:
        fields = [(":status", str(status)), ("content-type", "application/grpc"), *more]
        self.send(frames.frame(frames.HEADERS, flags | frames.END_HEADERS, stream, self.encoder.encode(fields)))

    def say(self, stream: int, *messages: bytes) -> None:
        for one in messages:
            self.send(frames.frame(frames.DATA, 0, stream, message(one)))

    def finish(self, stream: int, status: int = 0, details: str = "") -> None:
        """With trailers."""
        fields = [("grpc-status", str(status)), *([("grpc-message", details)] if details else [])]
        flags = frames.END_STREAM | frames.END_HEADERS
        self.send(frames.frame(frames.HEADERS, flags, stream, self.encoder.encode(fields)))

    def reply(self, stream: int, data: bytes) -> None:
        """All of an answer that went well."""
        self.head(stream)
        self.say(stream, data)
        self.finish(stream)


class RawServer:
    def __init__(self) -> None:
        self.target = ""
        # All that were ever accepted; those that no test has taken yet.
        self.peers: list[Peer] = []
        self._new: asyncio.Queue[Peer] = asyncio.Queue()

    async def accept(self, *, hello: bool = True, settings: dict[int, int] | None = None) -> Peer:
        """The next connection. With `hello`, what one begins with has been said by both sides."""
        async with asyncio.timeout(PATIENCE):
            peer = await self._new.get()
        if hello:
            await peer.greet(settings)
        return peer

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self._new.put_nowait(peer)

    async def begin(self, listening: socket.socket, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        return await asyncio.start_server(self.accepted, sock=listening, ssl=tls)


@asynccontextmanager
async def raw_serving(port: int = 0) -> AsyncIterator[RawServer]:
    """On a port of the loopback."""
    made = RawServer()
    listening = listen(port)
    made.target = target_of(listening)
    server = await made.begin(listening)
    try:
        yield made
    finally:
        server.close()
        for peer in made.peers:
            peer.abort()
        await server.wait_closed()


def listen(port: int = 0) -> socket.socket:
    """The kernel takes connections already; a server begins with them when the test wants it."""
    return socket.create_server((HOST, port))


def target_of(listening: socket.socket) -> str:
    return f"{HOST}:{listening.getsockname()[1]}"
