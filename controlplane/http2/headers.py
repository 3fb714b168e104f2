"""The headers of gRPC's requests and answers, read and made (PROTOCOL-HTTP2 of gRPC; RFC 7541).

Answers use no table of their connection: a literal costs a few bytes, and nothing can get out of step.
"""

from __future__ import annotations

import binascii
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, unquote

import hpack
from hpack.table import HeaderTable

from controlplane.http2.frames import Code, ConnectionFault

# Bytes of a request's headers, decoded as RFC 9113 counts them: what calls may have, and what is read for an answer
# that says so.
LARGEST_LIST: Final = 64 * 1024
LARGEST_READ: Final = 256 * 1024
_FIELD_BYTES: Final = 32
# Blocks whose meaning is remembered: a client's calls of a method mostly differ in nothing.
_MOST_KNOWN: Final = 256
# Bytes of such a block and of what it says: a few of its own may stand for many of the table's.
_LARGEST_KNOWN: Final = 4096
_BINARY: Final = "-bin"
_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
# Printable ASCII but the percent sign, which `quote` would encode.
_PLAIN: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
# Digits of a timeout, and of a status.
_MOST_DIGITS: Final = 8
# gRPC's status of a call that asks too much.
_RESOURCE_EXHAUSTED: Final = 8
# A dynamic table size update to nothing, and literals that no table takes.
NO_TABLE: Final = b"\x20"
_LITERAL: Final = b"\x00"
_STATUS_200: Final = b"\x88"
_HTTP: Final = b"\x86"
_HTTPS: Final = b"\x87"

T = TypeVar("T")
Metadata = tuple[tuple[str, str | bytes], ...]


class MalformedError(Exception):
    """Headers of a request that is none of HTTP/2's."""


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    metadata: Metadata
    # Seconds.
    timeout: float | None
    # How its messages are compressed, where they are.
    encoding: str
    # The headers of the only answer that it gets, where it is refused.
    refusal: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The first headers of an answer, or its last, or both at once."""

    http_status: int | None
    code: int | None
    details: str
    encoding: str


class _Table(HeaderTable):
    def __init__(self) -> None:
        super().__init__()
        self.additions = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.additions += 1
        super().add(name, value)


class HeaderReader(Generic[T]):
    """Of one connection: what a block of headers means to `understand`."""

    def __init__(self, understand: Callable[[Iterable[tuple[bytes, bytes]]], T]) -> None:
        self._understand = understand
        self._decoder = hpack.Decoder(LARGEST_READ)
        self._table = self._decoder.header_table = _Table()
        # By the blocks themselves, as long as the table stays as it is.
        self._known: dict[bytes, T] = {}

    def read(self, block: bytes) -> T:
        """Raises ConnectionFault where the tables are out of step, and MalformedError."""
        known = self._known.get(block)
        if known is None:
            additions = self._table.additions
            fields = self._fields(block)
            known = self._understand(fields)
            if additions == self._table.additions and not _resizes(block) and _is_small(block, fields):
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[block] = known
        return known

    def skip(self, block: bytes) -> None:
        """Reads what is of no interest: what comes after it may refer to it."""
        self._fields(block)

    def _fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        additions = self._table.additions
        try:
            return list(self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"headers exceed {LARGEST_READ} bytes") from None
        except (hpack.HPACKError, IndexError):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "headers that cannot be decoded") from None
        finally:
            # Places in the table mean something else now.
            if additions != self._table.additions or _resizes(block):
                self._known.clear()


def request_reader() -> HeaderReader[Request]:
    return HeaderReader(_request)


def answer_reader() -> HeaderReader[Answer]:
    return HeaderReader(_answer)


def _resizes(block: bytes) -> bool:
    """Whether the table's size changes with it, and perhaps what is in the table."""
    return bool(block) and block[0] & 0xE0 == NO_TABLE[0]


def _is_small(block: bytes, fields: list[tuple[bytes, bytes]]) -> bool:
    said = sum(len(name) + len(value) + _FIELD_BYTES for name, value in fields)
    return len(block) + said <= _LARGEST_KNOWN


