"""The server's end of HTTP/2, told things that no library would say, over a real unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
import structlog.testing
import uvloop

from controlplane.http2 import Options, Server, connection, frames
from controlplane.http2.accepted import ServerConnection as Connection
from controlplane.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Code,
    frame,
)
from tests.unit.controlplane.http2.raw_client import SERVICE, RawClient, eventually, message

KIB = 1024
MIB = 1024 * KIB
WINDOW = frames.DEFAULT_WINDOW
# Room for whatever comes.
WIDE = 16 * MIB


class Handlers:
    """What they do can be held up, and how they end is seen."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        self.read: list[bytes] = []

    async def length(self, request: bytes, context: Any) -> bytes:
        return str(len(request)).encode()

    async def repeat(self, request: bytes, context: Any) -> bytes:
        return pattern(int(request))

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"done"

    async def stumble(self, request: bytes, context: Any) -> bytes:
        self.begun += 1
        try:
            await self.go.wait()
        finally:
            self.cancelled += 1
            raise ValueError("while it was cleaning up")

    async def refuse(self, request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, request.decode())

    async def spill(self, request: bytes, context: Any) -> None:
        """Sends more than anybody has room for, and fails with what it is asked for, which waits behind that."""
        context.send(pattern(MIB))
        self.begun += 1
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION if request else grpc.StatusCode.OK, request.decode())

    async def gather(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.begun += 1
        await self.go.wait()
        async for request in requests:
            self.read.append(request)
        yield str(len(self.read)).encode()

    async def sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(sum([len(request) async for request in requests])).encode()

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                yield request
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def all(self) -> grpc.GenericRpcHandler:
        made: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            **{name: grpc.unary_unary_rpc_method_handler(getattr(self, name)) for name in ("length", "repeat", "wait")},
            **{name: grpc.unary_unary_rpc_method_handler(getattr(self, name)) for name in ("stumble", "refuse")},
            "spill": grpc.unary_stream_rpc_method_handler(self.spill),
            "gather": grpc.stream_stream_rpc_method_handler(self.gather),
            "sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "echo": grpc.stream_stream_rpc_method_handler(self.echo),
        }
        return grpc.method_handlers_generic_handler(SERVICE.strip("/"), made)


