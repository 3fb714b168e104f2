"""One call, as its handler sees it: what `grpc.aio.ServicerContext` is to handlers, as far as ours use it.

A call whose client goes away, or whose time is over, is cancelled: its handler's task, and whoever waits in `write`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from controlplane.http2 import frames, headers
from controlplane.http2.frames import Code
from controlplane.http2.stream import Stream

if TYPE_CHECKING:
    from controlplane.http2.accepted import ServerConnection

log = structlog.get_logger(__name__)

Metadata = Iterable[tuple[str, str | bytes]]


class Context(Stream):
    __slots__ = ("_answer_begun", "_code", "_deadline", "_details", "_handler", "_request", "_trailing", "task")
    connection: ServerConnection

    def __init__(
        self,
        connection: ServerConnection,
        number: int,
        request: headers.Request,
        handler: grpc.RpcMethodHandler[Any, Any],
    ) -> None:
        super().__init__(connection, number, request.timeout)
        self.task: asyncio.Task[None] | None = None
        self._request = request
        self._handler: Any = handler
        self._answer_begun = False
        self._code = 0
        self._details = ""
        self._trailing = b""
        self._deadline = None if request.timeout is None else connection.loop.time() + request.timeout

    # For handlers.

    def invocation_metadata(self) -> headers.Metadata:
        return self._request.metadata

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; None where it has none."""
        return None if self._deadline is None else max(0.0, self._deadline - self.connection.loop.time())

    async def read(self) -> Any:
        """The client's next message; `grpc.aio.EOF` when it has ended its side."""
        message = await self._message_or_end()
        return grpc.aio.EOF if message is None else self._read_as_message(message)

    async def write(self, message: Any) -> None:
        """Returns when the message is on its way to the client, as far as its windows go."""
        serialize = self._handler.response_serializer
        self.send(message if serialize is None else serialize(message))
        await self.drained()

    def send(self, message: bytes) -> None:
        """As `write`, which does not wait: until `waits` is false again nothing more should be sent."""
        if self.closed:
            raise asyncio.CancelledError("the call's client is gone")
        begin = b"" if self._answer_begun else self.connection.header_frames(self.number, headers.ANSWER)
        self._answer_begun = True
        self._put(message, begin)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """As a rule they go with the first message; this tells the client before that its call stands."""
        if self.closed:
            raise asyncio.CancelledError("the call's client is gone")
        if not self._answer_begun:
            self._answer_begun = True
            block = headers.ANSWER + headers.fields(metadata)
            self.connection.write(self.connection.header_frames(self.number, block))

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

    def peer_has_ended(self) -> None:
        super().peer_has_ended()
        if self.task is None and not self.closed:
            self.fail(grpc.StatusCode.INVALID_ARGUMENT, "the request has no message, or only a part of one")

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        if self.closed:
            return
        self.set_code(code)
        self._details = details
        self._trailing = b""
        self._cut_off()

    def close(self) -> None:
        """A handler that still runs is cancelled."""
        if not self.closed:
            super().close()
            self._messages.clear()
            task, self.task = self.task, None
            if task is not None and not self._ended:
                # Its exception will refer to this call, which must not refer to it.
                task.cancel()

    # What has come.

    def _message_came(self, data: bytes) -> None:
        if self._handler.request_streaming:
            super()._message_came(data)
        elif self.task is None and not self._ended:
            self._run(data)

    def _encoding(self) -> str:
        return self._request.encoding

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

    def _cut_off(self) -> None:
        """Headers pass by what the client's windows hold up; of a message that is cut off, it takes nothing."""
        self._outgoing.clear()
        self._send_status()

    def _send_status(self) -> None:
        self.connection.write(self._behind_last())
        self._all_sent()

    def _behind_last(self) -> bytes:
        """The status. The client need not have ended its side: it is told that nobody listens."""
        block = headers.trailers(self._code, self._details) + self._trailing
        if not self._answer_begun:
            block = headers.ANSWER + block
        made = self.connection.header_frames(self.number, block, frames.END_STREAM)
        return made if self.peer_ended else made + frames.reset(self.number, Code.NO_ERROR)

    def _all_sent(self) -> None:
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
            # Not by its client, which does not read: it hears of the error that waits behind what it has not read.
            said, self._ended = self._ended and self._code, True
            if said:
                self._cut_off()
            else:
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
            behavior = handler.stream_unary if handler.request_streaming else handler.unary_unary
            answer = await behavior(request, self)
            serialize = handler.response_serializer
            self._end(answer if serialize is None or answer is None else serialize(answer))
            return
        answers = (handler.stream_stream if handler.request_streaming else handler.unary_stream)(request, self)
        if hasattr(answers, "__aiter__"):
            async with aclosing(answers):
                async for answer in answers:
                    await self.write(answer)
        else:
            await answers
        self._end(None)


class _Malformed(Exception):
    """Bytes that are no message of the type that the method takes."""
