"""One call's stream, at either end of it: its windows, the messages that have come, and what is on its way."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final

import grpc

from controlplane.http2 import frames
from controlplane.http2.frames import Code, ConnectionFault

if TYPE_CHECKING:
    from controlplane.http2.connection import Connection

# gRPC's own bytes before a message: whether it is compressed, and its length.
_PREFIX: Final = 5
_PLAIN: Final = b"\x00"
# What one stream sends before others of its connection have their turn, in frames.
_FRAMES_AT_ONCE: Final = 4
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Stream:
    __slots__ = (
        "_drained",
        "_ended",
        "_incoming",
        "_messages",
        "_outgoing",
        "_owed",
        "_reader",
        "_receive_window",
        "_timer",
        "_unread",
        "closed",
        "connection",
        "number",
        "peer_ended",
        "send_window",
    )

    def __init__(self, connection: Connection, number: int, timeout: float | None) -> None:
        """`timeout` in seconds; None: for ever."""
        self.connection = connection
        self.number = number
        self.send_window = connection.initial_send_window
        # The other end has sent everything; the stream is over.
        self.peer_ended = False
        self.closed = False
        # The beginning of a message that has not come as a whole; messages that nobody has read, and their bytes.
        self._incoming = bytearray()
        self._messages: deque[bytes] = deque()
        self._unread = 0
        self._reader: asyncio.Future[None] | None = None
        # Bytes that the other end may send, and those that it has sent and was not given back.
        self._receive_window = connection.options.stream_window
        self._owed = 0
        # What waits for the other end to take more; nothing comes behind it.
        self._outgoing: deque[memoryview] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            self._timer = connection.loop.call_later(timeout, self._time_is_over)

    @property
    def waits(self) -> bool:
        """Something is to be sent that the windows of the other end have not let through."""
        return bool(self._outgoing)

    async def drained(self) -> None:
        """Until nothing waits any more; cancelled when the stream is over before."""
        while self._outgoing:
            if self._drained is None or self._drained.done():
                self._drained = self.connection.loop.create_future()
            await self._drained

    # For the connection.

    def data_came(self, data: bytes, size: int) -> None:
        """`size` is what counts for the windows, padding included. Raises ConnectionFault."""
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"more than the window of the stream {self.number}")
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

    def peer_has_ended(self) -> None:
        self.peer_ended = True
        self._wake_reader()

    def pump(self) -> bool:
        """Sends some of what waits. False where the rest must wait for the other end's window, or there is none."""
        connection = self.connection
        parts: list[bytes | memoryview] = []
        room = min(self.send_window, connection.send_window, _FRAMES_AT_ONCE * connection.largest_frame)
        while self._outgoing and room > 0:
            waiting = self._outgoing[0]
            size = min(len(waiting), room, connection.largest_frame)
            room -= size
            self.send_window -= size
            connection.send_window -= size
            if size == len(waiting):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = waiting[size:]
            flags = self._last_flags() if self._ended and not self._outgoing else 0
            parts += (frames.head(size, frames.DATA, flags, self.number), waiting[:size])
        connection.write(b"".join(parts))
        if self._outgoing:
            return self.send_window > 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._ended:
            connection.write(self._behind_last())
            self._all_sent()
        return False

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call; whatever still waits to be sent is given up."""
        raise NotImplementedError

    def reset(self, code: Code) -> None:
        if not self.closed:
            self.connection.write(frames.reset(self.number, code))
            self.close()

    def close(self) -> None:
        """The stream is over for both ends."""
        if self.closed:
            return
        self.closed = True
        self.connection.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        self._outgoing.clear()
        self._wake_reader()
        if self._drained is not None:
            self._drained.cancel()

    # For both ends.

    def _put(self, message: bytes, begin: bytes) -> None:
        """Sends headers and a message, or lets the message wait for the windows of the other end."""
        connection = self.connection
        connection.messages_sent += 1
        size = _PREFIX + len(message)
        prefix = _PLAIN + len(message).to_bytes(4, "big")
        if self._outgoing or size > self.send_window or not connection.has_room(size):
            connection.write(begin)
            self._outgoing.append(memoryview(prefix + message))
            connection.pump(self)
            return
        self.send_window -= size
        connection.send_window -= size
        if self._ended:
            # All at once: each write costs a record of TLS.
            head = frames.head(size, frames.DATA, self._last_flags(), self.number)
            connection.write(b"".join((begin, head, prefix, message, self._behind_last())))
            self._all_sent()
        else:
            connection.write(b"".join((begin, frames.head(size, frames.DATA, 0, self.number), prefix, message)))

    def _last_flags(self) -> int:
        """Of the frame that ends what this side has to say."""
        return 0

    def _behind_last(self) -> bytes:
        """The frames that come behind it."""
        return b""

    def _all_sent(self) -> None:
        """This side has said everything."""

    def _message_came(self, data: bytes) -> None:
        self._messages.append(data)
        self._unread += _PREFIX + len(data)
        self._wake_reader()

    def _encoding(self) -> str:
        """How the other end's messages are compressed, where they are."""
        raise NotImplementedError

    def _next_message(self) -> bytes:
        message = self._messages.popleft()
        self._unread -= _PREFIX + len(message)
        self._give_back()
        return message

    async def _message_or_end(self) -> bytes | None:
        """The next message; None where there will be none."""
        while not self._messages:
            if self.peer_ended or self.closed:
                return None
            self._reader = self.connection.loop.create_future()
            await self._reader
        return self._next_message()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _time_is_over(self) -> None:
        self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    # Its own.

    def _take_messages(self, data: bytes | bytearray) -> int:
        """Those that are complete; how many bytes they had."""
        largest = self.connection.options.largest_message
        position, end = 0, len(data)
        while end - position >= _PREFIX and not self.closed:
            begin = position + _PREFIX
            length = int.from_bytes(data[position + 1 : begin], "big")
            stop = begin + length
            if length > largest:
                self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, _too_large(length, largest))
                return end
            if stop > end:
                break
            message = bytes(data[begin:stop])
            if data[position]:
                try:
                    message = self._decompressed(message)
                except _Refused as refused:
                    self.fail(refused.code, str(refused))
                    return end
            self.connection.messages_received += 1
            self._message_came(message)
            position = stop
        return position

    def _decompressed(self, data: bytes) -> bytes:
        encoding = self._encoding()
        bits = _WINDOW_BITS.get(encoding)
        if bits is None:
            raise _Refused(
                grpc.StatusCode.UNIMPLEMENTED,
                f"messages compressed as {encoding} are not understood: gzip and deflate are",
            )
        largest = self.connection.options.largest_message
        reader = zlib.decompressobj(bits)
        try:
            plain = reader.decompress(data, largest + 1)
        except zlib.error:
            plain = b""
        if len(plain) > largest:
            raise _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, _too_large(len(plain), largest))
        if not reader.eof:
            raise _Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"a message is not compressed as {encoding}, as its headers say"
            )
        return plain

    def _give_back(self) -> None:
        """Lets the other end send on, unless it is ahead of the reader by a window already."""
        window = self.connection.options.stream_window
        if self._owed >= window // 2 and self._unread < window and not (self.peer_ended or self.closed):
            self.connection.write(frames.window_update(self.number, self._owed))
            self._receive_window += self._owed
            self._owed = 0


class _Refused(Exception):
    """A message that cannot be taken."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def _too_large(size: int, largest: int) -> str:
    # In the words that clients know from gRPC's own server.
    return f"Received message larger than max ({size} vs. {largest})"
