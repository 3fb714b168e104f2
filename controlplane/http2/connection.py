"""One connection, at either end of it: its frames, its windows, its streams, and whether the other end still lives.

Whatever breaks HTTP/2's rules ends the connection with a GOAWAY that says which. Memory is bounded: by the windows for
what comes, by the transport's buffer for what goes, and by an end for who makes this side answer and does not read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, cast

import structlog

from controlplane.http2 import frames, headers
from controlplane.http2.frames import Code, ConnectionFault
from controlplane.http2.stream import Stream

log = structlog.get_logger(__name__)

_MIB: Final = 1024 * 1024
# Bytes. Headers that come in many frames; the other end's frames that are made as large as they may be.
_LARGEST_BLOCK: Final = headers.LARGEST_READ
_LARGEST_FRAME_SENT: Final = 64 * 1024
# What the transport may hold before messages wait, and before an end that does not read is given up: what no window
# holds up comes on top, answers to its pings and settings, headers, the status of its calls.
_BUFFER: Final = 256 * 1024
_MOST_BUFFERED: Final = 4 * _MIB
# Looks at an end that was pinged: one alone might come before its answer was read, where this process stood still.
_LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class Options:
    """Seconds and bytes."""

    # An end that has been silent for `ping_after` is pinged, and gone if it does not answer within `pong_within`.
    ping_after: float = 6.0
    pong_within: float = 4.0
    # Calls of one connection; more wait in their client.
    most_streams: int = 5_200
    largest_message: int = 16 * _MIB
    # What the other end may send before it is given back what was taken in: in one call, and in all of a connection.
    stream_window: int = 256 * 1024
    connection_window: int = 4 * _MIB

    def __post_init__(self) -> None:
        # An end that has not heard of smaller ones yet would be punished for what it may do.
        if min(self.stream_window, self.connection_window - 1) < frames.DEFAULT_WINDOW:
            raise ValueError(f"windows must be larger than the {frames.DEFAULT_WINDOW} bytes that HTTP/2 begins with")


class Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self.loop = loop
        self.options = options
        # What the other end has told, and what of its windows is left.
        self.initial_send_window = frames.DEFAULT_WINDOW
        self.send_window = frames.DEFAULT_WINDOW
        self.largest_frame = frames.DEFAULT_FRAME
        self.streams: dict[int, Stream] = {}
        # Counts that tools ask for.
        self.messages_received = 0
        self.messages_sent = 0
        self.pings_sent = 0
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._closed = False
        self._frames = frames.FrameReader()
        self._settings_came = False
        # Headers that go on in the next frame: their stream, flags and beginning.
        self._unfinished: tuple[int, int, bytearray] | None = None
        self._receive_window = options.connection_window
        self._owed = 0
        # Streams with something to send that their own windows let through, in turns.
        self._waiting: dict[Stream, None] = {}
        self._full = False
        # Before the next headers: the other end keeps a smaller table than usual.
        self._table_update = b""
        self._heard_at = 0.0
        # The last ping, and the looks since; 0 where none is unanswered.
        self._pinged_at = 0.0
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_BUFFER)
        self._heard_at = self.loop.time()
        self._timer = self.loop.call_later(self.options.ping_after, self._look_at_silence)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        if self._transport.get_write_buffer_size() > _MOST_BUFFERED:
            log.info("the other end makes this one answer and does not read: the connection ends")
            self.abort()
            return
        try:
            for type_, flags, stream, payload in self._frames.read(self._behind_preface(data)):
                if self._closed:
                    return
                self._take(type_, flags, stream, payload)
        except ConnectionFault as fault:
            log.info("HTTP/2's rules are broken: the connection ends", error=str(fault), code=fault.code.name)
            self.write(frames.go_away(self._last_of_peer(), fault.code, str(fault)))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    # For streams.

    def write(self, data: bytes) -> None:
        if not self._closed:
            self._transport.write(data)

    def header_frames(self, stream: int, block: bytes, flags: int = 0) -> bytes:
        """To be written in the order in which they are made."""
        if self._table_update:
            block, self._table_update = self._table_update + block, b""
        size = frames.DEFAULT_FRAME
        if len(block) <= size:
            return frames.frame(frames.HEADERS, flags | frames.END_HEADERS, stream, block)
        parts = [block[start : start + size] for start in range(0, len(block), size)]
        made = [frames.frame(frames.HEADERS, flags, stream, parts[0])]
        made += [frames.frame(frames.CONTINUATION, 0, stream, part) for part in parts[1:-1]]
        made.append(frames.frame(frames.CONTINUATION, frames.END_HEADERS, stream, parts[-1]))
        return b"".join(made)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may go at once, in one frame."""
        return not self._waiting and not self._full and size <= self.send_window and size <= self.largest_frame

    def pump(self, stream: Stream) -> None:
        """Sends what `stream` has, when it is its turn."""
        if stream.send_window > 0:
            self._waiting[stream] = None
            self._pump()

    def forget(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        self._waiting.pop(stream, None)

    def close(self) -> None:
        """What is on its way still goes."""
        if not self._closed:
            self._closed = True
            self._transport.close()

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    # What is different at the two ends.

    def _behind_preface(self, data: bytes) -> bytes:
        """Where the other end says something before its first frame: what comes after that."""
        return data

    def _last_of_peer(self) -> int:
        """The last stream that the other end has begun."""
        return 0

    def _has_begun(self, stream: int) -> bool:
        """Whether there is such a stream, or was one."""
        raise NotImplementedError

    def _headers_came(self, flags: int, stream: int, block: bytes) -> None:
        raise NotImplementedError

    def _going_away(self, payload: bytes) -> None:
        """A client's needs no answer: it ends its calls, then the connection."""

    # Both ends.

    def _greet(self, more: dict[int, int]) -> None:
        """The first frames: this side's settings, and a window as large as wanted."""
        values = {
            frames.INITIAL_WINDOW_SIZE: self.options.stream_window,
            frames.MAX_HEADER_LIST_SIZE: headers.LARGEST_LIST,
        }
        window = self.options.connection_window - frames.DEFAULT_WINDOW
        self.write(frames.settings(values | more) + frames.window_update(0, window))

    def _look_at_silence(self) -> None:
        """Who says nothing is pinged, and who does not answer is gone: packets may be lost, not refused."""
        options, now = self.options, self.loop.time()
        silent = now - self._heard_at
        # At the same time too: the loop's clock has milliseconds, and the answer of a neighbour takes less.
        if self._heard_at >= self._pinged_at:
            self._looks = 0
        if self._looks == 0 and silent < options.ping_after:
            wait = options.ping_after - silent
        elif self._looks < _LOOKS:
            if self._looks == 0:
                self._pinged_at = now
                self.pings_sent += 1
                self.write(frames.frame(frames.PING, 0, 0, bytes(8)))
            self._looks += 1
            wait = options.pong_within / _LOOKS
        else:
            log.info("the other end does not answer: the connection ends", silent=round(silent, 1))
            self.abort()
            return
        self._timer = self.loop.call_later(wait, self._look_at_silence)

    def _pump(self) -> None:
        """In turns, a few frames each."""
        while self._waiting and not self._full and self.send_window > 0:
            stream = next(iter(self._waiting))
            del self._waiting[stream]
            if stream.pump():
                self._waiting[stream] = None

    def _take(self, type_: int, flags: int, stream: int, payload: bytes) -> None:
        if self._unfinished is not None and type_ != frames.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "headers are not continued")
        if not self._settings_came and type_ != frames.SETTINGS:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a connection begins with settings")
        if type_ == frames.DATA:
            self._take_data(flags, stream, payload)
        elif type_ == frames.HEADERS:
            self._take_headers(flags, stream, payload)
        elif type_ == frames.WINDOW_UPDATE:
            self._take_window_update(stream, payload)
        elif type_ == frames.SETTINGS:
            self._take_settings(flags, stream, payload)
        elif type_ == frames.PING:
            self._take_ping(flags, stream, payload)
        elif type_ == frames.RST_STREAM:
            self._take_reset(stream, payload)
        elif type_ == frames.CONTINUATION:
            self._take_continuation(flags, stream, payload)
        elif type_ == frames.GOAWAY:
            if stream != 0 or len(payload) < 8:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a farewell of a stream, or too short")
            self._going_away(payload)
        elif type_ == frames.PRIORITY:
            if stream == 0 or len(payload) != 5:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a priority of no stream, or of a wrong size")
        elif type_ == frames.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "nothing is to be pushed")
        # Other types must be ignored.

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        if not self._has_begun(stream):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"data of the stream {stream}, which is not open")
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the window of the connection")
        self._owed += size
        if self._owed >= self.options.connection_window // 2:
            self.write(frames.window_update(0, self._owed))
            self._receive_window += self._owed
            self._owed = 0
        payload = frames.unpadded(flags, payload)
        found = self.streams.get(stream)
        if found is None:
            # Of a call that has ended meanwhile.
            return
        if found.peer_ended:
            raise ConnectionFault(Code.STREAM_CLOSED, f"data of the stream {stream} after its end")
        found.data_came(payload, size)
        if flags & frames.END_STREAM:
            found.peer_has_ended()

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = frames.unpadded(flags, payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "headers without the priority that they announce")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._headers_came(flags, stream, payload)
        else:
            self._unfinished = (stream, flags, bytearray(payload))

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._unfinished is None or stream != self._unfinished[0]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a continuation of nothing")
        _, first_flags, block = self._unfinished
        block += payload
        # Frames without anything in them would cost time only.
        if len(block) > _LARGEST_BLOCK or not (payload or flags & frames.END_HEADERS):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"headers of more than {_LARGEST_BLOCK} bytes, or of none")
        if flags & frames.END_HEADERS:
            self._unfinished = None
            self._headers_came(first_flags, stream, bytes(block))

    def _take_window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a window update of a wrong size")
        more = int.from_bytes(payload, "big") & frames.LARGEST_WINDOW
        if stream == 0:
            if more == 0:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window update by nothing")
            if self.send_window + more > frames.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that grows too large")
            self.send_window += more
            self._pump()
            return
        if not self._has_begun(stream):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a window of the stream {stream}, which is not open")
        found = self.streams.get(stream)
        if found is None:
            return
        if more == 0:
            found.reset(Code.PROTOCOL_ERROR)
        elif found.send_window + more > frames.LARGEST_WINDOW:
            found.reset(Code.FLOW_CONTROL_ERROR)
        else:
            self._widen(found, more)

    def _widen(self, stream: Stream, more: int) -> None:
        stream.send_window += more
        if stream.waits:
            self.pump(stream)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "settings of a stream")
        if flags & frames.ACK and payload:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "settings in an acknowledgement")
        self._settings_came = True
        if flags & frames.ACK:
            return
        # Of several values the last one counts: all streams have to be gone through for a window.
        for name, value in dict(frames.read_settings(payload)).items():
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
                more, self.initial_send_window = value - self.initial_send_window, value
                for open_stream in list(self.streams.values()):
                    if open_stream.send_window + more > frames.LARGEST_WINDOW:
                        raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that grows too large")
                    self._widen(open_stream, more)
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, f"frames of up to {value} bytes")
                self.largest_frame = min(value, _LARGEST_FRAME_SENT)
            elif name == frames.HEADER_TABLE_SIZE:
                self._table_update = headers.NO_TABLE
            elif name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "push is on or off")
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a ping of a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping of a wrong size")
        if not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _take_reset(self, stream: int, payload: bytes) -> None:
        if not self._has_begun(stream):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a reset of the stream {stream}, which is not open")
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a reset of a wrong size")
        found = self.streams.get(stream)
        if found is not None:
            self._was_reset(found, int.from_bytes(payload, "big"))

    def _was_reset(self, stream: Stream, code: int) -> None:
        stream.close()