def pattern(size: int) -> bytes:
    """In which nothing can be missing or out of its place."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


class Scene:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "api.sock"
        self.handlers = Handlers()
        self.server: Server

    @asynccontextmanager
    async def serving(self, options: Options | None = None) -> AsyncIterator[None]:
        self.server = Server(options)
        self.server.add_generic_rpc_handlers([self.handlers.all()])
        self.server.listen_unix(self.path)
        await self.server.start()
        try:
            yield
        finally:
            await self.server.stop(0)

    async def client(self, settings: dict[int, int] | None = None, *, hello: bool = True) -> RawClient:
        return await RawClient.connect(self.path, hello=hello, settings=settings)

    async def wide_client(self, window: int = WIDE) -> RawClient:
        """Only streams have a window that matters, if any."""
        client = await self.client({frames.INITIAL_WINDOW_SIZE: window})
        client.send(frames.window_update(0, WIDE))
        return client

    @property
    def connection(self) -> Connection:
        """The only one."""
        (found,) = self.server.connections
        return found


@pytest.fixture
async def idle(tmp_path: Path) -> Scene:
    """Its server is made by the test, with options."""
    return Scene(tmp_path)


@pytest.fixture
async def scene(idle: Scene) -> AsyncIterator[Scene]:
    async with idle.serving():
        yield idle


async def serves(client: RawClient, stream: int) -> bool:
    client.call(stream, "length", b"four")
    return (await client.answer(stream)).message == b"4"


# The beginning.


async def test_who_does_not_speak_http2_is_told_so_and_closed(scene: Scene) -> None:
    client = await scene.client(hello=False)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await client.ended() == Code.PROTOCOL_ERROR


async def test_a_preface_may_come_in_single_bytes(scene: Scene) -> None:
    client = await scene.client(hello=False)
    for byte in frames.PREFACE + frames.settings({}):
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    await client.settle()
    assert await serves(client, 1)


async def test_a_connection_begins_with_settings(scene: Scene) -> None:
    client = await scene.client(hello=False)
    client.send(frames.PREFACE, frame(PING, 0, 0, bytes(8)))
    assert await client.ended() == Code.PROTOCOL_ERROR


async def test_the_server_says_first_what_it_allows(idle: Scene) -> None:
    async with idle.serving(Options(most_streams=7, stream_window=100_000, connection_window=200_000)):
        client = await idle.client()
        type_, flags, _, payload = client.seen[0]
        assert (type_, flags) == (SETTINGS, 0)
        told = dict(frames.read_settings(payload))
        assert (told[frames.MAX_CONCURRENT_STREAMS], told[frames.INITIAL_WINDOW_SIZE]) == (7, 100_000)
        assert client.windows[0] == 200_000


async def test_settings_are_acknowledged_and_pings_answered(scene: Scene) -> None:
    client = await scene.client()
    client.send(frames.settings({}), frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"87654321"))
    client.seen.clear()
    await client.settle()
    assert client.seen[:2] == [(SETTINGS, ACK, 0, b""), (PING, ACK, 0, b"12345678")]
    assert (PING, ACK, 0, b"87654321") not in client.seen


# Frames of calls.


async def test_headers_may_come_in_pieces(scene: Scene) -> None:
    client = await scene.client()
    block = client.block("length")
    client.send(
        frame(HEADERS, 0, 1, block[:5]),
        frame(CONTINUATION, 0, 1, block[5:9]),
        frame(CONTINUATION, END_HEADERS, 1, block[9:]),
        frame(DATA, END_STREAM, 1, message(b"abc")),
    )
    assert (await client.answer(1)).message == b"3"


async def test_the_end_of_a_stream_that_its_headers_announce_is_kept_over_their_continuation(scene: Scene) -> None:
    client = await scene.client()
    block = client.block("echo")
    client.send(frame(HEADERS, END_STREAM, 1, block[:5]), frame(CONTINUATION, END_HEADERS, 1, block[5:]))
    assert (await client.answer(1)).status == "0"


@pytest.mark.parametrize(
    "between",
    [frame(PING, 0, 0, bytes(8)), frame(CONTINUATION, END_HEADERS, 3), frame(0x42, 0, 1), frame(DATA, 0, 1)],
    ids=["ping", "other stream", "unknown", "data"],
)
async def test_nothing_may_come_between_headers_and_their_continuation(scene: Scene, between: bytes) -> None:
    client = await scene.client()
    client.send(frame(HEADERS, 0, 1, client.block("length")), between)
    assert await client.ended() == Code.PROTOCOL_ERROR


@pytest.mark.parametrize("size", [frames.DEFAULT_FRAME, 1_000, 0])
async def test_headers_without_an_end_end_the_connection(scene: Scene, size: int) -> None:
    client = await scene.client()
    piece = frame(CONTINUATION, 0, 1, bytes(size))
    client.send(frame(HEADERS, 0, 1), *[piece] * 300)
    assert await client.ended() == Code.ENHANCE_YOUR_CALM


async def test_padding_and_priority_are_no_part_of_what_is_said(scene: Scene) -> None:
    client = await scene.client()
    block = b"\x03" + bytes(5) + client.block("length") + bytes(3)
    body = message(b"abcde")
    client.send(
        frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, block),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(DATA, PADDED, 1, b"\x00" + body[:7]),
        frame(DATA, PADDED, 1, b"\x04" + bytes(4)),
        frame(DATA, PADDED | END_STREAM, 1, b"\xff" + body[7:] + bytes(255)),
    )
    assert (await client.answer(1)).message == b"5"


async def test_trailers_of_a_request_end_it(scene: Scene) -> None:
    client = await scene.client()
    body = frame(DATA, 0, 1, message(b"a"))
    end = frame(HEADERS, END_HEADERS | END_STREAM, 1, client.encoder.encode([("more", "to say")]))
    client.send(client.headers(1, "echo"), body, end)
    answer = await client.answer(1)
    assert (answer.message, answer.status) == (b"a", "0")
    assert await serves(client, 3)


async def test_headers_of_a_stream_that_is_over_are_passed_over_but_remembered(scene: Scene) -> None:
    client = await scene.client()
    assert await serves(client, 5)
    # Into the table that the next request refers to.
    client.send(client.headers(3, "refuse", END_STREAM))
    client.call(7, "refuse", b"x")
    assert (await client.answer(7)).status == "5"
    assert 3 not in client.answers


def rule_breakers() -> dict[str, tuple[bytes, Code]]:
    """Each sent where the stream 1 is open and its client not done."""
    return {
        "an even stream": (frame(HEADERS, END_HEADERS, 2, b"\x82"), Code.PROTOCOL_ERROR),
        "headers of the connection": (frame(HEADERS, END_HEADERS, 0, b"\x82"), Code.PROTOCOL_ERROR),
        "headers twice": (frame(HEADERS, END_HEADERS, 1, b"\x82"), Code.PROTOCOL_ERROR),
        "headers that are no hpack": (frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\x0f"), Code.COMPRESSION_ERROR),
        "headers of too much": (frame(HEADERS, END_HEADERS, 3, b"\x90" * 16_000), Code.ENHANCE_YOUR_CALM),
        "headers padded too much": (frame(HEADERS, END_HEADERS | PADDED, 3, b"\x05abc"), Code.PROTOCOL_ERROR),
        "a continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), Code.PROTOCOL_ERROR),
        "data of an idle stream": (frame(DATA, 0, 3, b"x"), Code.PROTOCOL_ERROR),
        "data of the connection": (frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
        "data padded too much": (frame(DATA, PADDED, 1, b"\x04abc"), Code.PROTOCOL_ERROR),
        "data padded with nothing": (frame(DATA, PADDED, 1, b""), Code.PROTOCOL_ERROR),
        "data after the end": (frame(DATA, END_STREAM, 1, message(b"")) + frame(DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
        "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), Code.PROTOCOL_ERROR),
        "a frame too large": (frame(DATA, 0, 1, bytes(frames.DEFAULT_FRAME + 1)), Code.FRAME_SIZE_ERROR),
        "a frame of megabytes": (frames.head(2**24 - 1, 0x42, 0, 0), Code.FRAME_SIZE_ERROR),
        "a window of nothing": (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
        "a window of too much": (frames.window_update(0, frames.LARGEST_WINDOW), Code.FLOW_CONTROL_ERROR),
        "a window of an idle stream": (frames.window_update(3, 1), Code.PROTOCOL_ERROR),
        "a window's size": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
        "a reset of an idle stream": (frames.reset(3, Code.CANCEL), Code.PROTOCOL_ERROR),
        "a reset of the connection": (frames.reset(0, Code.CANCEL), Code.PROTOCOL_ERROR),
        "a reset's size": (frame(RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
        "a priority of the connection": (frame(PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
        "a ping of a stream": (frame(PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        "a ping's size": (frame(PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        "settings of a stream": (frame(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        "settings' size": (frame(SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
        "settings in an acknowledgement": (frame(SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        "a push that is neither on nor off": (frames.settings({frames.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
        "frames too small": (frames.settings({frames.MAX_FRAME_SIZE: 16_383}), Code.PROTOCOL_ERROR),
        "frames too large": (frames.settings({frames.MAX_FRAME_SIZE: 2**24}), Code.PROTOCOL_ERROR),
        "initial windows too large": (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
    }


@pytest.mark.parametrize("name", rule_breakers())
async def test_what_breaks_a_rule_ends_the_connection_with_the_code_of_rfc_9113(scene: Scene, name: str) -> None:
    said, code = rule_breakers()[name]
    client = await scene.client()
    client.send(client.headers(1, "wait"))
    await client.settle()
    client.send(said)
    assert await client.ended() == code
    assert client.last_stream == 1


async def test_what_the_protocol_does_not_know_is_ignored(scene: Scene) -> None:
    client = await scene.client()
    client.send(
        frames.settings({0x99: 7, 0: 1}), frame(0x42, 0xFF, 1, b"what"), frames.go_away(0, Code.NO_ERROR, "later")
    )
    # The first bit of a stream's number means nothing.
    client.send(frame(HEADERS, END_HEADERS, 1 << 31 | 1, client.block("length")), frame(0x43, 0, 1))
    client.send(frame(DATA, END_STREAM, 1, message(b"ab")))
    assert (await client.answer(1)).message == b"2"


# Requests.


@pytest.mark.parametrize("method", ["length", "gather"])
async def test_a_refused_request_says_why_and_the_connection_goes_on(scene: Scene, method: str) -> None:
    client = await scene.client()
    scene.handlers.go.set()
    get = [(":method", "GET"), (":scheme", "http"), (":path", SERVICE + method)]
    post = [(":method", "POST"), *get[1:]]
    for stream, fields, status in (
        (1, [*get, ("content-type", "application/grpc")], "405"),
        (3, [*post, ("content-type", "application/json")], "415"),
        (5, post, "415"),
        (7, [*post, ("content-type", "application/grpc-web")], "415"),
    ):
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, client.encoder.encode(fields)))
        answer = await client.answer(stream)
        assert (answer.headers, answer.reset) == ([{":status": status}], None)
    assert await serves(client, 9)


async def test_who_is_refused_before_it_has_ended_is_told_to_stop(scene: Scene) -> None:
    client = await scene.client()
    client.send(client.headers(1, "nothing"), frame(DATA, 0, 1, message(b"a")))
    await client.settle()
    assert (client.answers[1].status, client.answers[1].reset) == ("12", Code.NO_ERROR)
    assert await serves(client, 3)


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST"), (":scheme", "http")],
        [(":method", "POST"), (":path", "/a"), (":path", "/b"), (":scheme", "http")],
        [(":method", "POST"), ("a", "b"), (":scheme", "http"), (":path", "/a")],
        [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("Upper", "case")],
        [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("grpc-timeout", "1 day")],
    ],
    ids=["no path", "two paths", "late", "upper case", "timeout"],
)
async def test_a_malformed_request_is_reset_and_the_connection_goes_on(
    scene: Scene, fields: list[tuple[str, str]]
) -> None:
    client = await scene.client()
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, client.encoder.encode(fields)))
    assert (await client.answer(1)).reset == Code.PROTOCOL_ERROR
    assert await serves(client, 3)


async def test_a_method_that_is_unknown_is_unimplemented(scene: Scene) -> None:
    client = await scene.client()
    client.call(1, "nothing")
    answer = await client.answer(1)
    assert answer.status == "12"
    assert SERVICE + "nothing" in answer.details


@pytest.mark.parametrize("part", [b"", message(b"abc")[:-1], message(b"abc")[:3]])
async def test_a_request_without_a_whole_message_is_invalid(scene: Scene, part: bytes) -> None:
    client = await scene.client()
    client.send(client.headers(1, "length"), frame(DATA, END_STREAM, 1, part))
    assert (await client.answer(1)).status == "3"
    client.send(client.headers(3, "length", END_STREAM))
    assert (await client.answer(3)).status == "3"


async def test_a_message_that_is_too_large_is_refused_by_its_announcement(idle: Scene) -> None:
    async with idle.serving(Options(largest_message=1_000)):
        client = await idle.client()
        client.send(client.headers(1, "length"), frame(DATA, 0, 1, message(bytes(1_001))[:5]))
        answer = await client.answer(1)
        assert answer.status == "8"
        assert "message larger than max (1001 vs. 1000)" in answer.details
        # What was on its way meanwhile.
        client.send(frame(DATA, END_STREAM, 1, bytes(1_001)))
        client.call(3, "length", bytes(1_000))
        assert (await client.answer(3)).message == b"1000"


async def test_a_message_may_come_in_single_bytes_and_many_in_one_frame(scene: Scene) -> None:
    client = await scene.client()
    sent = [b"", b"a", b"bc" * 200]
    body = b"".join(message(each) for each in sent)
    client.send(client.headers(1, "echo"), *(frame(DATA, 0, 1, bytes((byte,))) for byte in body))
    client.send(frame(DATA, END_STREAM, 1, body))
    assert (await client.answer(1)).data == body * 2


async def test_a_call_of_many_messages_may_have_a_single_answer(scene: Scene) -> None:
    client = await scene.client()
    body = message(b"abc") + message(b"d")
    client.send(client.headers(1, "sum"), frame(DATA, END_STREAM, 1, body))
    answer = await client.answer(1)
    assert (answer.status, answer.data) == ("0", message(b"4"))


async def test_large_headers_of_an_answer_come_in_pieces(scene: Scene) -> None:
    client = await scene.client()
    client.send(client.headers(1, "refuse"))
    await client.upload(1, message(b"why" * 10_000))
    answer = await client.answer(1)
    assert (answer.status, answer.details) == ("5", "why" * 10_000)
    assert [seen[0] for seen in client.seen if seen[2] == 1] == [HEADERS, CONTINUATION]
    assert await serves(client, 3)


async def test_a_client_without_a_header_table_is_told_first_that_none_is_used(scene: Scene) -> None:
    client = await scene.client()
    client.send(frames.settings({frames.HEADER_TABLE_SIZE: 0}))
    await client.settle()
    client.decoder.max_allowed_table_size = 0
    # It cannot be decoded unless it says so itself.
    assert await serves(client, 1)
    assert await serves(client, 3)


# What the server may send.


async def test_an_answer_keeps_to_the_windows_to_the_byte(scene: Scene) -> None:
    client = await scene.client()
    client.call(1, "repeat", b"300000")
    await client.settle()
    assert len(client.answers[1].data) == WINDOW
    for said, more in (
        (frames.window_update(1, 1_000), 0),
        (frames.window_update(0, 400), 400),
        (frames.window_update(0, 50_000), 600),
        (frames.window_update(1, 20_000), 20_000),
        (frames.window_update(1, 1), 1),
    ):
        before = len(client.answers[1].data)
        client.send(said)
        await client.settle()
        assert len(client.answers[1].data) - before == more
    client.send(frames.window_update(0, WIDE), frames.window_update(1, WIDE))
    answer = await client.answer(1)
    assert answer.message == pattern(300_000)
    assert answer.status == "0"
    assert max(answer.sizes) <= frames.DEFAULT_FRAME


async def test_answers_of_one_connection_take_turns(scene: Scene) -> None:
    client = await scene.client({frames.INITIAL_WINDOW_SIZE: WIDE})
    for stream in (1, 3, 5):
        client.call(stream, "repeat", b"300000")
    await client.settle()
    client.seen.clear()
    client.send(frames.window_update(0, 600_000))
    await client.settle()
    turns = [stream for type_, _, stream, _ in client.seen if type_ == DATA]
    assert max(len(list(turn)) for _, turn in groupby(turns)) <= 4
    shares = [turns.count(stream) for stream in (1, 3, 5)]
    assert max(shares) - min(shares) <= 8
    client.send(frames.window_update(0, WIDE))
    for stream in (1, 3, 5):
        assert (await client.answer(stream)).message == pattern(300_000)


async def test_an_answer_without_a_window_holds_up_no_other(scene: Scene) -> None:
    client = await scene.wide_client(window=10)
    client.call(1, "repeat", b"1000")
    client.call(3, "repeat", b"1000")
    await client.settle()
    client.send(frames.window_update(3, 2_000))
    assert (await client.answer(3)).message == pattern(1_000)
    assert client.answers[1].sizes == [10]
    client.send(frames.window_update(1, 2_000))
    assert (await client.answer(1)).message == pattern(1_000)


async def test_an_answer_that_waits_for_the_connection_gets_what_a_reset_one_leaves(scene: Scene) -> None:
    client = await scene.client({frames.INITIAL_WINDOW_SIZE: WIDE})
    for stream in (1, 3):
        client.call(stream, "repeat", b"100000")
    await client.settle()
    client.send(frames.reset(1, Code.CANCEL), frames.window_update(0, 200_000))
    assert (await client.answer(3)).message == pattern(100_000)
    await client.settle()
    assert len(client.answers[1].data) == WINDOW
    assert not scene.connection.streams


async def test_a_status_needs_no_window(scene: Scene) -> None:
    client = await scene.client({frames.INITIAL_WINDOW_SIZE: 0})
    client.call(1, "refuse", b"x")
    assert (await client.answer(1)).status == "5"


@pytest.mark.parametrize("largest", [20_000, 65_536, frames.LARGEST_FRAME])
async def test_frames_are_as_large_as_the_client_takes_them_and_no_larger(scene: Scene, largest: int) -> None:
    client = await scene.client({frames.INITIAL_WINDOW_SIZE: WIDE, frames.MAX_FRAME_SIZE: 16_384})
    client.send(frames.window_update(0, WIDE))
    client.call(1, "repeat", b"200000")
    assert max((await client.answer(1)).sizes) == 16_384
    client.send(frames.settings({frames.MAX_FRAME_SIZE: largest}))
    await client.settle()
    client.call(3, "repeat", b"200000")
    answer = await client.answer(3)
    assert answer.message == pattern(200_000)
    assert 16_384 < max(answer.sizes) <= largest


async def test_initial_windows_that_change_count_for_answers_that_wait(scene: Scene) -> None:
    client = await scene.wide_client(window=50_000)
    client.call(1, "repeat", b"200000")
    await client.settle()

    async def more(*said: bytes) -> int:
        before = len(client.answers[1].data)
        client.send(*said)
        await client.settle()
        return len(client.answers[1].data) - before

    assert len(client.answers[1].data) == 50_000
    assert await more(frames.settings({frames.INITIAL_WINDOW_SIZE: 50_100})) == 100
    # 49,100 below zero from here on.
    assert await more(frames.settings({frames.INITIAL_WINDOW_SIZE: 1_000})) == 0
    assert await more(frames.window_update(1, 49_100)) == 0
    assert await more(frames.window_update(1, 1)) == 1
    assert await more(frames.settings({frames.INITIAL_WINDOW_SIZE: 0})) == 0
    assert await more(frames.settings({frames.INITIAL_WINDOW_SIZE: 1_010})) == 10
    assert await more(frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31 - 1 - 50_000})) > 100_000
    assert (await client.answer(1)).message == pattern(200_000)


async def test_a_window_of_a_new_stream_is_the_one_that_was_told_last(scene: Scene) -> None:
    client = await scene.wide_client(window=50_000)
    client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 7}))
    client.call(1, "repeat", b"1000")
    await client.settle()
    assert len(client.answers[1].data) == 7


@pytest.mark.parametrize(("more", "code"), [(0, Code.PROTOCOL_ERROR), (2**31 - 1, Code.FLOW_CONTROL_ERROR)])
async def test_a_window_update_of_nothing_or_too_much_ends_its_stream_only(scene: Scene, more: int, code: Code) -> None:
    client = await scene.client()
    client.call(1, "wait")
    await client.settle()
    await eventually(lambda: scene.handlers.begun)
    client.send(frames.window_update(1, more))
    assert (await client.answer(1)).reset == code
    await eventually(lambda: scene.handlers.cancelled)
    assert await serves(client, 3)


async def test_an_initial_window_that_makes_a_streams_too_large_ends_the_connection(scene: Scene) -> None:
    client = await scene.client()
    client.call(1, "wait")
    client.send(frames.window_update(1, 2**31 - 1 - WINDOW), frames.settings({frames.INITIAL_WINDOW_SIZE: WINDOW + 1}))
    assert await client.ended() == Code.FLOW_CONTROL_ERROR


# What the client may send.


async def test_a_client_that_obeys_the_windows_can_send_more_than_they_hold(scene: Scene) -> None:
    client = await scene.client()
    client.send(client.headers(1, "length"))
    body = message(bytes(5 * MIB))
    await client.upload(1, body[: 3 * MIB])
    await client.settle()
    # Both sides have counted the same.
    assert client.windows[1] == scene.connection.streams[1]._receive_window
    assert client.windows[0] == scene.connection._receive_window
    await client.upload(1, body[3 * MIB :])
    client.send(frame(DATA, END_STREAM, 1))
    assert (await client.answer(1)).message == str(5 * MIB).encode()


async def test_padding_is_given_back_to_the_windows(scene: Scene) -> None:
    client = await scene.client()
    client.send(client.headers(1, "length"))
    padding = b"\xff" + bytes(255)
    for _ in range(2 * client.room(1) // len(padding)):
        await client.until(lambda: client.room(1) >= len(padding))
        client.send_data(1, padding, PADDED)
    client.send_data(1, message(b"abc"), END_STREAM)
    assert (await client.answer(1)).message == b"3"


async def test_a_handler_that_does_not_read_stops_its_client_until_it_does(idle: Scene) -> None:
    window = 100_000
    async with idle.serving(Options(stream_window=window)):
        client = await idle.client()
        client.send(client.headers(1, "gather"))
        one, sent = message(bytes(995)), 0
        while client.room(1) >= len(one):
            client.send_data(1, one)
            sent += 1
            if client.room(1) < len(one):
                await client.settle()
            assert sent * len(one) <= 2 * window, "no end of it"
        # Others go on.
        assert await serves(client, 3)
        assert client.room(1) < len(one)
        idle.handlers.go.set()
        await client.until(lambda: client.room(1) >= len(one))
        await client.upload(1, one * 1_000)
        client.send_data(1, b"", END_STREAM)
        assert (await client.answer(1)).message == str(sent + 1_000).encode()
        assert set(idle.handlers.read) == {bytes(995)}


async def test_empty_messages_that_nobody_reads_stop_their_client_too(idle: Scene) -> None:
    window = 100_000
    async with idle.serving(Options(stream_window=window)):
        client = await idle.client()
        client.send(client.headers(1, "gather"))
        many, sent = message(b"") * 200, 0
        while client.room(1) >= len(many):
            client.send_data(1, many)
            sent += len(many)
            if client.room(1) < len(many):
                await client.settle()
            assert sent <= 4 * window, "no end of it"


async def test_more_than_the_window_of_a_stream_ends_the_connection(idle: Scene) -> None:
    async with idle.serving(Options(stream_window=100_000)):
        client = await idle.client()
        client.send(client.headers(1, "gather"), *[frame(DATA, 0, 1, message(bytes(9_995)))] * 30)
        assert await client.ended() == Code.FLOW_CONTROL_ERROR


# The end of a call.


@pytest.mark.parametrize("method", ["wait", "echo"])
async def test_a_reset_cancels_its_handler_and_the_connection_goes_on(scene: Scene, method: str) -> None:
    client = await scene.client()
    client.send(client.headers(1, method), frame(DATA, 0, 1, message(b"a")))
    await eventually(lambda: scene.handlers.begun or 1 in client.answers or scene.connection.messages_sent)
    client.send(frames.reset(1, Code.CANCEL))
    await eventually(lambda: scene.handlers.cancelled)
    await eventually(lambda: not scene.connection.running)
    assert not scene.connection.streams
    assert await serves(client, 3)


@pytest.mark.parametrize("method", ["wait", "echo", "gather"])
async def test_a_reset_before_the_first_step_of_its_handler_leaves_nothing_behind(scene: Scene, method: str) -> None:
    client = await scene.client()
    client.send(
        client.headers(1, method), frame(DATA, 0, 1, message(b"a")), frames.reset(1, Code.CANCEL), frame(DATA, 0, 1)
    )
    assert await serves(client, 3)
    await eventually(lambda: not scene.connection.running)
    assert not scene.handlers.begun
    assert 1 not in client.answers


async def test_nothing_more_is_said_of_a_call_whose_handler_fails_at_its_cancellation(scene: Scene) -> None:
    client = await scene.client()
    client.call(1, "stumble")
    await eventually(lambda: scene.handlers.begun)
    client.send(frames.reset(1, Code.CANCEL))
    await eventually(lambda: scene.handlers.cancelled)
    await eventually(lambda: not scene.connection.running)
    assert await serves(client, 3)
    assert 1 not in client.answers
    assert scene.connection.calls_ended == 1


async def test_a_deadline_ends_its_call_once_even_where_the_handler_fails_then(scene: Scene) -> None:
    client = await scene.client()
    block = client.block("stumble", [("grpc-timeout", "20m")])
    client.send(frame(HEADERS, END_HEADERS, 1, block), frame(DATA, END_STREAM, 1, message(b"")))
    assert (await client.answer(1)).status == "4"
    await eventually(lambda: scene.handlers.cancelled)
    await eventually(lambda: not scene.connection.running)
    assert await serves(client, 3)
    assert len(client.answers[1].headers) == 1


async def test_a_lost_connection_cancels_its_handlers_and_frees_its_streams(scene: Scene) -> None:
    client = await scene.client()
    for stream in (1, 3, 5):
        client.call(stream, "wait")
    # One that waits for a window, and one that waits for its client.
    client.call(7, "repeat", b"300000")
    client.send(client.headers(9, "echo"))
    await eventually(lambda: scene.handlers.begun == 3)
    lost = scene.connection
    client.abort()
    await eventually(lambda: not scene.server.connections)
    await eventually(lambda: not lost.running)
    assert scene.handlers.cancelled == 4
    assert not lost.streams


async def test_a_call_more_than_allowed_is_refused_until_one_ends(idle: Scene) -> None:
    async with idle.serving(Options(most_streams=2)):
        client = await idle.client()
        for stream in (1, 3, 5):
            client.call(stream, "wait")
        assert (await client.answer(5)).reset == Code.REFUSED_STREAM
        idle.handlers.go.set()
        assert (await client.answer(3)).message == b"done"
        assert (await client.answer(1)).message == b"done"
        await eventually(lambda: not idle.connection.running)
        assert await serves(client, 7)


@pytest.mark.parametrize("method", ["wait", "echo"])
async def test_a_flood_of_calls_that_are_reset_at_once_leaves_nothing_behind(scene: Scene, method: str) -> None:
    client = await scene.client()
    body = frame(DATA, 0, 1, message(b""))
    for stream in range(1, 40_000, 2):
        body = frame(DATA, 0, stream, message(b""))
        client.send(client.headers(stream, method), body, frames.reset(stream, Code.CANCEL))
        if stream % 1_000 == 1:
            await client.flush()
    await client.settle()
    await eventually(lambda: not scene.connection.running)
    assert not scene.connection.streams
    assert {answer.reset for answer in client.answers.values()} <= {Code.REFUSED_STREAM}
    assert await serves(client, 40_001)


@pytest.mark.parametrize(
    ("request_", "code", "details"),
    [(b"too slow", "9", "too slow"), (b"", "14", "the server has ended the call")],
)
async def test_a_call_that_is_cut_off_ends_with_the_error_that_it_had_to_tell(
    scene: Scene, request_: bytes, code: str, details: str
) -> None:
    client = await scene.client()
    client.call(1, "spill", request_)
    await eventually(lambda: scene.handlers.begun == 1)
    await client.settle()
    (task,) = scene.connection.running
    assert not client.answers[1].ended
    task.cancel()
    answer = (await client.answer(1)).headers[-1]
    assert (answer["grpc-status"], answer["grpc-message"]) == (code, details)


# Clients that are no good.


@pytest.mark.parametrize("name", ["pings", "settings", "refused", "malformed", "unknown", "empty", "failing"])
async def test_who_makes_the_server_answer_and_does_not_read_is_ended(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_MOST_BUFFERED", 512 * KIB)
    client = await scene.client()
    bad = scene.connection
    # Requests are short once they are in the table.
    for stream, method in ((1, "nothing"), (3, "length"), (5, "refuse")):
        client.call(stream, method)
        await client.answer(stream)
    said: dict[str, Callable[[int], bytes]] = {
        "pings": lambda stream: frame(PING, 0, 0, bytes(8)),
        "settings": lambda stream: frames.settings({}),
        "refused": lambda stream: frame(HEADERS, END_HEADERS, stream, b"\x82\x84\x86"),
        "malformed": lambda stream: frame(HEADERS, END_HEADERS, stream, b"\x83"),
        "unknown": lambda stream: client.headers(stream, "nothing", END_STREAM),
        "empty": lambda stream: client.headers(stream, "length", END_STREAM),
        "failing": lambda stream: client.headers(stream, "refuse") + frame(DATA, END_STREAM, stream, message(b"x")),
    }
    buffered = 0
    with pytest.raises(ConnectionError):
        for stream in range(7, 400_000, 2):
            client.send(said[name](stream))
            if stream % 100 == 7:
                await client.flush()
                buffered = max(buffered, bad._transport.get_write_buffer_size())
                assert buffered <= MIB
    await eventually(lambda: bad not in scene.server.connections and not bad.running)
    assert await serves(await scene.client(), 1)


def test_an_answer_to_a_ping_in_the_same_millisecond_is_one(tmp_path: Path) -> None:
    """uvloop's clock, which the server runs by, has no smaller parts."""

    async def pinged_again_and_again() -> None:
        scene = Scene(tmp_path)
        async with scene.serving(Options(ping_after=0.02, pong_within=0.02)):
            client = await scene.client()
            for _ in range(5):
                while (heard := await client.hear()) is not None and heard[:2] != (PING, 0):
                    pass
                assert heard is not None, "the connection has ended"
                client.send(frame(PING, ACK, 0, heard[3]))

    uvloop.run(pinged_again_and_again())


