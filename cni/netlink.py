"""Netlink messages: a socket, requests, attributes. Only what the plugin, the routes and the proxy need.

Our own and not pyroute2, because that takes 190 ms to import, more than the plugin as an executable takes altogether,
and forks to open a socket in another namespace, which a process with gRPC threads must not. The formats are those of
linux/netlink.h; numbers are of the machine's byte order unless a comment says otherwise.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self

ROUTE: Final = socket.NETLINK_ROUTE
NETFILTER: Final = 12

REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400

_ERROR: Final = 2
_DONE: Final = 3
_ACK_HAS_ATTRIBUTES: Final = 0x200
_ACK_CAPPED: Final = 0x100
_ERROR_TEXT: Final = 1
_DUMP_INTERRUPTED: Final = 0x10

_SOL_NETLINK: Final = 270
_CAP_ACK: Final = 10
_EXT_ACK: Final = 11
_STRICT_CHECK: Final = 12

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_RECEIVE_BYTES: Final = 256 * 1024
_DUMP_TRIES: Final = 5

_TIMEOUT_SECONDS: Final = 10.0
"""The kernel answers within microseconds, or as soon as it can take its lock; longer means that something is broken."""


class NetlinkError(OSError):
    """The kernel refused a request: `errno`, and its own words where it has any."""


class Message(NamedTuple):
    """One message: its type and what follows the header."""

    type: int
    payload: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes in `data` from `offset` on, by type. The last of two equal ones wins."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in one datagram as (type, flags, sequence, payload)."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


class Netlink:
    """A netlink socket of the network namespace that the calling thread is in when it is made; one thread at a time."""

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            self._socket.settimeout(_TIMEOUT_SECONDS)
            self._socket.bind((0, 0))
            for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[Message]:
        """What the kernel answers to one request, up to its acknowledgement. Raises NetlinkError where it refuses."""
        return self._exchange(kind, payload, REQUEST | ACK | flags)[0]

    def dump(self, kind: int, payload: bytes) -> list[Message]:
        """A table of the kernel. One that changed while it was read is read again, a few times."""
        for _ in range(_DUMP_TRIES):
            answers, interrupted = self._exchange(kind, payload, REQUEST | DUMP)
            if not interrupted:
                break
        return answers

    def _exchange(self, kind: int, payload: bytes, flags: int) -> tuple[list[Message], bool]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags, self._sequence, 0) + payload)
        answers: list[Message] = []
        interrupted = False
        while True:
            for answer, answer_flags, sequence, body in messages(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue  # left over from a request that was given up
                interrupted = interrupted or bool(answer_flags & _DUMP_INTERRUPTED)
                if answer in (_ERROR, _DONE):
                    _raise_for(answer, answer_flags, body)
                    return answers, interrupted
                answers.append(Message(answer, body))


def _raise_for(kind: int, flags: int, body: bytes) -> None:
    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if code == 0:
        return
    words = ""
    if flags & _ACK_HAS_ATTRIBUTES:
        # After an error code comes the request's header (all of the request where the kernel does not cap it).
        skip = 4
        if kind == _ERROR:
            skip += _HEADER.size if flags & _ACK_CAPPED else struct.unpack_from("=I", body, 4)[0]
        words = attributes(body, (skip + 3) & ~3).get(_ERROR_TEXT, b"").rstrip(b"\0").decode(errors="replace")
    reason = os.strerror(code)
    raise NetlinkError(code, f"{words} ({reason})" if words else reason)
