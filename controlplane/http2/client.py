"""The client's end: what the stubs that `protoc` makes need of a `grpc.aio.Channel`, for calls of one server.

A call gets through over the connection that there is, or over a new one; while none can be made it fails at once, as
Unavailable, until the next attempt is due. Errors are `grpc.aio.AioRpcError`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
import structlog

from controlplane.http2 import frames, headers
from controlplane.http2.connection import Connection, Options
from controlplane.http2.frames import Code
from controlplane.http2.stream import Stream
from podwire.backoff import Backoff

log = structlog.get_logger(__name__)

# Seconds for a connection to be made, TLS included; between attempts, the first and the longest.
_CONNECT_SECONDS: Final = 2.0
_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 1.0

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
# What a reset says of a call (gRPC's protocol over HTTP/2); every other one is an internal error.
_RESETS: Final[dict[int, grpc.StatusCode]] = {
    Code.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    Code.CANCEL: grpc.StatusCode.CANCELLED,
    Code.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# And a status of HTTP, where an answer has none of gRPC's; every other one says nothing.
_HTTP: Final = {
    400: grpc.StatusCode.INTERNAL,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.UNAVAILABLE,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}


def failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


def _cancellations() -> int:
    """How often the task that runs was told to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


class Call(Stream):
    """One call under way."""

    __slots__ = ("_answer", "_code", "_details", "outcome")
    connection: ClientConnection

    def __init__(self, connection: ClientConnection, number: int, timeout: float | None) -> None:
        super().__init__(connection, number, timeout)
        self._answer: headers.Answer | None = None
        self._code: grpc.StatusCode | None = None
        self._details = ""
        # Done when the call is over, however it ends.
        self.outcome: asyncio.Future[None] = connection.loop.create_future()

    def begin(self, block: bytes, message: bytes | None) -> None:
        """With the only message of the call, or before the first of many."""
        begin = self.connection.header_frames(self.number, block)
        if message is None:
            self.connection.write(begin)
        else:
            self._ended = True
            self._put(message, begin)

    async def say(self, message: bytes) -> None:
        """Raises what has ended the call."""
        if self.closed:
            raise self.error()
        self._put(message, b"")
        before = _cancellations()
        try:
            await self.drained()
        except asyncio.CancelledError:
            # By the end of the call, or because the task is to end: that goes before.
            if self.closed and _cancellations() == before:
                raise self.error() from None
            raise

    async def hear(self) -> bytes | None:
        """The next message; None where the call has ended well. Raises what else has ended it."""
        message = await self._message_or_end()
        if message is None and self._code is not grpc.StatusCode.OK:
            raise self.error()
        return message

    def only_message(self) -> bytes:
        """The answer of a call that is over. Raises what went wrong instead."""
        if self._code is not grpc.StatusCode.OK:
            raise self.error()
        if not self._messages:
            raise failure(grpc.StatusCode.INTERNAL, "the answer has no message")
        return self._messages[0]

    def error(self) -> grpc.aio.AioRpcError:
        return failure(self._code or grpc.StatusCode.UNKNOWN, self._details)

    def cancel(self) -> None:
        self.fail(grpc.StatusCode.CANCELLED, "the call was cancelled")

    # For the connection.

    def answer_came(self, answer: headers.Answer, *, last: bool) -> None:
        self._answer = self._answer or answer
        http_status = self._answer.http_status or 0
        if last and answer.code is not None:
            self._over(_CODES.get(answer.code, grpc.StatusCode.UNKNOWN), answer.details)
        elif last or http_status >= 300:
            # A page that a proxy sends is no message either.
            code = _HTTP.get(http_status, grpc.StatusCode.UNKNOWN)
            details = f"no answer of gRPC's: the status of HTTP is {http_status}"
            if last:
                self._over(code, details)
            else:
                self.fail(code, details)

    def peer_has_ended(self) -> None:
        super().peer_has_ended()
        if self._code is None:
            self._over(grpc.StatusCode.INTERNAL, "the answer has no status")

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call from this side; the server is told to stop."""
        if not self.closed:
            self.connection.write(frames.reset(self.number, Code.CANCEL))
            self.lost(code, details)

    def reset(self, code: Code) -> None:
        super().reset(code)
        self._over(grpc.StatusCode.INTERNAL, f"the server has broken HTTP/2's rules: {code.name}")

    def lost(self, code: grpc.StatusCode, details: str) -> None:
        """The call is over, and nobody need be told. What has come and was not read is of no use any more."""
        self._messages.clear()
        self._over(code, details)

    def _over(self, code: grpc.StatusCode, details: str) -> None:
        if self._code is None:
            self._code, self._details = code, details
        self.close()
        if not self.outcome.done():
            self.outcome.set_result(None)

    def _encoding(self) -> str:
        return self._answer.encoding if self._answer is not None else "identity"

    def _last_flags(self) -> int:
        return frames.END_STREAM


class ClientConnection(Connection):
    streams: dict[int, Call]  # type: ignore[assignment]

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        super().__init__(loop, options)
        # No more calls: the server says so, or there is nobody any more.
        self.leaving = False
        self._headers = headers.answer_reader()
        self._next = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(frames.PREFACE)
        self._greet({frames.ENABLE_PUSH: 0})

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.leaving = True
        self._lose_calls(f"the connection is lost: {exc or 'the other end has closed it'}")

    def begin(self, timeout: float | None) -> Call:
        call = self.streams[self._next] = Call(self, self._next, timeout)
        self._next += 2
        # Before the numbers end another connection goes on.
        self.leaving = self.leaving or self._next > frames.LARGEST_STREAM - 2
        return call

    def forget(self, stream: Stream) -> None:
        super().forget(stream)
        if self.leaving and not self.streams:
            self.close()

    def close(self) -> None:
        self.leaving = True
        super().close()
        # The transport may take long to be gone, and nothing that comes is taken in any more.
        self._lose_calls("the server has broken HTTP/2's rules")

    def abort(self) -> None:
        self.leaving = True
        super().abort()

    def _has_begun(self, stream: int) -> bool:
        return stream % 2 == 1 and stream < self._next

    def _headers_came(self, flags: int, stream: int, block: bytes) -> None:
        call = self.streams.get(stream)
        try:
            answer = self._headers.read(block)
        except headers.MalformedError as error:
            if call is not None:
                call.fail(grpc.StatusCode.INTERNAL, str(error))
            return
        if call is not None:
            call.answer_came(answer, last=bool(flags & frames.END_STREAM))

    def _was_reset(self, stream: Stream, code: int) -> None:
        assert isinstance(stream, Call)
        name = next((known.name for known in Code if known == code), str(code))
        stream.lost(_RESETS.get(code, grpc.StatusCode.INTERNAL), f"the server has reset the call: {name}")

    def _going_away(self, payload: bytes) -> None:
        self.leaving = True
        last = int.from_bytes(payload[:4], "big") & frames.LARGEST_STREAM
        for number, call in list(self.streams.items()):
            if number > last:
                call.lost(grpc.StatusCode.UNAVAILABLE, "the server goes away and has not begun the call")
        if not self.streams:
            self.close()

    def _lose_calls(self, details: str) -> None:
        for call in list(self.streams.values()):
            call.lost(grpc.StatusCode.UNAVAILABLE, details)

    def _look_at_silence(self) -> None:
        # A server that nothing is asked of may be silent, and need not like to be pinged.
        if not self.streams:
            self._heard_at = self.loop.time()
        super()._look_at_silence()


class Channel:
    """The calls of one server at `target`, HOST:PORT, with TLS where there is a context for it."""

    def __init__(self, target: str, tls: ssl.SSLContext | None, options: Options) -> None:
        """To be made in the loop that it is used in."""
        self._target = target
        self._tls = tls
        self._options = options
        self._loop = asyncio.get_running_loop()
        # The last one takes new calls; others, which servers have bidden farewell, end with theirs.
        self._connections: list[ClientConnection] = []
        self._connecting: asyncio.Task[None] | None = None
        self._backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        # The last attempt's error, and when the next one may be made.
        self._failure = ""
        self._not_before = 0.0
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        if (connecting := self._connecting) is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
        for connection in self._connections:
            for call in list(connection.streams.values()):
                call.fail(grpc.StatusCode.CANCELLED, "the channel is closed")
            connection.close()

    # As stubs ask for them.

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Callable[..., Any]:
        block = self._block(method)

        async def ask(request: Any, *, timeout: float | None = None) -> Any:
            data = request_serializer(request)
            if (connection := self._ready()) is None:
                connection, timeout = await self._connected(timeout)
            call = connection.begin(timeout)
            call.begin(block if timeout is None else block + headers.timeout(timeout), data)
            try:
                await call.outcome
            except asyncio.CancelledError:
                call.cancel()
                raise
            return response_deserializer(call.only_message())

        return ask

    def stream_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Callable[..., Any]:
        block = self._block(method)

        def talk(*, timeout: float | None = None, metadata: Any = ()) -> Talk:
            return Talk(self, block + headers.fields(metadata), timeout, request_serializer, response_deserializer)

        return talk

    def unary_stream(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        """None of the stubs that use this channel calls any."""

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise NotImplementedError(f"{method} is not called by this client")

        return refuse

    stream_unary = unary_stream

    async def connected(self, timeout: float | None) -> tuple[ClientConnection, float | None]:
        """The connection, a new one if need be, and what that has left of `timeout`.

        Raises Unavailable, DeadlineExceeded, and Cancelled where the channel is closed.
        """
        if (connection := self._ready()) is not None:
            return connection, timeout
        return await self._connected(timeout)

    def _block(self, method: str) -> bytes:
        return headers.call(method, self._target, "http" if self._tls is None else "https", ())

    def _ready(self) -> ClientConnection | None:
        return self._connections[-1] if self._connections and not self._connections[-1].leaving else None

    async def _connected(self, timeout: float | None) -> tuple[ClientConnection, float | None]:
        begun = self._loop.time()
        if self._connecting is None:
            if self._closed:
                raise failure(grpc.StatusCode.CANCELLED, "the channel is closed")
            if begun < self._not_before:
                raise failure(grpc.StatusCode.UNAVAILABLE, self._failure)
            self._connecting = self._loop.create_task(self._connect(), name=f"connect to {self._target}")
        # Others may wait for it as well, and the end of the channel cancels it, but none of them.
        done, _ = await asyncio.wait([self._connecting], timeout=timeout)
        if self._closed:
            raise failure(grpc.StatusCode.CANCELLED, "the channel is closed")
        if not done:
            raise failure(grpc.StatusCode.DEADLINE_EXCEEDED, f"{self._target} could not be reached in time")
        done.pop().result()
        if (connection := self._ready()) is None:
            raise failure(grpc.StatusCode.UNAVAILABLE, self._failure)
        return connection, None if timeout is None else min(timeout, max(0.0, begun + timeout - self._loop.time()))

    async def _connect(self) -> None:
        """Leaves a connection, or why there is none."""
        host, _, port = self._target.rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: ClientConnection(self._loop, self._options),
                    host.strip("[]"),
                    int(port),
                    ssl=self._tls,
                )
        except (OSError, TimeoutError) as error:
            self._failure = f"{self._target} cannot be reached: {str(error) or 'no answer in time'}"
            self._not_before = self._loop.time() + self._backoff.next()
        else:
            self._backoff.reset()
            self._failure = f"{self._target} has closed the connection at once"
            self._connections = [*(known for known in self._connections if known.streams), connection]
        finally:
            self._connecting = None


class Talk:
    """A call with many messages on both sides; it begins with the first that is asked of it."""

    def __init__(self, channel: Channel, block: bytes, timeout: float | None, serialize: Any, deserialize: Any) -> None:
        self._channel = channel
        self._block = block
        self._timeout = timeout
        self._serialize = serialize
        self._deserialize = deserialize
        self._call: Call | None = None
        self._cancelled = False

    async def write(self, message: Any) -> None:
        await (await self._begun()).say(self._serialize(message))

    async def read(self) -> Any:
        """The next message; `grpc.aio.EOF` where the server has ended the call well."""
        message = await (await self._begun()).hear()
        return grpc.aio.EOF if message is None else self._deserialize(message)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def cancel(self) -> None:
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    async def _begun(self) -> Call:
        if self._call is None:
            if self._cancelled:
                raise failure(grpc.StatusCode.CANCELLED, "the call was cancelled")
            connection, timeout = await self._channel.connected(self._timeout)
            # Another task may have begun it meanwhile, or ended it.
            if self._cancelled:
                raise failure(grpc.StatusCode.CANCELLED, "the call was cancelled")
            if self._call is None:
                self._call = connection.begin(timeout)
                self._call.begin(self._block if timeout is None else self._block + headers.timeout(timeout), None)
        return self._call
