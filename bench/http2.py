"""The client's side of HTTP/2 and gRPC, as little of it as a load generator needs.

A benchmark that shares two cores with what it measures must cost next to nothing itself, and show a client certificate,
which h2load cannot. So requests are bytes that were encoded beforehand, and answers are read as frames and never
decoded: the server is told to keep no header table, and then says `grpc-status` in plain letters.

Sockets do not block; a connection has one epoll loop as its owner. Flow control is kept on both sides. Data is handed
on in the pieces in which it comes: nothing large is put together from them.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA: Final = 0
HEADERS: Final = 1
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PING: Final = 6
_GOAWAY: Final = 7
_WINDOW_UPDATE: Final = 8
END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_HEADER_TABLE_SIZE: Final = 1
_ENABLE_PUSH: Final = 2
_INITIAL_WINDOW_SIZE: Final = 4
# What HTTP/2 gives both sides before anybody says otherwise.
_DEFAULT_WINDOW: Final = 65_535
# An answer of 2 MiB and its framing fit, so that a call needs no update of its stream's window.
UNARY_WINDOW: Final = 4 * 1024 * 1024
# A TLS record has at most so many, and a read takes one record.
_READ_BYTES: Final = 16 * 1024
# Of a frame: the upper byte of its length and the two below it, type, flags, stream.
_FRAME: Final = struct.Struct("!BHBBI")
# A literal header as HPACK writes it without a table: lengths of the name and the value, both in plain letters.
STATUS_OK: Final = b"\x0bgrpc-status\x010"
# Calls on one connection before its stream numbers end.
_LAST_STREAM: Final = 2**31 - 1


class Failed(Exception):
    """An answer that is no success, or a connection that ended."""


class Tls(NamedTuple):
    """The files of a client: whom it trusts, and what it shows."""

    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(str(self.cert), str(self.key))
        context.set_alpn_protocols(["h2"])
        return context


# A piece of data, or the whole of some headers: the type of its frame, the flags, the payload.
Part = tuple[int, int, bytes]


def frame(type_: int, flags: int, stream: int, payload: bytes) -> bytes:
    return b"%b%c%c%b%b" % (len(payload).to_bytes(3, "big"), type_, flags, stream.to_bytes(4, "big"), payload)


def message(body: bytes) -> bytes:
    """A message with gRPC's five bytes before it: not compressed, its length."""
    return b"\x00" + len(body).to_bytes(4, "big") + body


def check_trailers(trailers: bytes) -> None:
    """Raises Failed unless the call that these headers end was a success."""
    if STATUS_OK not in trailers:
        raise Failed(f"an answer is no success: {trailers!r}")


class Frames:
    """Reads the frames of one connection, in whatever pieces they come."""

    def __init__(self) -> None:
        # The beginning of a frame that has not come as a whole; of one of data, how many bytes are still to come, and
        # for which stream.
        self._rest = b""
        self._missing = 0
        self._missing_for = 0

    def read(self, data: bytes) -> list[tuple[int, int, int, bytes]]:
        """Type, flags, stream and payload of each; of data as much as there is, as a frame of its own."""
        frames = []
        position = 0
        if self._missing:
            piece = data[: self._missing]
            position = len(piece)
            self._missing -= position
            frames.append((DATA, 0, self._missing_for, piece))
        elif self._rest:
            data = self._rest + data
        end = len(data)
        while end - position >= _FRAME.size:
            upper, lower, type_, flags, stream = _FRAME.unpack_from(data, position)
            begin = position + _FRAME.size
            stop = begin + (upper << 16 | lower)
            if stop > end:
                if type_ != DATA:
                    break
                self._missing, self._missing_for = stop - end, stream
                stop = end
            frames.append((type_, flags, stream, data[begin:stop]))
            position = stop
        self._rest = data[position:]
        return frames


