"""The client's side of HTTP/1.1, as little of it as a load generator of a Kubernetes apiserver needs.

What arrives is shown as `bench.http2` shows it, a message behind the five bytes of gRPC and trailers with a status, so
that the same loops drive both servers. Requests are whole: line, headers and body in one, encoded beforehand. An answer
has a length or comes in chunks; that of a watch never ends, and each of its lines is a message.
"""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Final

from bench.http2 import DATA, END_STREAM, HEADERS, STATUS_OK, Failed, Part, message, receive, send

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED: Final = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")


def context(ca: Path) -> ssl.SSLContext:
    """Without ALPN, so that Go's server speaks HTTP/1.1."""
    return ssl.create_default_context(cafile=str(ca))


class Answers:
    """Reads the answers of one connection, in whatever pieces they come."""

    def __init__(self) -> None:
        # The next answer is a watch's.
        self.long = False
        self._rest = b""
        # Of an answer whose head has been read: bytes that are still to come, or of its chunk; None: a head is next.
        self._left: int | None = None
        self._chunked = False
        self._last_chunk = False
        # Of a watch: a line that has not come as a whole.
        self._line = b""

    def read(self, data: bytes) -> list[Part]:
        self._rest += data
        parts: list[Part] = []
        while self._step(parts):
            pass
        return parts

    def _step(self, parts: list[Part]) -> bool:
        """Takes the next piece of what there is; False where more has to come first."""
        if self._left is None:
            head, found, rest = self._rest.partition(_HEAD_END)
            if not found:
                return False
            self._rest = rest
            self._begin(head, parts)
            return True
        if self._left:
            piece = self._rest[: self._left]
            self._left -= len(piece)
            self._rest = self._rest[len(piece) :]
            self._take(piece, parts)
            if not self._left and not self._chunked:
                self._end(parts)
            return bool(piece)
        line, found, rest = self._rest.partition(b"\r\n")
        if not found:
            return False
        self._rest = rest
        # Behind each chunk comes an empty line, and behind the last one, of no bytes, another.
        if line:
            self._left = int(line, 16)
            self._last_chunk = not self._left
        elif self._last_chunk:
            self._end(parts)
        return True

    def _begin(self, head: bytes, parts: list[Part]) -> None:
        status = head.split(b" ", 2)[1]
        if not status.startswith(b"2"):
            raise Failed(f"an answer is no success: {head!r}")
        length = _LENGTH.search(head)
        self._chunked = _CHUNKED.search(head) is not None
        self._left = int(length[1]) if length is not None else 0
        self._last_chunk = False
        parts.append((HEADERS, 0, head) if self.long else (DATA, 0, message(b"")))
        if not self._left and not self._chunked:
            self._end(parts)

    def _take(self, piece: bytes, parts: list[Part]) -> None:
        if not self.long:
            parts.append((DATA, 0, piece))
            return
        *lines, self._line = (self._line + piece).split(b"\n")
        parts.extend((DATA, 0, message(line)) for line in lines)

    def _end(self, parts: list[Part]) -> None:
        self._left = None
        parts.append((HEADERS, END_STREAM, STATUS_OK))


class RestConnection:
    """One connection with one request on its way."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection((host, port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        self.socket.setblocking(False)
        self._answers = Answers()

    def close(self) -> None:
        self.socket.close()

    def request(self, request: bytes, *, long: bool = False) -> None:
        """Sends it. `long`: the answer is a watch's."""
        self._answers.long = long
        send(self.socket, request)

    def parts(self) -> list[Part]:
        """What has arrived. To be asked whenever the socket is readable."""
        return [part for data in receive(self.socket) for part in self._answers.read(data)]