async def test_a_silent_client_is_pinged_then_gone(idle: Scene) -> None:
    async with idle.serving(Options(ping_after=0.2, pong_within=0.2)):
        client = await idle.client()
        client.call(1, "wait")
        await client.until(lambda: client.seen[-1][:2] == (PING, 0))
        assert await client.ended() is None
        await eventually(lambda: idle.handlers.cancelled)
        assert not idle.server.connections


async def test_a_client_that_never_says_anything_is_gone(idle: Scene) -> None:
    async with idle.serving(Options(ping_after=0.1, pong_within=0.1)):
        client = await idle.client(hello=False)
        assert await client.ended() is None


async def test_a_client_that_answers_pings_stays(idle: Scene) -> None:
    async with idle.serving(Options(ping_after=0.2, pong_within=0.2)):
        client = await idle.client()
        for number in range(1, 4):
            await client.until(lambda: client.seen.count((PING, 0, 0, bytes(8))) == number)  # noqa: B023
            client.send(frame(PING, ACK, 0, bytes(8)))
        assert idle.connection.pings_sent == 3
        assert await serves(client, 1)


async def test_a_server_that_stops_says_so_and_lets_calls_end(idle: Scene) -> None:
    async with idle.serving():
        client = await idle.client()
        client.call(1, "wait")
        await eventually(lambda: idle.handlers.begun)
        stopping = asyncio.create_task(idle.server.stop(20))
        await client.until(lambda: client.gone_away is not None)
        assert (client.gone_away, client.last_stream) == (Code.NO_ERROR, 1)
        client.call(3, "wait")
        assert (await client.answer(3)).reset == Code.REFUSED_STREAM
        idle.handlers.go.set()
        assert (await client.answer(1)).message == b"done"
        assert await client.ended() == Code.NO_ERROR
        await stopping