class Connection:
    """One connection, for calls of one method."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, path: str, *, window: int = UNARY_WINDOW) -> None:
        plain = socket.create_connection((host, port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        if self.socket.selected_alpn_protocol() != "h2":
            raise Failed("the server does not speak HTTP/2")
        self._headers = _first_headers(path, f"{host}:{port}")
        self._stream = -1
        self._frames = Frames()
        self._window = window
        # Bytes received that the server has not been given back yet: of the connection, and of its long streams.
        self._owed = 0
        self._owed_streams: dict[int, int] = {}
        self._send_window = _DEFAULT_WINDOW
        # Calls that wait for the server to take more, and the bytes of each that count.
        self._held: list[tuple[bytes, int]] = []
        settings = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, window))
        packed = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in settings)
        self.socket.sendall(_PREFACE + frame(_SETTINGS, 0, 0, packed) + _window_update(0, window))
        self.socket.setblocking(False)

    def close(self) -> None:
        self.socket.close()

    def request(self, body: bytes, *, long: bool = False) -> None:
        """Sends a call. `long` ones, which may answer without an end, get window updates."""
        self._stream += 2
        if self._stream > _LAST_STREAM:
            raise Failed("the connection has no stream left")
        framed = message(body)
        if len(framed) > _DEFAULT_WINDOW:
            raise ValueError("a request must fit the first window of its stream")
        if long:
            self._owed_streams[self._stream] = 0
        data = frame(HEADERS, _END_HEADERS, self._stream, self._headers)
        data += b"".join(_data_frames(self._stream, framed))
        self._headers = _LATER_HEADERS
        if self._send_window < len(framed) or self._held:
            self._held.append((data, len(framed)))
        else:
            self._send_window -= len(framed)
            self._send(data)

    def parts(self) -> list[Part]:
        """What has arrived for calls. To be asked whenever the socket is readable."""
        parts: list[Part] = []
        for data in receive(self.socket):
            for type_, flags, stream, payload in self._frames.read(data):
                if type_ == DATA:
                    self._received(stream, len(payload))
                    parts.append((DATA, flags, payload))
                elif type_ == HEADERS:
                    parts.append((HEADERS, flags, payload))
                else:
                    self._control(type_, flags, stream, payload)
        return parts

    def _received(self, stream: int, length: int) -> None:
        self._owed += length
        if self._owed > self._window // 2:
            self._send(_window_update(0, self._owed))
            self._owed = 0
        if stream in self._owed_streams:
            owed = self._owed_streams[stream] + length
            if owed > self._window // 2:
                self._send(_window_update(stream, owed))
                owed = 0
            self._owed_streams[stream] = owed

    def _control(self, type_: int, flags: int, stream: int, payload: bytes) -> None:
        if type_ == _SETTINGS and not flags & _ACK:
            self._send(frame(_SETTINGS, _ACK, 0, b""))
        elif type_ == _PING and not flags & _ACK:
            self._send(frame(_PING, _ACK, 0, payload))
        elif type_ == _WINDOW_UPDATE and stream == 0:
            self._send_window += int.from_bytes(payload, "big")
            self._send_held()
        elif type_ in (_RST_STREAM, _GOAWAY):
            raise Failed(f"the server ended a call or the connection: type {type_}, {payload!r}")

    def _send_held(self) -> None:
        while self._held and self._send_window >= self._held[0][1]:
            data, size = self._held.pop(0)
            self._send_window -= size
            self._send(data)

    def _send(self, data: bytes) -> None:
        send(self.socket, data)


def receive(connection: ssl.SSLSocket) -> Iterator[bytes]:
    """What there is to read, a TLS record at a time."""
    while True:
        try:
            data = connection.read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return
        if not data:
            raise Failed("the server closed the connection")
        yield data
        # What the kernel has beyond the record that was read makes the socket readable again.
        if not connection.pending():
            return


def send(connection: ssl.SSLSocket, data: bytes) -> None:
    while True:
        try:
            sent = connection.write(data)
        except ssl.SSLWantWriteError:
            # One request a connection is on its way at most: the kernel has room for it, or will at once.
            select.select([], [connection], [], 10.0)
            continue
        if sent == len(data):
            return
        data = data[sent:]


def _data_frames(stream: int, framed: bytes) -> Iterator[bytes]:
    # The size of a frame that every peer takes.
    size = 16_384
    last = max(0, (len(framed) - 1) // size * size)
    for start in range(0, len(framed), size):
        yield frame(DATA, END_STREAM if start == last else 0, stream, framed[start : start + size])


def _window_update(stream: int, size: int) -> bytes:
    return frame(_WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) >= 0x7F:
        raise ValueError(f"{text!r} is too long for a header of this client")
    return bytes((len(data),)) + data


def _first_headers(path: str, authority: str) -> bytes:
    """The headers of a connection's first call: the server puts those beginning with 0b01 into its table."""
    return b"".join(
        (
            b"\x83\x87",  # :method POST, :scheme https, both in HPACK's static table
            b"\x44" + _text(path),
            b"\x41" + _text(authority),
            b"\x5f" + _text("application/grpc"),
            b"\x40" + _text("te") + _text("trailers"),
            b"\x7a" + _text("podwire-bench"),
        )
    )


# The same by their places in the table, where the latest has the number 62.
_LATER_HEADERS: Final = b"\x83\x87" + bytes(0x80 | 62 + place for place in range(4, -1, -1))
