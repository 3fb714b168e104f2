"""One client's connection: its frames, its windows, its calls.

Whatever breaks HTTP/2's rules ends the connection with a GOAWAY that says which. Memory is bounded: by the windows for
what comes, by the transport's buffer for what goes, and by an end for who makes the server answer and does not read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
import structlog

from controlplane.http2 import frames, headers
from controlplane.http2.context import Context
from controlplane.http2.frames import Code, ConnectionFault
from controlplane.http2.identity import Identity, identity_of

if TYPE_CHECKING:
    from controlplane.http2.server import Server

log = structlog.get_logger(__name__)

# Bytes. Headers that come in many frames; the peer's frames that are made as large as they may be.
_LARGEST_BLOCK: Final = headers.LARGEST_READ
_LARGEST_FRAME_SENT: Final = 64 * 1024
# What the transport may hold before messages wait, and before a client that does not read is given up: answers to its
# pings, settings and refused calls are all that can come on top.
_BUFFER: Final = 256 * 1024
_MOST_BUFFERED: Final = 4 * 1024 * 1024
# Looks at a client that was pinged: one alone might come before its answer was read, where this process stood still.
_LOOKS: Final = 2
_UNIMPLEMENTED: Final[int] = grpc.StatusCode.UNIMPLEMENTED.value[0]


class Connection(asyncio.Protocol):
    def __init__(self, server: Server, *, tls: bool) -> None:
        self.server = server
        self.options = server.options
        self.loop = server.loop
        # Whose it is; None on a unix socket.
        self.identity: Identity | None = None
        self.peer: tuple[Any, ...] = ()
        # What the client has told, and what of its windows is left.
        self.initial_send_window = frames.DEFAULT_WINDOW
        self.send_window = frames.DEFAULT_WINDOW
        self.largest_frame = frames.DEFAULT_FRAME
        # Open streams, and those whose handler has not ended.
        self.streams: dict[int, Context] = {}
        self.running: set[asyncio.Task[None]] = set()
        self.last_stream = 0
        # Its own among all of the server's, and counts that tools ask for.
        self.number = next(server.numbers)
        self.calls_begun = 0
        self.calls_ended = 0
        self.messages_received = 0
        self.messages_sent = 0
        self.pings_sent = 0
        self._tls = tls
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._closed = False
        self._lost = asyncio.Event()
        self._stopping = False
        self._frames = frames.FrameReader()
        self._headers = headers.HeaderReader()
        # Bytes of the preface that have come, until it is there; then whether settings have.
        self._preface: bytes | None = b""
        self._settings_came = False
        # Headers that go on in the next frame: their stream, flags and beginning.
        self._unfinished: tuple[int, int, bytes] | None = None
        self._receive_window = self.options.connection_window
        self._owed = 0
        # Calls with something to send that their own windows let through, in turns.
        self._waiting: dict[Context, None] = {}
        self._full = False
        # Before the next headers: the client keeps a smaller table than usual.
        self._table_update = b""
        self._heard_at = 0.0
        # Looks since the last ping; 0 where none is unanswered.
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_BUFFER)
        peer = transport.get_extra_info("peername")
        self.peer = peer if isinstance(peer, tuple) else ()
        self.server.connections.add(self)
        if self._tls:
            if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                # It would not understand why.
                self._transport.abort()
                return
            self.identity = identity_of(transport.get_extra_info("peercert") or {})
        self._heard_at = self.loop.time()
        self._timer = self.loop.call_later(self.options.ping_after, self._look_at_silence)
        values = {
            frames.MAX_CONCURRENT_STREAMS: self.options.most_streams,
            frames.INITIAL_WINDOW_SIZE: self.options.stream_window,
            frames.MAX_HEADER_LIST_SIZE: headers.LARGEST_LIST,
        }
        more = self.options.connection_window - frames.DEFAULT_WINDOW
        self.write(frames.settings(values) + frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        try:
            if self._preface is not None:
                data = self._take_preface(data)
            for type_, flags, stream, payload in self._frames.read(data):
                if self._closed:
                    return
                self._take(type_, flags, stream, payload)
        except ConnectionFault as fault:
            self._end(fault)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._lost.set()
        if self._timer is not None:
            self._timer.cancel()
        for context in list(self.streams.values()):
            context.close()
        self._waiting.clear()
        self.server.connections.discard(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    # For calls.

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

    def pump(self, context: Context) -> None:
        """Sends what `context` has, when it is its turn."""
        if context.send_window > 0:
            self._waiting[context] = None
            self._pump()

    def forget(self, context: Context) -> None:
        self.streams.pop(context.stream, None)
        self._waiting.pop(context, None)
        if self._stopping and not self.streams:
            self.close()

    # For the server.

    def stop(self) -> None:
        """No new calls; closed when the last one is over."""
        if not self._stopping:
            self._stopping = True
            self.write(frames.go_away(self.last_stream, Code.NO_ERROR, "the server stops"))
            if not self.streams:
                self.close()

    def close(self) -> None:
        """What is on its way still goes."""
        if not self._closed:
            self._closed = True
            self._transport.close()

    def end_calls(self, code: grpc.StatusCode, details: str) -> None:
        for context in list(self.streams.values()):
            context.fail(code, details)

    async def wait_lost(self, seconds: float) -> None:
        """Until the connection is gone: by itself, or in `seconds` by force."""
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    # Its own.

    def _end(self, fault: ConnectionFault) -> None:
        log.info("a client breaks HTTP/2's rules: its connection ends", error=str(fault), code=fault.code.name)
        self.write(frames.go_away(self.last_stream, fault.code, str(fault)))
        self.close()

    def _look_at_silence(self) -> None:
        """Who says nothing is pinged, and who does not answer is gone: packets may be lost, not refused."""
        options, silent = self.options, self.loop.time() - self._heard_at
        if silent < options.ping_after:
            self._looks = 0
            wait = options.ping_after - silent
        elif self._looks < _LOOKS:
            if self._looks == 0:
                self.pings_sent += 1
                self._answer(frames.frame(frames.PING, 0, 0, bytes(8)))
            self._looks += 1
            wait = options.pong_within / _LOOKS
        else:
            log.info("a client does not answer: its connection ends", silent=round(silent, 1))
            self.abort()
            return
        self._timer = self.loop.call_later(wait, self._look_at_silence)

    def _pump(self) -> None:
        """In turns, a few frames each."""
        while self._waiting and not self._full and self.send_window > 0:
            context = next(iter(self._waiting))
            del self._waiting[context]
            if context.pump():
                self._waiting[context] = None

    def _answer(self, frame: bytes) -> None:
        """What a client makes the server say, however much of it: it must read that."""
        if self._transport.get_write_buffer_size() > _MOST_BUFFERED:
            log.info("a client does not read: its connection ends")
            self.abort()
        else:
            self.write(frame)

    def _take_preface(self, data: bytes) -> bytes:
        """What comes behind it."""
        assert self._preface is not None
        data = self._preface + data
        expected = frames.PREFACE
        if not data.startswith(expected[: len(data)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no client of HTTP/2")
        self._preface = None if len(data) >= len(expected) else data
        return data[len(expected) :]

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
        elif type_ == frames.PRIORITY:
            if stream == 0 or len(payload) != 5:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a priority of no stream, or of a wrong size")
        elif type_ == frames.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "clients push nothing")
        # A client's GOAWAY needs no answer: it ends its calls, then the connection. Other types must be ignored.

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        if stream == 0 or stream > self.last_stream:
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
        context = self.streams.get(stream)
        if context is None:
            # Of a call that has ended meanwhile.
            return
        if context.client_ended:
            raise ConnectionFault(Code.STREAM_CLOSED, f"data of the stream {stream} after its end")
        context.data_came(payload, size)
        if flags & frames.END_STREAM:
            context.client_has_ended()

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = frames.unpadded(flags, payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "headers without the priority that they announce")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._headers_came(flags, stream, payload)
        else:
            self._unfinished = (stream, flags, payload)

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
            self._headers_came(first_flags, stream, block)
        else:
            self._unfinished = (stream, first_flags, block)

    def _headers_came(self, flags: int, stream: int, block: bytes) -> None:
        ended = bool(flags & frames.END_STREAM)
        if stream <= self.last_stream:
            self._headers.skip(block)
            context = self.streams.get(stream)
            if context is not None:
                if not ended or context.client_ended:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, f"headers amidst the stream {stream}, or after it")
                context.client_has_ended()
            elif stream % 2 == 0:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"the stream {stream}, which is none of a client's")
            return
        if stream % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"the stream {stream}, which is none of a client's")
        try:
            request = self._headers.read(block)
        except headers.MalformedError as error:
            log.debug("a malformed request", error=str(error))
            self.last_stream = stream
            self._answer(frames.reset(stream, Code.PROTOCOL_ERROR))
            return
        self.last_stream = stream
        if self._stopping or max(len(self.streams), len(self.running)) >= self.options.most_streams:
            self._answer(frames.reset(stream, Code.REFUSED_STREAM))
            return
        if request.refusal is not None:
            self._refuse(stream, request.refusal, ended=ended)
        else:
            self._begin(stream, request, ended=ended)

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
            context.client_has_ended()

    def _refuse(self, stream: int, block: bytes, *, ended: bool) -> None:
        end = b"" if ended else frames.reset(stream, Code.NO_ERROR)
        self._answer(self.header_frames(stream, block, frames.END_STREAM) + end)

    def _take_window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a window update of a wrong size")
        more = int.from_bytes(payload, "big") & frames.LARGEST_WINDOW
        if stream == 0:
            if more == 0 or self.send_window + more > frames.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window update by nothing, or by too much")
            self.send_window += more
            self._pump()
            return
        if stream > self.last_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a window of the stream {stream}, which is not open")
        context = self.streams.get(stream)
        if context is None:
            return
        if more == 0 or context.send_window + more > frames.LARGEST_WINDOW:
            context.reset(Code.FLOW_CONTROL_ERROR)
            return
        self._widen(context, more)

    def _widen(self, context: Context, more: int) -> None:
        context.send_window += more
        if context.waits:
            self.pump(context)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0 or (flags & frames.ACK and payload):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "settings of a stream, or in an acknowledgement")
        self._settings_came = True
        if flags & frames.ACK:
            return
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.LARGEST_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
                more, self.initial_send_window = value - self.initial_send_window, value
                for context in list(self.streams.values()):
                    if context.send_window + more > frames.LARGEST_WINDOW:
                        raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that grows too large")
                    self._widen(context, more)
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, f"frames of up to {value} bytes")
                self.largest_frame = min(value, _LARGEST_FRAME_SENT)
            elif name == frames.HEADER_TABLE_SIZE:
                self._table_update = headers.NO_TABLE
            elif name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "push is on or off")
        self._answer(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0 or len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping of a stream, or of a wrong size")
        if not flags & frames.ACK:
            self._answer(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _take_reset(self, stream: int, payload: bytes) -> None:
        if stream == 0 or stream > self.last_stream or len(payload) != 4:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a reset of no stream, or of a wrong size")
        context = self.streams.get(stream)
        if context is not None:
            context.close()
