"""HTTP/2's frames (RFC 9113): read from whatever pieces they come in, and made."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

# What both sides have before anybody says otherwise, in bytes.
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME: Final = 16_384
LARGEST_WINDOW: Final = 2**31 - 1
LARGEST_FRAME: Final = 2**24 - 1
LARGEST_STREAM: Final = 2**31 - 1

# The upper byte of the payload's length and the two below it, type, flags, stream.
_HEADER: Final = struct.Struct("!BHBBI")
_SETTING: Final = struct.Struct("!HI")

# Type, flags, stream, payload.
Frame = tuple[int, int, int, bytes]


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The peer has broken the protocol: its connection ends."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class FrameReader:
    """The frames of one connection, none of which is larger than HTTP/2's default."""

    def __init__(self) -> None:
        # The beginning of a frame that has not come as a whole.
        self._rest = b""

    def read(self, data: bytes) -> list[Frame]:
        """Those that are complete with `data`. Raises ConnectionFault."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        position, end = 0, len(data)
        while end - position >= _HEADER.size:
            upper, lower, type_, flags, stream = _HEADER.unpack_from(data, position)
            if upper or lower > DEFAULT_FRAME:
                raise ConnectionFault(
                    Code.FRAME_SIZE_ERROR, f"a frame of {upper << 16 | lower} bytes: {DEFAULT_FRAME} are allowed"
                )
            begin = position + _HEADER.size
            stop = begin + lower
            if stop > end:
                break
            # The first bit of a stream's number means nothing and must be ignored.
            frames.append((type_, flags, stream & LARGEST_STREAM, data[begin:stop]))
            position = stop
        self._rest = data[position:]
        return frames


def head(size: int, type_: int, flags: int, stream: int) -> bytes:
    """What comes before a payload of `size` bytes."""
    return _HEADER.pack(size >> 16, size & 0xFFFF, type_, flags, stream)


def frame(type_: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return head(len(payload), type_, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"settings of {len(payload)} bytes")
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def go_away(last_stream: int, code: Code, text: str = "") -> bytes:
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + text.encode()
    return frame(GOAWAY, 0, 0, payload)


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding. Raises ConnectionFault."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "padding that is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
