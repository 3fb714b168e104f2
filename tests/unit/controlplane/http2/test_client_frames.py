"""The client's end against a server that says what no real one would, or not on demand."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import hpack
import pytest

from controlplane.http2 import Channel, Options, client, client_tls, frames, headers
from controlplane.http2.frames import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, SETTINGS, Code, frame
from tests.unit.controlplane.http2.raw_client import message
from tests.unit.controlplane.http2.raw_server import Peer, RawServer, listen, raw_serving, target_of
from tests.unit.controlplane.http2.serving import KIB, MIB, certificates, failure, path, tls_of, until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
INTERNAL = grpc.StatusCode.INTERNAL


class Scene:
    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.channels: list[Channel] = []

    def channel(self, tls: Any = None, options: Options | None = None) -> Channel:
        self.channels.append(Channel(self.server.target, tls, options or Options()))
        return self.channels[-1]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with raw_serving() as server:
        made = Scene(server)
        yield made
        for channel in made.channels:
            await channel.close()


def ask(channel: Channel, data: bytes = b"request", timeout: float | None = None) -> asyncio.Task[bytes]:
    """A call of one message, under way."""
    return asyncio.ensure_future(channel.unary_unary(path("Ask"), bytes, bytes)(data, timeout=timeout))


def talk(channel: Channel, **more: Any) -> Any:
    return channel.stream_stream(path("Talk"), bytes, bytes)(**more)


async def done(call: asyncio.Task[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await call


async def begun(scene: Scene, channel: Channel) -> tuple[Peer, asyncio.Task[bytes]]:
    """A call that the server has heard all of, on a new connection: its first stream."""
    call = ask(channel)
    peer = await scene.server.accept()
    await peer.asked_all(1)
    return peer, call


async def serves(scene: Scene, channel: Channel) -> bool:
    """Whether the next call goes over a new connection."""
    peer, call = await begun(scene, channel)
    peer.reply(1, b"again")
    return await done(call) == b"again"


# What the client says.


async def test_a_request_is_one_of_grpc(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    asked = peer.answers[1]
    assert asked.headers == [
        {
            ":method": "POST",
            ":scheme": "http",
            ":path": path("Ask"),
            ":authority": scene.server.target,
            "content-type": "application/grpc",
            "te": "trailers",
        }
    ]
    assert asked.message == b"request"
    peer.reply(1, b"answer")
    assert await done(call) == b"answer"


async def test_a_connection_begins_with_the_settings_of_its_client(scene: Scene) -> None:
    options = Options(stream_window=100_000, connection_window=200_000)
    peer, call = await begun(scene, scene.channel(options=options))
    type_, flags, stream, payload = peer.seen[0]
    assert (type_, flags, stream) == (SETTINGS, 0, 0)
    told = dict(frames.read_settings(payload))
    assert told[frames.ENABLE_PUSH] == 0
    assert told[frames.INITIAL_WINDOW_SIZE] == 100_000
    assert peer.windows[0] == 200_000
    peer.reply(1, b"")
    await done(call)
    await peer.settle()
    assert (SETTINGS, ACK, 0, b"") in peer.seen


async def test_a_deadline_is_told_and_resets_its_call(scene: Scene) -> None:
    channel = scene.channel()
    call = ask(channel, timeout=0.1)
    peer = await scene.server.accept()
    assert 50 < int((await peer.asked(1)).headers[0]["grpc-timeout"].removesuffix("m")) <= 100
    assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await peer.until(lambda: peer.answers[1].reset == Code.CANCEL)
    # What comes nevertheless does no harm.
    peer.reply(1, b"late")
    following = ask(channel)
    await peer.asked_all(3)
    peer.reply(3, b"next")
    assert await done(following) == b"next"


async def test_a_task_that_is_cancelled_resets_its_call(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    call.cancel()
    await peer.until(lambda: peer.answers[1].reset == Code.CANCEL)
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_talk_that_is_cancelled_is_reset_once(scene: Scene) -> None:
    call = talk(scene.channel())
    await call.write(b"a")
    peer = await scene.server.accept()
    call.cancel()
    call.cancel()
    await peer.until(lambda: peer.answers.get(1) and peer.answers[1].reset == Code.CANCEL)
    await peer.settle()
    assert [type_ for type_, *_ in peer.seen].count(frames.RST_STREAM) == 1


async def test_metadata_goes_with_the_headers(scene: Scene) -> None:
    call = talk(scene.channel(), metadata=(("a", "b"), ("c-bin", b"\x00")), timeout=60)
    await call.write(b"a")
    peer = await scene.server.accept()
    [asked] = (await peer.asked(1)).headers
    assert (asked["a"], asked["c-bin"]) == ("b", "AA")
    assert asked["grpc-timeout"].endswith("m")


async def test_a_server_that_keeps_no_table_is_told_that_none_is_used(scene: Scene) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    peer.send(frames.settings({frames.HEADER_TABLE_SIZE: 0}))
    peer.reply(1, b"")
    await done(call)
    await peer.settle()
    ask(channel)
    await peer.asked_all(3)
    [block] = [payload for type_, _, stream, payload in peer.seen if (type_, stream) == (HEADERS, 3)]
    assert block.startswith(headers.NO_TABLE)


async def test_a_request_waits_for_the_windows_of_the_server(scene: Scene) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
    peer.reply(1, b"")
    await done(call)
    await peer.settle()
    data = bytes(range(256)) * (MIB // 256)
    call = ask(channel, data)
    await peer.asked(3)
    await peer.settle()
    assert len(peer.answers[3].data) == 10
    peer.send(frames.window_update(3, 2 * MIB), frames.window_update(0, 2 * MIB))
    assert (await peer.asked_all(3)).message == data
    assert max(peer.answers[3].sizes) <= frames.DEFAULT_FRAME
    peer.reply(3, b"taken")
    assert await done(call) == b"taken"


async def test_a_server_is_given_back_what_was_read_and_no_more(scene: Scene) -> None:
    call = talk(scene.channel(options=Options(stream_window=100_000)))
    await call.write(b"")
    peer = await scene.server.accept()
    await peer.asked(1)
    peer.head(1)
    one, sent = message(bytes(9_995)), 0
    while True:
        while peer.room(1) >= len(one):
            peer.send_data(1, one)
            sent += 1
        await peer.settle()
        if peer.room(1) < len(one):
            break
        assert sent < 40, "no end of it"
    assert sent >= 10
    assert [len(await call.read()) for _ in range(sent)] == [9_995] * sent
    await peer.until(lambda: peer.room(1) >= len(one))

    async def rest() -> None:
        await peer.upload(1, one * 50)
        peer.finish(1)

    async def read() -> int:
        return len([each async for each in call])

    async with asyncio.timeout(10):
        _, heard = await asyncio.gather(rest(), read())
    assert heard == 50


# Answers.


async def test_an_answer_may_come_in_any_pieces(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.head(1, ("x-more", "y" * 5_000))
    for byte in message(b"answer"):
        peer.send(frame(DATA, 0, 1, bytes((byte,))), frame(DATA, PADDED, 1, b"\x02\x00\x00"))
        await peer.settle()
    block = peer.encoder.encode([("grpc-status", "0"), ("x", "z" * 100)])
    peer.send(frame(HEADERS, END_STREAM, 1, block[:3]), frame(frames.CONTINUATION, END_HEADERS, 1, block[3:]))
    assert await done(call) == b"answer"


async def test_frames_of_no_known_type_are_ignored(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.send(frame(77, 0, 1, b"?"), frame(frames.PRIORITY, 0, 1, bytes(5)))
    peer.reply(1, b"answer")
    assert await done(call) == b"answer"


@pytest.mark.parametrize("kind", ["unary", "talk"])
async def test_an_answer_may_be_trailers_only(scene: Scene, kind: str) -> None:
    channel = scene.channel()
    call = ask(channel) if kind == "unary" else asyncio.ensure_future(talk(channel).read())
    peer = await scene.server.accept()
    await peer.asked(1)
    peer.head(1, ("grpc-status", "5"), ("grpc-message", "nicht gr%C3%B6%C3%9Fer: 100%25%F0%9F%9A%80"), flags=END_STREAM)
    error = await failure(call)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nicht größer: 100%🚀")


@pytest.mark.parametrize(("status", "code"), [(16, grpc.StatusCode.UNAUTHENTICATED), (99, grpc.StatusCode.UNKNOWN)])
async def test_an_error_after_a_message_is_an_error(scene: Scene, status: int, code: grpc.StatusCode) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.head(1)
    peer.say(1, b"answer")
    peer.finish(1, status, "no")
    error = await failure(call)
    assert (error.code(), error.details()) == (code, "no")


async def test_a_good_answer_without_a_message_is_internal(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.head(1)
    peer.finish(1)
    assert (await failure(call)).code() is INTERNAL


async def test_an_answer_that_ends_without_a_status_is_internal(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.head(1)
    peer.send(frame(DATA, END_STREAM, 1, message(b"answer")))
    assert (await failure(call)).code() is INTERNAL


HTTP = [
    (400, INTERNAL),
    (401, grpc.StatusCode.UNAUTHENTICATED),
    (403, grpc.StatusCode.PERMISSION_DENIED),
    (404, grpc.StatusCode.UNIMPLEMENTED),
    (418, grpc.StatusCode.UNKNOWN),
    (429, UNAVAILABLE),
    (503, UNAVAILABLE),
]


@pytest.mark.parametrize(("status", "code"), [*HTTP, (200, grpc.StatusCode.UNKNOWN)])
async def test_a_status_of_http_is_understood(scene: Scene, status: int, code: grpc.StatusCode) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.head(1, status=status, flags=END_STREAM)
    error = await failure(call)
    assert error.code() is code
    assert str(status) in (error.details() or "")


@pytest.mark.parametrize(("status", "code"), HTTP)
async def test_a_page_of_a_proxy_is_no_message(scene: Scene, status: int, code: grpc.StatusCode) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    peer.head(1, status=status)
    peer.send(frame(DATA, END_STREAM, 1, b"<html>The upstream is gone.</html>"))
    error = await failure(call)
    assert error.code() is code
    assert str(status) in (error.details() or "")
    following = ask(channel)
    await peer.asked_all(3)
    peer.reply(3, b"next")
    assert await done(following) == b"next"


def compressed(data: bytes) -> bytes:
    packed = gzip.compress(data)
    return b"\x01" + len(packed).to_bytes(4, "big") + packed


async def test_a_compressed_answer_is_read(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.head(1, ("grpc-encoding", "gzip"))
    peer.send(frame(DATA, 0, 1, compressed(bytes(100_000))))
    peer.finish(1)
    assert await done(call) == bytes(100_000)


@pytest.mark.parametrize(
    ("encoding", "data", "code"),
    [
        ("identity", b"a", grpc.StatusCode.UNIMPLEMENTED),
        ("snappy", b"a", grpc.StatusCode.UNIMPLEMENTED),
        ("gzip", bytes(1001), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_a_compressed_answer_that_cannot_be_read_resets_its_call(
    scene: Scene, encoding: str, data: bytes, code: grpc.StatusCode
) -> None:
    peer, call = await begun(scene, scene.channel(options=Options(largest_message=1000)))
    peer.head(1, ("grpc-encoding", encoding))
    peer.send(frame(DATA, 0, 1, compressed(data)))
    assert (await failure(call)).code() is code
    await peer.until(lambda: peer.answers[1].reset == Code.CANCEL)


# Resets.


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.REFUSED_STREAM, UNAVAILABLE),
        (Code.CANCEL, grpc.StatusCode.CANCELLED),
        (Code.ENHANCE_YOUR_CALM, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Code.INTERNAL_ERROR, INTERNAL),
        (Code.NO_ERROR, INTERNAL),
        (77, INTERNAL),
    ],
)
async def test_a_reset_has_a_meaning(scene: Scene, code: int, status: grpc.StatusCode) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    reading = asyncio.ensure_future(talk(channel).read())
    await peer.asked(3)
    for stream in (1, 3):
        peer.send(frame(frames.RST_STREAM, 0, stream, int(code).to_bytes(4, "big")))
    for ended in (await failure(call), await failure(reading)):
        assert ended.code() is status
        assert (code.name if isinstance(code, Code) else str(code)) in (ended.details() or "")


async def test_a_reset_behind_the_end_of_an_answer_changes_nothing(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel())
    peer.reply(1, b"answer")
    peer.send(frames.reset(1, Code.NO_ERROR))
    assert await done(call) == b"answer"


@pytest.mark.parametrize(("more", "code"), [(0, Code.PROTOCOL_ERROR), (2**31 - 1, Code.FLOW_CONTROL_ERROR)])
@pytest.mark.parametrize("kind", ["unary", "read", "write"])
async def test_a_window_update_of_nothing_or_too_much_ends_its_call(
    scene: Scene, kind: str, more: int, code: Code
) -> None:
    channel = scene.channel()
    call: asyncio.Task[Any]
    if kind == "unary":
        call = ask(channel)
    else:
        talking = talk(channel)
        call = asyncio.ensure_future(talking.read() if kind == "read" else talking.write(bytes(65_535)))
    peer = await scene.server.accept()
    await peer.asked(1)
    if kind == "write":
        # The window is empty: there is room for one less than the largest.
        await peer.until(lambda: len(peer.answers[1].data) == 65_535)
        peer.send(frames.window_update(1, 1))
    peer.send(frames.window_update(1, more))
    if (kind, more) == ("write", 2**31 - 1):
        # It has sent the rest, and has as much room as there can be.
        peer.send(frames.window_update(1, more))
    assert (await failure(call)).code() is INTERNAL
    await peer.until(lambda: peer.answers[1].reset == code)


# Writers.


async def waiting_write(scene: Scene) -> tuple[Any, asyncio.Task[None], Peer]:
    call = talk(scene.channel())
    writing = asyncio.ensure_future(call.write(bytes(100_000)))
    peer = await scene.server.accept()
    await peer.until(lambda: 1 in peer.answers and len(peer.answers[1].data) == 65_535)
    return call, writing, peer


async def test_a_write_that_waits_goes_on_when_there_is_room(scene: Scene) -> None:
    _, writing, peer = await waiting_write(scene)
    assert not writing.done()
    peer.send(frames.window_update(0, 100_000), frames.window_update(1, 100_000))
    async with asyncio.timeout(10):
        await writing
    await peer.until(lambda: len(peer.answers[1].data) == 100_005)


async def test_a_write_that_waits_raises_what_ends_its_call(scene: Scene) -> None:
    _, writing, peer = await waiting_write(scene)
    peer.head(1)
    peer.finish(1, 10, "enough")
    error = await failure(writing)
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "enough")


async def test_a_task_that_is_cancelled_while_its_call_ends_is_cancelled(scene: Scene) -> None:
    call, writing, _ = await waiting_write(scene)
    call.cancel()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_a_task_that_is_cancelled_while_it_writes_is_cancelled_and_its_call_goes_on(scene: Scene) -> None:
    call, writing, peer = await waiting_write(scene)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    peer.head(1)
    peer.say(1, b"answer")
    assert await call.read() == b"answer"


# Connections that end.


async def test_a_lost_connection_ends_its_calls_and_the_next_one_gets_a_new_one(scene: Scene) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    talking = talk(channel)
    reading = asyncio.ensure_future(talking.read())
    await peer.asked(3)
    peer.head(1)
    peer.say(1, b"half of an answer")
    await peer.settle()
    peer.abort()
    for ended in (await failure(call), await failure(reading), await failure(talking.write(b""))):
        assert ended.code() is UNAVAILABLE
        assert "the connection is lost" in (ended.details() or "")
    assert await serves(scene, channel)


async def test_a_connection_that_is_closed_at_once_is_unavailable(scene: Scene) -> None:
    channel = scene.channel()
    for _ in range(2):
        call = ask(channel)
        (await scene.server.accept(hello=False)).abort()
        assert (await failure(call)).code() is UNAVAILABLE
    assert await serves(scene, channel)


async def test_who_goes_away_is_asked_no_more_and_ends_what_it_has_begun(scene: Scene) -> None:
    channel = scene.channel()
    peer, first = await begun(scene, channel)
    talking = talk(channel)
    await talking.write(b"a")
    third = ask(channel)
    await peer.asked_all(5)
    peer.send(frames.go_away(2**31 - 1, Code.NO_ERROR))
    await peer.settle()
    assert not third.done()
    peer.send(frames.go_away(3, Code.NO_ERROR))
    assert (await failure(third)).code() is UNAVAILABLE

    other, following = await begun(scene, channel)
    # Those that it has begun go on, while others are asked elsewhere.
    peer.reply(1, b"first")
    assert await done(first) == b"first"
    peer.head(3)
    peer.say(3, b"b")
    assert await talking.read() == b"b"
    await talking.write(b"c")
    other.reply(1, b"other")
    assert await done(following) == b"other"
    peer.finish(3)
    assert await talking.read() is grpc.aio.EOF
    # The last has ended, and nobody is needed.
    assert await peer.ended() is None
    following = ask(channel)
    await other.asked_all(3)
    other.reply(3, b"still other")
    assert await done(following) == b"still other"
    assert len(scene.server.peers) == 2


async def test_who_goes_away_while_nothing_is_asked_is_left_at_once(scene: Scene) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    peer.reply(1, b"")
    await done(call)
    peer.send(frames.go_away(1, Code.NO_ERROR))
    assert await peer.ended() is None
    assert await serves(scene, channel)


async def test_a_channel_that_is_closed_ends_the_calls_of_who_goes_away_too(scene: Scene) -> None:
    channel = scene.channel()
    peer, old = await begun(scene, channel)
    peer.send(frames.go_away(1, Code.NO_ERROR))
    await peer.settle()
    other, new = await begun(scene, channel)
    await channel.close()
    for call in (old, new):
        assert (await failure(call)).code() is grpc.StatusCode.CANCELLED
    for each in (peer, other):
        assert await each.ended() is None
        assert each.answers[1].reset == Code.CANCEL


async def test_a_connection_whose_numbers_end_is_followed_by_another(scene: Scene) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    peer.reply(1, b"")
    await done(call)
    last = 2**31 - 3
    channel._connections[-1]._next = last
    call = ask(channel)
    await peer.asked_all(last)
    assert await serves(scene, channel)
    peer.reply(last, b"last")
    assert await done(call) == b"last"
    assert await peer.ended() is None


# Servers that are silent.


async def test_a_server_that_accepts_and_says_nothing_does_not_hold_up_a_deadline(scene: Scene) -> None:
    channel = scene.channel()
    for call in (ask(channel, timeout=0.05), asyncio.ensure_future(talk(channel, timeout=0.05).read())):
        assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(scene.server.peers) == 1


def context_of(folder: Path) -> Any:
    files = certificates(folder, "alice")
    return client_tls(files.ca, files.cert, files.key)


async def test_a_handshake_that_never_ends_does_not_hold_up_a_deadline(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_CONNECT_SECONDS", 0.3)
    channel = scene.channel(context_of(tmp_path))
    patient = ask(channel)
    hasty = [ask(channel, timeout=0.05), asyncio.ensure_future(talk(channel, timeout=0.05).read())]
    for call in hasty:
        assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not patient.done()
    # And is given up at last.
    error = await failure(patient)
    assert error.code() is UNAVAILABLE
    assert "no answer in time" in (error.details() or "")


@asynccontextmanager
async def slow(folder: Path) -> AsyncIterator[tuple[Channel, Callable[[], Awaitable[Peer]]]]:
    """A channel whose handshake takes until the test lets it come to its end."""
    listening, server = listen(), RawServer()
    channel = Channel(target_of(listening), context_of(folder), Options())
    tls = tls_of(folder)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(channel.close)

        async def go_on() -> Peer:
            begun = await server.begin(listening, tls)
            undo.callback(begun.close)
            peer = await server.accept()
            undo.callback(peer.abort)
            return peer

        yield channel, go_on


@pytest.mark.parametrize("kind", ["unary", "talk"])
async def test_the_time_that_a_connection_takes_is_part_of_the_deadline(tmp_path: Path, kind: str) -> None:
    async with slow(tmp_path) as (channel, go_on):
        call: asyncio.Task[Any]
        call = ask(channel, timeout=60) if kind == "unary" else asyncio.ensure_future(talk(channel, timeout=60).read())
        await asyncio.sleep(0.05)
        peer = await go_on()
        assert int((await peer.asked(1)).headers[0]["grpc-timeout"].removesuffix("m")) <= 59_951
    assert (await failure(call)).code() is grpc.StatusCode.CANCELLED


async def test_a_talk_that_is_cancelled_while_it_connects_never_begins(tmp_path: Path) -> None:
    async with slow(tmp_path) as (channel, go_on):
        talking = talk(channel)
        reading = asyncio.ensure_future(talking.read())
        await until(lambda: channel._connecting is not None)
        talking.cancel()
        peer = await go_on()
        assert (await failure(reading)).code() is grpc.StatusCode.CANCELLED
        await peer.settle()
        assert not peer.answers


async def test_a_silent_server_that_owes_an_answer_is_pinged_then_left(scene: Scene) -> None:
    channel = scene.channel(options=Options(ping_after=0.2, pong_within=0.2))
    peer, call = await begun(scene, channel)
    await peer.until(lambda: (PING, 0, 0, bytes(8)) in peer.seen)
    assert not call.done()
    assert (await failure(call)).code() is UNAVAILABLE
    assert await peer.ended() is None
    assert await serves(scene, channel)


async def test_a_server_that_answers_pings_may_take_its_time(scene: Scene) -> None:
    peer, call = await begun(scene, scene.channel(options=Options(ping_after=0.1, pong_within=0.1)))
    for number in range(1, 5):
        await peer.until(lambda: peer.seen.count((PING, 0, 0, bytes(8))) == number)  # noqa: B023
        peer.send(frame(PING, ACK, 0, bytes(8)))
    peer.reply(1, b"at last")
    assert await done(call) == b"at last"


async def test_a_silent_server_that_owes_nothing_is_not_pinged(scene: Scene) -> None:
    channel = scene.channel(options=Options(ping_after=0.02, pong_within=0.02))
    peer, call = await begun(scene, channel)
    peer.reply(1, b"")
    await done(call)
    connection = channel._connections[-1]
    pings = connection.pings_sent
    looks: set[asyncio.TimerHandle | None] = set()
    # Each look at the silence makes another timer.
    async with asyncio.timeout(10):
        while len(looks) < 6:
            looks.add(connection._timer)
            await asyncio.sleep(0.005)
    assert connection.pings_sent == pings
    assert channel._ready() is connection


# Servers that break the rules.

RULES: dict[str, Callable[[Peer], bytes]] = {
    "a frame that is too large": lambda peer: frame(DATA, 0, 1, bytes(frames.DEFAULT_FRAME + 1)),
    "data of no stream": lambda peer: frame(DATA, 0, 0, b"a"),
    "data of a stream that has not begun": lambda peer: frame(DATA, 0, 3, b"a"),
    "data of a stream of its own": lambda peer: frame(DATA, 0, 2, b"a"),
    "a reset of a stream that has not begun": lambda peer: frames.reset(3, Code.CANCEL),
    "headers that cannot be decoded": lambda peer: frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
    "headers without end": lambda peer: (
        frame(HEADERS, 0, 1, bytes(10)) + frame(frames.CONTINUATION, 0, 1, bytes(16_000)) * 20
    ),
    "headers that are not continued": lambda peer: frame(HEADERS, 0, 1, b"\x88") + frame(PING, 0, 0, bytes(8)),
    "a push": lambda peer: frame(frames.PUSH_PROMISE, END_HEADERS, 1, bytes(4) + b"\x88"),
    "a window that grows too large": lambda peer: frames.window_update(0, 2**31 - 1) * 2,
    "a short ping": lambda peer: frame(PING, 0, 0, b"a"),
    "a short farewell": lambda peer: frame(frames.GOAWAY, 0, 0, b"a"),
    "settings of a wrong size": lambda peer: frame(SETTINGS, 0, 0, b"a"),
}


@pytest.mark.parametrize("rule", RULES)
async def test_a_broken_rule_ends_the_connection_and_the_next_call_gets_a_new_one(scene: Scene, rule: str) -> None:
    channel = scene.channel(options=Options(stream_window=64 * KIB))
    talking = talk(channel)
    await talking.write(b"")
    peer = await scene.server.accept()
    await peer.asked(1)
    peer.send(RULES[rule](peer))
    assert (await failure(talking.read())).code() is UNAVAILABLE
    assert (await failure(talking.write(b""))).code() is UNAVAILABLE
    assert await peer.ended() not in (None, Code.NO_ERROR)
    assert await serves(scene, channel)


async def test_more_than_the_window_of_a_reader_that_does_not_read_ends_the_connection(scene: Scene) -> None:
    channel = scene.channel(options=Options(stream_window=64 * KIB))
    talking = talk(channel)
    await talking.write(b"")
    peer = await scene.server.accept()
    await peer.asked(1)
    peer.send(frame(DATA, 0, 1, message(bytes(9_995))) * 20)
    assert await peer.ended() == Code.FLOW_CONTROL_ERROR
    assert (await failure(talking.read())).code() is UNAVAILABLE
    assert await serves(scene, channel)


async def test_a_server_that_speaks_no_http2_is_unavailable(scene: Scene) -> None:
    channel = scene.channel()
    call = ask(channel)
    peer = await scene.server.accept(hello=False)
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert (await failure(call)).code() is UNAVAILABLE
    assert await serves(scene, channel)


async def test_a_broken_rule_ends_calls_at_once_even_where_the_server_takes_nothing_more(scene: Scene) -> None:
    channel = scene.channel(options=Options(ping_after=3600))
    talking = talk(channel)
    writing = asyncio.ensure_future(talking.write(bytes(32 * MIB)))
    peer = await scene.server.accept()
    await peer.asked(1)
    connection = channel._connections[-1]
    # It may send everything, and fills all buffers on the way.
    peer.send(frames.window_update(0, 64 * MIB), frames.window_update(1, 64 * MIB))
    await until(lambda: connection._full)
    peer.send(frame(frames.PUSH_PROMISE, END_HEADERS, 1, bytes(4)))
    assert (await failure(writing)).code() is UNAVAILABLE
    assert await serves(scene, channel)


async def test_headers_of_no_call_are_read_for_those_that_follow(scene: Scene) -> None:
    channel = scene.channel()
    peer, call = await begun(scene, channel)
    call.cancel()
    await peer.until(lambda: peer.answers[1].reset is not None)
    peer.encoder = hpack.Encoder()
    peer.head(1, ("grpc-encoding", "gzip"))
    peer.finish(1)
    following = ask(channel)
    await peer.asked_all(3)
    # Now a place in the table stands for it.
    peer.head(3, ("grpc-encoding", "gzip"))
    peer.send(frame(DATA, 0, 3, compressed(b"next")))
    peer.finish(3)
    assert await done(following) == b"next"