class RandomFrames:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def some(self, client: RawClient) -> bytes:
        """Mostly such as might be meant."""
        choose = self.random.choice
        stream = choose((0, 1, 1, 1, 2, 3, 3, 5, 7, 2**31 - 1, 2**32 - 1))
        flags = choose(
            (0, 0, END_STREAM, END_HEADERS, END_HEADERS, END_HEADERS | END_STREAM, self.random.randrange(256))
        )
        payload = self.random.randbytes(choose((0, 1, 3, 4, 5, 6, 8, 12, 200)))
        type_ = choose((DATA, HEADERS, HEADERS, self.random.randrange(11)))
        method = choose(("length", "repeat", "wait", "refuse", "gather", "echo", "nothing"))
        if type_ == HEADERS and self.random.random() < 0.8:
            odd = [("grpc-timeout", choose(("1n", "0S", "99999999H", "x"))), ("a-bin", choose(("YQ", "%", "")))]
            block = client.block(method, self.random.sample(odd, self.random.randrange(3)))
            payload = block if self.random.random() < 0.8 else block[: self.random.randrange(len(block))]
        elif type_ == DATA and self.random.random() < 0.8:
            payload = choose(
                (message(payload), message(b"70000"), b"\x01" + message(payload)[1:], message(payload)[:4])
            )
        elif type_ == SETTINGS and self.random.random() < 0.8:
            stream = flags = 0
            payload = self.random.randrange(8).to_bytes(2, "big") + choose((0, 1, 100, 16_384, 2**31)).to_bytes(
                4, "big"
            )
        elif type_ == WINDOW_UPDATE:
            payload = choose((0, 1, 1_000, 2**31 - 1)).to_bytes(4, "big")
        return frame(type_, flags, stream, payload)


async def test_frames_that_make_no_sense_do_the_server_and_others_no_harm(scene: Scene) -> None:
    unforeseen: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unforeseen.append(context))
    made = RandomFrames(9113)
    healthy = await scene.client()
    connections: set[Connection] = set()
    with structlog.testing.capture_logs() as logged:
        for number in range(150):
            client = await scene.client()
            connections |= scene.server.connections
            for _ in range(20):
                client.send(made.some(client))
            client.end()
            await client.ended()
            assert await serves(healthy, 2 * number + 1)
        await eventually(lambda: len(scene.server.connections) == 1)
        await eventually(lambda: not any(each.running or each.streams for each in connections))
    loop.set_exception_handler(before)
    assert not unforeseen
    assert not [entry for entry in logged if entry["log_level"] not in ("info", "debug")]
    assert len(connections) == 151
