"""A client that says whatever a test wants said in HTTP/2, and obeys its rules only where the test asks for that."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hpack

from controlplane.http2 import frames
from controlplane.http2.frames import Code, Frame

# Seconds; for what should take milliseconds.
PATIENCE = 20.0
SERVICE = "/test.Raw/"

Fields = Sequence[tuple[str, str]]


def message(data: bytes) -> bytes:
    """As gRPC has it in DATA."""
    return b"\x00" + len(data).to_bytes(4, "big") + data


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


@dataclass
class Answer:
    """What has come on one stream."""

    headers: list[dict[str, str]] = field(default_factory=list)
    data: bytes = b""
    # Of each frame with data.
    sizes: list[int] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str | None:
        return self.headers[-1].get("grpc-status") if self.ended else None

    @property
    def details(self) -> str:
        return self.headers[-1].get("grpc-message", "")

    @property
    def message(self) -> bytes:
        """The only one."""
        assert int.from_bytes(self.data[1:5], "big") == len(self.data) - 5
        return self.data[5:]


class FrameReader:
    """Of frames of any size, which the server's own is not."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, data: bytes) -> list[Frame]:
        self._rest += data
        found: list[Frame] = []
        while len(self._rest) >= 9 and len(self._rest) >= (end := 9 + int.from_bytes(self._rest[:3], "big")):
            stream = int.from_bytes(self._rest[5:9], "big")
            found.append((self._rest[3], self._rest[4], stream, self._rest[9:end]))
            self._rest = self._rest[end:]
        return found


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self._come: deque[Frame] = deque()
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        # Everything that has come, in its order; and the same by streams.
        self.seen: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.gone_away: Code | None = None
        self.last_stream = -1
        # What the server lets this client send, by streams; the connection is 0.
        self.windows: dict[int, int] = {0: frames.DEFAULT_WINDOW}
        self.initial_window = frames.DEFAULT_WINDOW
        self._pings = 0
        # Of headers whose end has not come.
        self._block = b""
        self._ends = False

    @classmethod
    async def connect(cls, path: Path, *, hello: bool = True, settings: dict[int, int] | None = None) -> RawClient:
        """With `hello`, what a connection begins with has been said by both sides."""
        made = cls(*await asyncio.open_unix_connection(path))
        if hello:
            made.send(frames.PREFACE, frames.settings(settings or {}))
            await made.settle()
        return made

    # Says.

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def flush(self) -> None:
        """Raises ConnectionError when the server is gone."""
        async with asyncio.timeout(PATIENCE):
            await self._writer.drain()

    def block(self, method: str, more: Iterable[tuple[str, str]] = ()) -> bytes:
        usual = [(":method", "POST"), (":scheme", "http"), (":path", SERVICE + method), (":authority", "test")]
        return self.encoder.encode([*usual, ("content-type", "application/grpc"), ("te", "trailers"), *more])

    def headers(self, stream: int, method: str, flags: int = 0) -> bytes:
        return frames.frame(frames.HEADERS, flags | frames.END_HEADERS, stream, self.block(method))

    def call(self, stream: int, method: str, data: bytes = b"") -> None:
        """All of a call with one message, which is small."""
        body = frames.frame(frames.DATA, frames.END_STREAM, stream, message(data))
        self.send(self.headers(stream, method), body)

    async def upload(self, stream: int, data: bytes) -> None:
        """As far as the windows allow at any time."""
        while data:
            size = min(len(data), self.room(stream), frames.DEFAULT_FRAME)
            if size <= 0:
                await self.hear()
                continue
            self.send_data(stream, data[:size])
            data = data[size:]

    def send_data(self, stream: int, data: bytes, flags: int = 0) -> None:
        self.windows[0] -= len(data)
        self.windows[stream] = self.windows.get(stream, self.initial_window) - len(data)
        self.send(frames.frame(frames.DATA, flags, stream, data))

    def room(self, stream: int) -> int:
        return min(self.windows[0], self.windows.get(stream, self.initial_window))

    def end(self) -> None:
        """Says no more, but hears."""
        self._writer.write_eof()

    def abort(self) -> None:
        self._writer.transport.abort()

    # Hears.

    async def hear(self) -> Frame | None:
        """The next frame; None at the connection's end."""
        async with asyncio.timeout(PATIENCE):
            while not self._come:
                try:
                    data = await self._reader.read(65_536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._come = deque(self._frames.read(data))
        heard = self._come.popleft()
        self.seen.append(heard)
        self._note(*heard)
        return heard

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert await self.hear() is not None, "the server has closed the connection"

    async def settle(self) -> None:
        """The server has taken in everything that was said before, and its answers so far have come."""
        # Handlers that the first one finds begun have made their first step before the second.
        for _ in range(2):
            self._pings += 1
            payload = self._pings.to_bytes(8, "big")
            self.send(frames.frame(frames.PING, 0, 0, payload))
            while (heard := await self.hear()) != (frames.PING, frames.ACK, 0, payload):
                assert heard is not None, "the server has closed the connection"

    async def answer(self, stream: int) -> Answer:
        """All of it, with windows that never end."""
        answer = self.answers.setdefault(stream, Answer())
        while not answer.ended and answer.reset is None:
            heard = await self.hear()
            assert heard is not None, "the server has closed the connection"
            if heard[0] == frames.DATA and heard[3]:
                size = len(heard[3])
                self.send(frames.window_update(0, size), frames.window_update(heard[2], size))
        return answer

    async def ended(self) -> Code | None:
        """Why the server has closed the connection, once it has."""
        while await self.hear() is not None:
            pass
        return self.gone_away

    def _note(self, type_: int, flags: int, stream: int, payload: bytes) -> None:
        if type_ == frames.SETTINGS and not flags & frames.ACK:
            self.initial_window = dict(frames.read_settings(payload)).get(
                frames.INITIAL_WINDOW_SIZE, self.initial_window
            )
        elif type_ == frames.WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, self.initial_window) + int.from_bytes(payload, "big")
        elif type_ == frames.GOAWAY:
            self.last_stream = int.from_bytes(payload[:4], "big")
            self.gone_away = Code(int.from_bytes(payload[4:8], "big"))
        elif type_ in (frames.HEADERS, frames.CONTINUATION, frames.DATA, frames.RST_STREAM):
            self._note_answer(self.answers.setdefault(stream, Answer()), type_, flags, payload)

    def _note_answer(self, answer: Answer, type_: int, flags: int, payload: bytes) -> None:
        if type_ == frames.RST_STREAM:
            answer.reset = int.from_bytes(payload, "big")
            return
        if type_ == frames.DATA:
            answer.data += payload
            answer.sizes.append(len(payload))
        else:
            self._block = payload if type_ == frames.HEADERS else self._block + payload
            if type_ == frames.HEADERS:
                self._ends = bool(flags & frames.END_STREAM)
            if not flags & frames.END_HEADERS:
                return
            answer.headers.append({str(name): str(value) for name, value in self.decoder.decode(self._block)})
        ends = bool(flags & frames.END_STREAM) if type_ == frames.DATA else self._ends
        answer.ended = answer.ended or ends
