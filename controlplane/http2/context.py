"""One call, as its handler sees it: what `grpc.aio.ServicerContext` is to handlers, as far as ours use it.

A call whose client goes away, or whose time is over, is cancelled: its handler's task, and whoever waits in `write`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from controlplane.http2 import frames, headers
from controlplane.http2.frames import Code, ConnectionFault

if TYPE_CHECKING:
    from controlplane.http2.connection import Connection

log = structlog.get_logger(__name__)

# gRPC's own bytes before a message: whether it is compressed, and its length.
_PREFIX: Final = 5
_PLAIN: Final = b"\x00"
# What one stream sends before others of its connection have their turn, in frames.
_FRAMES_AT_ONCE: Final = 4
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

Metadata = Iterable[tuple[str, str | bytes]]


class Context:
    __slots__ = (
        "_answer_begun",
        "_code",
        "_deadline",
        "_details",
        "_drained",
        "_ended",
        "_handler",
        "_incoming",
        "_messages",
        "_outgoing",
        "_owed",
        "_reader",
        "_receive_window",
        "_request",
        "_timer",
        "_trailing",
        "_unread",
        "client_ended",
        "closed",
        "connection",
        "send_window",
        "stream",
        "task",
    )

    def __init__(
        self, connection: Connection, stream: int, request: headers.Request, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.send_window = connection.initial_send_window
        # The client has sent everything; the stream is over.
        self.client_ended = False
        self.closed = False
        self.task: asyncio.Task[None] | None = None
        self._request = request
        self._handler: Any = handler
        # The beginning of a message that has not come as a whole; messages that nobody has read, and their bytes.
        self._incoming = bytearray()
        self._messages: deque[bytes] = deque()
        self._unread = 0
        self._reader: asyncio.Future[None] | None = None
        # Bytes that the client may send, and those that it has sent and was not given back.
        self._receive_window = connection.options.stream_window
        self._owed = 0
        # What waits for the client to take more.
        self._outgoing: deque[memoryview] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._answer_begun = False
        self._code = 0
        self._details = ""
        self._trailing = b""
        # The handler has nothing more to say: its status is sent, or comes after what waits.
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        if request.timeout is not None:
            self._deadline = connection.loop.time() + request.timeout
            self._timer = connection.loop.call_later(request.timeout, self._time_is_over)

    # For handlers.

    def invocation_metadata(self) -> headers.Metadata:
        return self._request.metadata

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; None where it has none."""
        return None if self._deadline is None else max(0.0, self._deadline - self.connection.loop.time())

    async def read(self) -> Any:
        """The client's next message; `grpc.aio.EOF` when it has ended its side."""
        while not self._messages:
            if self.client_ended or self.closed:
                return grpc.aio.EOF
            self._reader = self.connection.loop.create_future()
            await self._reader
        message = self._messages.popleft()
        self._unread -= len(message)
        self._give_back()
        return self._read_as_message(message)

    async def write(self, message: Any) -> None:
        """Returns when the message is on its way to the client, as far as its windows go."""
        serialize = self._handler.response_serializer
        self.send(message if serialize is None else serialize(message))
        await self.drained()

    def send(self, message: bytes) -> None:
        """As `write`, which does not wait: until `waits` is false again nothing more should be sent."""
        if self.closed:
            raise asyncio.CancelledError("the call's client is gone")
        connection = self.connection
        connection.messages_sent += 1
        begin = b"" if self._answer_begun else connection.header_frames(self.stream, headers.ANSWER)
        self._answer_begun = True
        size = _PREFIX + len(message)
        prefix = _PLAIN + len(message).to_bytes(4, "big")
        if self._outgoing or size > self.send_window or not connection.has_room(size):
            connection.write(begin)
            self._outgoing.append(memoryview(prefix + message))
            connection.pump(self)
            return
        self.send_window -= size
        connection.send_window -= size
        end = self._status_frames() if self._ended else b""
        # All at once: each write costs a record of TLS.
        connection.write(b"".join((begin, frames.head(size, frames.DATA, 0, self.stream), prefix, message, end)))
        if self._ended:
            self._is_over()

    @property
    def waits(self) -> bool:
        """Something is to be sent that the client's windows have not let through."""
        return bool(self._outgoing)

    async def drained(self) -> None:
        """Until nothing waits any more; cancelled when the client goes away."""
        while self._outgoing:
            if self._drained is None or self._drained.done():
                self._drained = self.connection.loop.create_future()
            await self._drained

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """As a rule they go with the first message; this tells the client before that its call stands."""
        if self.closed:
            raise asyncio.CancelledError("the call's client is gone")
        if not self._answer_begun:
            self._answer_begun = True
            block = headers.ANSWER + headers.fields(metadata)
            self.connection.write(self.connection.header_frames(self.stream, block))

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self._trailing = headers.fields(metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code.value[0]

    def set_details(self, details: str) -> None:
        self._details = details

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Ends the call with an error, by raising what its handler must let through."""
        self.set_code(code)
        self._details = details
        self._trailing = headers.fields(trailing_metadata) or self._trailing
        raise grpc.aio.AbortError("the handler has ended its call")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    # For the connection.

    def begin(self) -> None:
        """The headers have come: where the client may send many messages, its handler runs from now on."""
        if self._handler.request_streaming:
            self._run(self._requests())

    def data_came(self, data: bytes, size: int) -> None:
        """`size` is what counts for the windows, padding included. Raises ConnectionFault."""
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"more than the window of the stream {self.stream}")
        self._owed += size
        waiting = self._incoming
        if waiting:
            waiting += data
        taken = self._take_messages(waiting or data)
        if waiting:
            del waiting[:taken]
        else:
            waiting += data[taken:]
        self._give_back()

    def client_has_ended(self) -> None:
        self.client_ended = True
        self._wake_reader()
        if self.task is None and not self.closed:
            self.fail(grpc.StatusCode.INVALID_ARGUMENT, "the request has no message, or only a part of one")

    def pump(self) -> bool:
        """Sends some of what waits. False where the rest must wait for the client's window, or there is none."""
        connection = self.connection
        parts: list[bytes | memoryview] = []
        room = min(self.send_window, connection.send_window, _FRAMES_AT_ONCE * connection.largest_frame)
        while self._outgoing and room > 0:
            waiting = self._outgoing[0]
            size = min(len(waiting), room, connection.largest_frame)
            parts += (frames.head(size, frames.DATA, 0, self.stream), waiting[:size])
            room -= size
            self.send_window -= size
            connection.send_window -= size
            if size == len(waiting):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = waiting[size:]
        connection.write(b"".join(parts))
        if self._outgoing:
            return self.send_window > 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._ended:
            self._send_status()
        return False

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call from outside; whatever still waits to be sent is given up."""
        if self._outgoing:
            self.reset(Code.CANCEL)
            return
        self.set_code(code)
        self._details = details
        self._trailing = b""
        self._send_status()

    def reset(self, code: Code) -> None:
        if not self.closed:
            self.connection.write(frames.reset(self.stream, code))
            self.close()

    def close(self) -> None:
        """The stream is over for both sides; a handler that still runs is cancelled."""
        if self.closed:
            return
        self.closed = True
        self.connection.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        self._outgoing.clear()
        self._messages.clear()
        self._wake_reader()
        if self._drained is not None:
            self._drained.cancel()
        if self.task is not None and not self._ended:
            self.task.cancel()

    # What has come.

    def _take_messages(self, data: bytes | bytearray) -> int:
        """Those that are complete; how many bytes they had."""
        largest = self.connection.options.largest_message
        position, end = 0, len(data)
        while end - position >= _PREFIX and not self.closed:
            begin = position + _PREFIX
            length = int.from_bytes(data[position + 1 : begin], "big")
            stop = begin + length
            if length > largest:
                # In the words that clients know from gRPC's own server.
                text = f"Received message larger than max ({length} vs. {largest})"
                self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
                return end
            if stop > end:
                break
            self._message_came(bytes(data[begin:stop]), compressed=data[position] != 0)
            position = stop
        return position

    def _message_came(self, data: bytes, *, compressed: bool) -> None:
        self.connection.messages_received += 1
        if compressed:
            try:
                data = self._decompressed(data)
            except ValueError as error:
                self.fail(grpc.StatusCode.UNIMPLEMENTED, str(error))
                return
        if self._handler.request_streaming:
            self._messages.append(data)
            self._unread += len(data)
            self._wake_reader()
        elif self.task is None and not self._ended:
            self._run(data)

    def _decompressed(self, data: bytes) -> bytes:
        encoding = self._request.encoding
        bits = _WINDOW_BITS.get(encoding)
        if bits is None:
            raise ValueError(f"messages compressed as {encoding} are not understood: gzip and deflate are")
        largest = self.connection.options.largest_message
        reader = zlib.decompressobj(bits)
        try:
            plain = reader.decompress(data, largest)
        except zlib.error:
            raise ValueError(f"a message is not compressed as {encoding}, as its headers say") from None
        if not reader.eof:
            raise ValueError(f"a compressed message is cut off, or has more than {largest} bytes")
        return plain

    def _read_as_message(self, data: bytes) -> Any:
        deserialize = self._handler.request_deserializer
        if deserialize is None:
            return data
        try:
            return deserialize(data)
        except DecodeError:
            raise _Malformed from None

    async def _requests(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def _give_back(self) -> None:
        """Lets the client send on, unless it is ahead of the handler by a window already."""
        window = self.connection.options.stream_window
        if self._owed >= window // 2 and self._unread < window and not (self.client_ended or self.closed):
            self.connection.write(frames.window_update(self.stream, self._owed))
            self._receive_window += self._owed
            self._owed = 0

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _time_is_over(self) -> None:
        self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    # What is sent.

    def _end(self, answer: bytes | None) -> None:
        """The handler has nothing more to say."""
        if self.closed:
            return
        self._ended = True
        if answer is not None and not self._code:
            self.send(answer)
        elif not self._outgoing:
            self._send_status()

    def _send_status(self) -> None:
        self.connection.write(self._status_frames())
        self._is_over()

    def _status_frames(self) -> bytes:
        """The end of the stream. The client need not have ended its side: it is told that nobody listens."""
        block = headers.trailers(self._code, self._details) + self._trailing
        if not self._answer_begun:
            block = headers.ANSWER + block
        made = self.connection.header_frames(self.stream, block, frames.END_STREAM)
        return made if self.client_ended else made + frames.reset(self.stream, Code.NO_ERROR)

    def _is_over(self) -> None:
        self.connection.calls_ended += 1
        self.close()

    # The handler.

    def _run(self, request: Any) -> None:
        connection = self.connection
        self.task = connection.loop.create_task(self._serve(request))
        connection.running.add(self.task)
        # Not at the handler's own end: one that is cancelled before its first step never begins.
        self.task.add_done_callback(connection.running.discard)

    async def _serve(self, request: Any) -> None:
        try:
            try:
                await self._answer(request)
            except grpc.aio.AbortError:
                self._end(None)
            except _Malformed:
                self.set_code(grpc.StatusCode.INVALID_ARGUMENT)
                self._details = "the request is no message of its type"
                self._end(None)
            await self.drained()
        except asyncio.CancelledError:
            if self.closed:
                raise
            # Not by its client: what waits for one that does not read is given up.
            self._ended = True
            self.fail(grpc.StatusCode.UNAVAILABLE, "the server has ended the call")
        except Exception:
            log.exception("a call failed for a reason that nobody foresaw", path=self._request.path)
            self._ended = True
            self.fail(grpc.StatusCode.UNKNOWN, "the call failed inside the server: its log says why")

    async def _answer(self, request: Any) -> None:
        handler = self._handler
        if not handler.request_streaming:
            request = self._read_as_message(request)
        if not handler.response_streaming:
            answer = await handler.unary_unary(request, self)
            serialize = handler.response_serializer
            self._end(answer if serialize is None or answer is None else serialize(answer))
            return
        answers = (handler.stream_stream if handler.request_streaming else handler.unary_stream)(request, self)
        if hasattr(answers, "__aiter__"):
            async for answer in answers:
                await self.write(answer)
        else:
            await answers
        self._end(None)


class _Malformed(Exception):
    """Bytes that are no message of the type that the method takes."""
