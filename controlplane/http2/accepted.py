"""The server's end of a connection: a client's calls begin here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from controlplane.http2 import frames, headers
from controlplane.http2.connection import Connection
from controlplane.http2.context import Context
from controlplane.http2.frames import Code, ConnectionFault
from controlplane.http2.identity import Identity, identity_of
from controlplane.http2.stream import Stream

if TYPE_CHECKING:
    from controlplane.http2.server import Server

log = structlog.get_logger(__name__)

_UNIMPLEMENTED: Final[int] = grpc.StatusCode.UNIMPLEMENTED.value[0]


class ServerConnection(Connection):
    def __init__(self, server: Server, *, tls: bool) -> None:
        super().__init__(server.loop, server.options)
        self.server = server
        # Whose it is; None on a unix socket.
        self.identity: Identity | None = None
        self.peer: tuple[Any, ...] = ()
        # Handlers that have not ended.
        self.running: set[asyncio.Task[None]] = set()
        self.last_stream = 0
        # Its own among all of the server's, and counts that tools ask for.
        self.number = next(server.numbers)
        self.calls_begun = 0
        self.calls_ended = 0
        self._tls = tls
        self._lost = asyncio.Event()
        self._stopping = False
        self._headers = headers.request_reader()
        # Bytes of the preface that have come, until it is there.
        self._preface: bytes | None = b""

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer if isinstance(peer, tuple) else ()
        if self.server.stopped:
            self.abort()
            return
        self.server.connections.add(self)
        if self._tls:
            if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                # It would not understand why.
                self.abort()
                return
            self.identity = identity_of(transport.get_extra_info("peercert") or {})
        self._greet({frames.MAX_CONCURRENT_STREAMS: self.options.most_streams})

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost.set()
        for stream in list(self.streams.values()):
            stream.close()
        self.server.connections.discard(self)

    # For the server.

    def stop(self) -> None:
        """No new calls; closed when the last one is over."""
        if not self._stopping:
            self._stopping = True
            self.write(frames.go_away(self.last_stream, Code.NO_ERROR, "the server stops"))
            if not self.streams:
                self.close()

    def end_calls(self, code: grpc.StatusCode, details: str) -> None:
        for stream in list(self.streams.values()):
            stream.fail(code, details)

    async def wait_lost(self, seconds: float) -> None:
        """Until the connection is gone: by itself, or in `seconds` by force."""
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            self.abort()

    # Its part of a connection.

    def forget(self, stream: Stream) -> None:
        super().forget(stream)
        if self._stopping and not self.streams:
            self.close()

    def _behind_preface(self, data: bytes) -> bytes:
        if self._preface is None:
            return data
        data = self._preface + data
        expected = frames.PREFACE
        if not data.startswith(expected[: len(data)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no client of HTTP/2")
        self._preface = None if len(data) >= len(expected) else data
        return data[len(expected) :]

    def _last_of_peer(self) -> int:
        return self.last_stream

    def _has_begun(self, stream: int) -> bool:
        return 0 < stream <= self.last_stream

    def _headers_came(self, flags: int, stream: int, block: bytes) -> None:
        ended = bool(flags & frames.END_STREAM)
        if stream % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"the stream {stream}, which is none of a client's")
        if stream <= self.last_stream:
            self._headers.skip(block)
            self._trailers_came(stream, ended=ended)
            return
        try:
            request = self._headers.read(block)
        except headers.MalformedError as error:
            log.debug("a malformed request", error=str(error))
            self.last_stream = stream
            self.write(frames.reset(stream, Code.PROTOCOL_ERROR))
            return
        self.last_stream = stream
        if self._stopping or max(len(self.streams), len(self.running)) >= self.options.most_streams:
            self.write(frames.reset(stream, Code.REFUSED_STREAM))
        elif request.refusal is not None:
            self._refuse(stream, request.refusal, ended=ended)
        else:
            self._begin(stream, request, ended=ended)

    def _trailers_came(self, stream: int, *, ended: bool) -> None:
        found = self.streams.get(stream)
        if found is None:
            # Of a call that has ended meanwhile.
            return
        if not ended or found.peer_ended:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"headers amidst the stream {stream}, or after it")
        found.peer_has_ended()

    def _begin(self, stream: int, request: headers.Request, *, ended: bool) -> None:
        handler = self.server.handler_of(request)
        if handler is None:
            status = headers.trailers(_UNIMPLEMENTED, f"there is no method {request.path}")
            self._refuse(stream, headers.ANSWER + status, ended=ended)
            return
        context = self.streams[stream] = Context(self, stream, request, handler)
        self.calls_begun += 1
        context.begin()
        if ended:
            context.peer_has_ended()

    def _refuse(self, stream: int, block: bytes, *, ended: bool) -> None:
        end = b"" if ended else frames.reset(stream, Code.NO_ERROR)
        self.write(self.header_frames(stream, block, frames.END_STREAM) + end)
