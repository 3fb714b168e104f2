"""A client that does not read: HTTP/2 by hand, since every gRPC library reads on its own.

The connection is well: settings and pings are answered, so that keepalives find nothing wrong. Only the window of each
stream stays as small as it was, and what the server has to say stays with the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

_DATA, _HEADERS, _RESET, _SETTINGS, _PING = 0, 1, 3, 4, 6
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE: Final = 4


class Unread:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next_stream = 1
        # Streams for which headers have come, and those that the server has ended.
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.received = 0

    def call(self, method: str, request: Message, *, last: bool = True) -> int:
        """Begins a call with its first request, mostly the only one; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = b"\x83\x86" + b"\x04" + _text(method) + b"\x01" + _text("localhost")
        headers += b"\x0f\x10" + _text("application/grpc") + b"\x00" + _text("te") + _text("trailers")
        self._send(_HEADERS, _END_HEADERS, stream, headers)
        self.say(stream, request, last=last)
        return stream

    def say(self, stream: int, request: Message, *, last: bool = False) -> None:
        """The next request of a call; the caller sees to it that the connection's window is not used up."""
        data = request.SerializeToString()
        self._send(_DATA, _END_STREAM if last else 0, stream, b"\x00" + len(data).to_bytes(4, "big") + data)

    async def run(self) -> None:
        """Answers what keeps the connection alive, until it is closed."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if kind in (_SETTINGS, _PING) and not flags & _ACK:
                    self._send(kind, _ACK, 0, payload if kind == _PING else b"")
                elif kind == _RESET or (kind == _HEADERS and flags & _END_STREAM):
                    self.ended.add(stream)
                elif kind == _HEADERS:
                    self.begun.add(stream)
                elif kind == _DATA:
                    self.received += len(payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    def start(self, window: int) -> None:
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        setting = _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
        self._send(_SETTINGS, 0, 0, setting)

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self._writer.write(head + payload)


@asynccontextmanager
async def unread(socket: Path, *, window: int = 0) -> AsyncIterator[Unread]:
    """A connection whose streams have `window` bytes of room each, for good."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    client = Unread(reader, writer)
    client.start(window)
    running = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        running.cancel()
        await asyncio.wait([running])
        writer.close()


def _text(text: str) -> bytes:
    """HPACK's plain string."""
    data = text.encode()
    assert len(data) < 127
    return bytes((len(data),)) + data