def _request(fields: Iterable[tuple[bytes, bytes]]) -> Request:
    pseudo: dict[bytes, bytes] = {}
    metadata: list[tuple[str, str | bytes]] = []
    timeout, encoding, content_type, size = None, "identity", b"", 0
    for name, value in fields:
        size += len(name) + len(value) + _FIELD_BYTES
        if name.startswith(b":"):
            if metadata or name in pseudo or name not in _PSEUDO:
                raise MalformedError(f"the header {name!r} is out of its place")
            pseudo[name] = value
            continue
        if name == b"grpc-timeout":
            timeout = _seconds(value)
        elif name == b"grpc-encoding":
            encoding = value.decode("ascii", "replace")
        elif name == b"content-type":
            content_type = value
        metadata.append(_metadata(name, value))
    if not pseudo.keys() >= {b":method", b":path", b":scheme"}:
        raise MalformedError("a request needs :method, :scheme and :path")
    refusal = None
    if pseudo[b":method"] != b"POST":
        refusal = http_status(405)
    elif not content_type.startswith(b"application/grpc") or content_type.startswith(b"application/grpc-web"):
        refusal = http_status(415)
    elif size > LARGEST_LIST:
        text = f"the request's metadata size exceeds {LARGEST_LIST} bytes: it has {size}"
        refusal = ANSWER + trailers(_RESOURCE_EXHAUSTED, text)
    return Request(pseudo[b":path"].decode("latin-1"), tuple(metadata), timeout, encoding, refusal)


def _answer(fields: Iterable[tuple[bytes, bytes]]) -> Answer:
    found = dict(fields)
    status = found.get(b":status", b"")
    code = found.get(b"grpc-status", b"")
    return Answer(
        _number(status),
        _number(code),
        unquote(found.get(b"grpc-message", b"").decode("latin-1")),
        found.get(b"grpc-encoding", b"identity").decode("latin-1"),
    )


def _number(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def _metadata(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    key = name.decode("latin-1")
    if key != key.lower():
        raise MalformedError(f"the header {key!r} is not in small letters")
    if not key.endswith(_BINARY):
        return key, value.decode("latin-1")
    try:
        return key, b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise MalformedError(f"the header {key!r} is not base64") from None


def _seconds(value: bytes) -> float:
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS or unit not in _UNITS:
        raise MalformedError(f"the timeout {value!r} is none")
    return int(digits) * _UNITS[unit]


def field(name: bytes, value: bytes) -> bytes:
    return b"".join((_LITERAL, _length(len(name)), name, _length(len(value)), value))


def _length(size: int) -> bytes:
    """An integer of HPACK with seven bits in its first byte, the upper of which says that no Huffman code is used."""
    if size < 0x7F:
        return bytes((size,))
    size -= 0x7F
    parts = bytearray((0x7F,))
    while size >= 0x80:
        parts.append(size & 0x7F | 0x80)
        size >>= 7
    parts.append(size)
    return bytes(parts)


def fields(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Raises ValueError for what gRPC's metadata cannot be."""
    return b"".join(field(*_wire(key, value)) for key, value in metadata)


def _wire(key: str, value: Any) -> tuple[bytes, bytes]:
    if not _KEY.fullmatch(key):
        raise ValueError(f"no key of metadata: {key!r}")
    if key.endswith(_BINARY):
        return key.encode("ascii"), b64encode(value).rstrip(b"=")
    text = value if isinstance(value, bytes) else value.encode("ascii")
    if any(byte < 0x20 or byte > 0x7E for byte in text):
        raise ValueError(f"metadata must be printable: {key}")
    return key.encode("ascii"), text


# The first headers of every answer.
ANSWER: Final = _STATUS_200 + field(b"content-type", b"application/grpc")
_OK: Final = field(b"grpc-status", b"0")


def trailers(code: int, details: str) -> bytes:
    """The last headers of an answer: its status, to which metadata may be added."""
    if not code:
        return _OK
    status = field(b"grpc-status", str(code).encode())
    if not details:
        return status
    return status + field(b"grpc-message", quote(details, safe=_PLAIN, errors="replace").encode("ascii"))


def call(path: str, authority: str, scheme: str, metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """The headers of a request, to which a timeout may be added."""
    block = b"\x83" + (_HTTPS if scheme == "https" else _HTTP)
    block += b"\x04" + _string(path) + b"\x01" + _string(authority)
    return block + field(b"content-type", b"application/grpc") + field(b"te", b"trailers") + fields(metadata)


def timeout(seconds: float) -> bytes:
    milliseconds = max(1, math.ceil(seconds * 1000))
    return field(b"grpc-timeout", b"%dm" % min(milliseconds, 10**_MOST_DIGITS - 1))


def _string(text: str) -> bytes:
    data = text.encode("ascii")
    return _length(len(data)) + data


def http_status(status: int) -> bytes:
    """The only headers of an answer to what is no request of gRPC's."""
    return field(b":status", str(status).encode())
