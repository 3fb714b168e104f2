"""The client's end against grpcio's own server: calls of both shapes, their ends, their windows, TLS."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from controlplane.http2 import Channel, Options, client, client_tls, server_tls
from controlplane.http2.client import Call
from tests.unit.controlplane.http2.raw_server import raw_serving
from tests.unit.controlplane.http2.serving import (
    HOST,
    KIB,
    MIB,
    SERVICE,
    Stuck,
    both_ways,
    certificates,
    echo,
    failure,
    path,
    unary,
    until,
    wait,
)

SMALL = Options(stream_window=64 * KIB, connection_window=65 * KIB)


@asynccontextmanager
async def serving(
    port: int = 0, credentials: grpc.ServerCredentials | None = None, options: Any = (), **methods: Any
) -> AsyncIterator[str]:
    """grpcio's server; its target."""
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0), *options))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    address = f"{HOST}:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield f"{HOST}:{bound}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(target: str, tls: Any = None, options: Options | None = None) -> AsyncIterator[Channel]:
    channel = Channel(target, tls, options or Options())
    try:
        yield channel
    finally:
        await channel.close()


def one(channel: Channel, method: str) -> Callable[..., Any]:
    """A method that takes one message and answers with one."""
    return channel.unary_unary(path(method), bytes, bytes)


def many(channel: Channel, method: str) -> Callable[..., Any]:
    return channel.stream_stream(path(method), bytes, bytes)


async def a_free_port() -> int:
    async with raw_serving() as server:
        return int(server.target.rpartition(":")[2])


async def fail(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, request.decode())
    return b""


async def double(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message * 2


class Counted:
    """How many calls are under way, and whether so many were once."""

    def __init__(self, wanted: int) -> None:
        self.now = 0
        self._wanted = wanted
        self._reached = asyncio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.now += 1
        if self.now == self._wanted:
            self._reached.set()
        await self._reached.wait()
        return request


# One message each way.


async def test_one_message_is_answered_with_one() -> None:
    async def louder(request: bytes, context: Any) -> bytes:
        return request.decode().upper().encode()

    async with serving(Louder=unary(louder)) as target, connected(target) as channel:
        ask = channel.unary_unary(path("Louder"), str.encode, bytes.decode)
        assert await ask("größe") == "GRÖSSE"
        assert await ask("", timeout=10) == ""


async def test_generated_stubs_call_over_it() -> None:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    async with connected(f"{HOST}:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[arg-type,unused-ignore]
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        error = await failure(stub.Check(health_pb2.HealthCheckRequest(service="strange")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
    await server.stop(0)


@pytest.mark.parametrize("details", ["no", "größe: 100 %, „so\nviel“ 🚀", ""])
async def test_an_error_has_its_code_and_details(details: str) -> None:
    async with serving(Fail=unary(fail), Echo=unary(echo)) as target, connected(target) as channel:
        error = await failure(one(channel, "Fail")(details.encode()))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, details)
        assert await one(channel, "Echo")(b"next") == b"next"


async def test_a_method_that_nobody_has_is_unimplemented() -> None:
    async with serving() as target, connected(target) as channel:
        assert (await failure(one(channel, "Strange")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED
        assert (await failure(many(channel, "Strange")().read())).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_takes_too_long_ends_at_both_ends() -> None:
    stuck = Stuck()
    async with serving(Wait=unary(stuck.__call__), Echo=unary(echo)) as target, connected(target) as channel:
        begun = time.monotonic()
        error = await failure(one(channel, "Wait")(b"", timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.09 < time.monotonic() - begun < 5
        await wait(stuck.cancelled)
        assert await one(channel, "Echo")(b"next") == b"next"


async def test_the_server_hears_of_the_deadline() -> None:
    async def remaining(request: bytes, context: Any) -> bytes:
        return b"%r" % context.time_remaining()

    async with serving(Remaining=unary(remaining)) as target, connected(target) as channel:
        assert 50 < float(await one(channel, "Remaining")(b"", timeout=60)) <= 60
        assert await one(channel, "Remaining")(b"") == b"None"


async def test_a_task_that_is_cancelled_cancels_its_call_at_the_server() -> None:
    stuck = Stuck()
    async with serving(Wait=unary(stuck.__call__), Echo=unary(echo)) as target, connected(target) as channel:
        task = asyncio.ensure_future(one(channel, "Wait")(b""))
        await wait(stuck.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait(stuck.cancelled)
        assert await one(channel, "Echo")(b"next") == b"next"
        assert not channel._connections[-1].streams


async def test_two_hundred_calls_go_on_at_once_over_one_connection() -> None:
    counted = Counted(200)
    async with serving(Meet=unary(counted.__call__)) as target, connected(target) as channel:
        asked = [b"%d" % number for number in range(200)]
        async with asyncio.timeout(20):
            assert await asyncio.gather(*(one(channel, "Meet")(each) for each in asked)) == asked
        assert len(channel._connections) == 1


async def test_large_messages_get_through_small_windows_both_ways() -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return request * 6

    async with serving(Answer=unary(answer)) as target, connected(target, options=SMALL) as channel:
        request = bytes(range(256)) * (MIB // 256)
        async with asyncio.timeout(20):
            first, second = await asyncio.gather(one(channel, "Answer")(request), one(channel, "Answer")(request[::-1]))
        assert first == request * 6
        assert second == request[::-1] * 6


async def test_an_answer_that_is_too_large_is_refused() -> None:
    options = Options(largest_message=1000)
    async with serving(Echo=unary(echo)) as target, connected(target, options=options) as channel:
        assert await one(channel, "Echo")(bytes(1000)) == bytes(1000)
        error = await failure(one(channel, "Echo")(bytes(1001)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await one(channel, "Echo")(b"next") == b"next"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_answers_are_read(compression: grpc.Compression) -> None:
    options = (("grpc.default_compression_algorithm", compression.value),)
    async with (
        serving(options=options, Echo=unary(echo), Double=both_ways(double)) as target,
        connected(target) as channel,
    ):
        assert await one(channel, "Echo")(bytes(10_000)) == bytes(10_000)
        talk = many(channel, "Double")()
        await talk.write(bytes(10_000))
        assert await talk.read() == bytes(20_000)
        # Far less has come than was said.
        assert channel._connections[-1]._owed < 5_000


# Many messages both ways.


async def test_messages_are_written_and_read_in_turns() -> None:
    async with serving(Double=both_ways(double)) as target, connected(target) as channel:
        talk = many(channel, "Double")()
        for message in (b"a", b"", b"c" * 100_000):
            await talk.write(message)
            assert await talk.read() == message * 2


async def test_messages_are_read_to_the_end_of_a_call_that_ends_well() -> None:
    async def three(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    async with serving(Three=both_ways(three)) as target, connected(target) as channel:
        assert [message async for message in many(channel, "Three")()] == [b"0", b"1", b"2"]
        talk = many(channel, "Three")()
        assert [await talk.read() for _ in range(5)] == [b"0", b"1", b"2", grpc.aio.EOF, grpc.aio.EOF]


async def test_messages_before_a_bad_end_are_read_before_it_is_raised() -> None:
    async def stumble(_: Any, context: Any) -> None:
        await context.write(b"0")
        await context.write(b"1")
        await context.abort(grpc.StatusCode.ABORTED, "stumbled")

    async with serving(Stumble=both_ways(stumble)) as target, connected(target) as channel:
        talk = many(channel, "Stumble")()
        begun = await talk._begun()
        await begun.outcome
        assert [await talk.read(), await talk.read()] == [b"0", b"1"]
        for _ in range(2):
            error = await failure(talk.read())
            assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "stumbled")
        heard = []
        with pytest.raises(grpc.aio.AioRpcError, match="stumbled"):
            async for message in many(channel, "Stumble")():
                heard.append(message)
        assert heard == [b"0", b"1"]


@pytest.mark.parametrize("status", [grpc.StatusCode.OK, grpc.StatusCode.ABORTED])
async def test_who_writes_after_the_end_is_told(status: grpc.StatusCode) -> None:
    async def end(_: Any, context: Any) -> None:
        context.set_code(status)

    async with serving(End=both_ways(end)) as target, connected(target) as channel:
        talk = many(channel, "End")()
        await (await talk._begun()).outcome
        assert (await failure(talk.write(b"late"))).code() is status


async def test_a_call_is_cancelled_while_another_task_reads() -> None:
    cancelled = asyncio.Event()

    async def silent(_: Any, context: Any) -> None:
        await context.write(b"begun")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(Silent=both_ways(silent)) as target, connected(target) as channel:
        talk = many(channel, "Silent")()
        assert await talk.read() == b"begun"
        reading = asyncio.ensure_future(talk.read())
        await until(lambda: talk._call._reader is not None and not talk._call._reader.done())
        talk.cancel()
        assert (await failure(reading)).code() is grpc.StatusCode.CANCELLED
        await wait(cancelled)
        talk.cancel()
        assert (await failure(talk.write(b""))).code() is grpc.StatusCode.CANCELLED


async def test_a_call_that_is_cancelled_before_it_begins_never_does() -> None:
    async with raw_serving() as server, connected(server.target) as channel:
        talk = many(channel, "Silent")()
        talk.cancel()
        assert (await failure(talk.read())).code() is grpc.StatusCode.CANCELLED
        assert not server.peers


async def test_metadata_is_sent() -> None:
    async def told(_: Any, context: Any) -> None:
        for key, value in context.invocation_metadata():
            if key.startswith("x-"):
                await context.write(repr((key, value)).encode())

    metadata = (("x-plain", "some text"), ("x-bytes-bin", b"\x00\xff\xfe"))
    async with serving(Told=both_ways(told)) as target, connected(target) as channel:
        heard = [message async for message in many(channel, "Told")(metadata=metadata)]
        assert sorted(heard) == sorted(repr(each).encode() for each in metadata)


async def test_a_talk_ends_at_its_deadline() -> None:
    cancelled = asyncio.Event()

    async def silent(_: Any, context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(Silent=both_ways(silent)) as target, connected(target) as channel:
        error = await failure(many(channel, "Silent")(timeout=0.1).read())
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await wait(cancelled)


async def test_two_tasks_may_begin_a_talk_and_it_is_one_call() -> None:
    async with serving(Double=both_ways(double)) as target, connected(target) as channel:
        talk = many(channel, "Double")()
        reading = asyncio.ensure_future(talk.read())
        await talk.write(b"a")
        async with asyncio.timeout(10):
            assert await reading == b"aa"


async def test_a_server_is_stopped_by_a_reader_that_does_not_read_until_it_does() -> None:
    written = 0

    async def flood(_: Any, context: Any) -> None:
        nonlocal written
        for number in range(300):
            await context.write(number.to_bytes(4, "big") * 2_500)
            written += 1

    async with (
        serving(Flood=both_ways(flood), Echo=unary(echo)) as target,
        connected(target, options=Options(stream_window=64 * KIB)) as channel,
    ):
        talk = many(channel, "Flood")()
        call = await talk._begun()
        await until(lambda: call._unread >= 64 * KIB - 10_005)
        before = -1
        while before < written:
            # Others go on, and what the flood could still send has come.
            before = written
            for _ in range(20):
                assert await one(channel, "Echo")(b"a") == b"a"
        assert written < 60
        assert call._unread <= 2 * 64 * KIB
        async with asyncio.timeout(20):
            heard = [message[:4] async for message in talk]
        assert heard == [number.to_bytes(4, "big") for number in range(300)]


# Connections.


async def test_who_is_refused_hears_it_at_once_and_no_attempt_is_made_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_FIRST_DELAY", 60.0)
    monkeypatch.setattr(client, "_LONGEST_DELAY", 60.0)
    port = await a_free_port()
    async with connected(f"{HOST}:{port}") as channel:
        begun = time.monotonic()
        first = await failure(one(channel, "Echo")(b""))
        assert first.code() is grpc.StatusCode.UNAVAILABLE
        assert f"{HOST}:{port} cannot be reached" in (first.details() or "")
        async with raw_serving(port) as server:
            second = await failure(one(channel, "Echo")(b""))
            assert (second.code(), second.details()) == (first.code(), first.details())
            assert (await failure(many(channel, "Echo")().read())).code() is grpc.StatusCode.UNAVAILABLE
            assert channel._connecting is None
            assert not server.peers
        assert time.monotonic() - begun < 5
        # And after it there is one.
        channel._not_before = 0.0
        async with serving(port, Echo=unary(echo)):
            assert await one(channel, "Echo")(b"a") == b"a"


async def test_calls_get_through_as_soon_as_the_server_is_there() -> None:
    port = await a_free_port()
    async with connected(f"{HOST}:{port}") as channel:
        for _ in range(3):
            assert (await failure(one(channel, "Echo")(b""))).code() is grpc.StatusCode.UNAVAILABLE
        async with serving(port, Echo=unary(echo)), asyncio.timeout(10):
            answer = None
            while answer is None:
                try:
                    answer = await one(channel, "Echo")(b"a")
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)
            assert answer == b"a"
        # The next time it fails is the first again.
        assert channel._backoff.failures == 0


async def test_many_calls_wait_for_the_same_connection() -> None:
    async with serving(Echo=unary(echo)) as target, connected(target) as channel:
        async with asyncio.timeout(10):
            assert await asyncio.gather(*(one(channel, "Echo")(b"%d" % number) for number in range(5))) == [
                b"%d" % number for number in range(5)
            ]
        assert len(channel._connections) == 1


async def test_a_server_that_stops_ends_its_calls_and_one_that_follows_serves_the_next() -> None:
    stuck = Stuck()
    async with connected(f"{HOST}:{(port := await a_free_port())}") as channel:
        async with serving(port, Wait=unary(stuck.__call__), Talk=both_ways(double)):
            waiting = asyncio.ensure_future(one(channel, "Wait")(b""))
            talk = many(channel, "Talk")()
            await talk.write(b"a")
            assert await talk.read() == b"aa"
            await wait(stuck.begun)
        assert (await failure(waiting)).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert (await failure(talk.read())).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await until(lambda: channel._ready() is None)
        async with serving(port, Echo=unary(echo)):
            assert await one(channel, "Echo")(b"b") == b"b"


# The end of a channel.


@pytest.fixture
async def nothing_unforeseen() -> AsyncIterator[None]:
    """The loop would have logged nothing."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    yield
    gc.collect()
    loop.set_exception_handler(handler)
    assert not contexts


async def test_a_channel_that_is_closed_ends_its_calls(nothing_unforeseen: None) -> None:
    stuck = Stuck()
    async with serving(Wait=unary(stuck.__call__), Talk=both_ways(double)) as target:
        channel = Channel(target, None, Options())
        waiting = asyncio.ensure_future(one(channel, "Wait")(b"", timeout=60))
        talk = many(channel, "Talk")()
        await talk.write(b"a")
        assert await talk.read() == b"aa"
        reading = asyncio.ensure_future(talk.read())
        await wait(stuck.begun)
        # Calls that nobody waits for.
        many(channel, "Talk")()
        await many(channel, "Talk")().write(b"b")
        for _ in range(2):
            await channel.close()
        assert (await failure(waiting)).code() is grpc.StatusCode.CANCELLED
        assert (await failure(reading)).code() is grpc.StatusCode.CANCELLED
        await wait(stuck.cancelled)
        for late in (one(channel, "Wait")(b""), many(channel, "Talk")().read(), talk.write(b"")):
            assert (await failure(late)).code() is grpc.StatusCode.CANCELLED
        assert not any(connection.streams for connection in channel._connections)


async def test_a_call_right_after_the_end_of_its_channel_is_refused() -> None:
    async with serving(Echo=unary(echo)) as target:
        channel = Channel(target, None, Options())
        assert await one(channel, "Echo")(b"") == b""
        await channel.close()
        error = await failure(one(channel, "Echo")(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.CANCELLED, "the channel is closed")


async def test_a_channel_that_is_closed_while_it_connects_ends_the_calls_that_wait(
    nothing_unforeseen: None, tmp_path: Path
) -> None:
    files = certificates(tmp_path, "alice")
    # It accepts, and says nothing of TLS.
    async with raw_serving() as server:
        channel = Channel(server.target, client_tls(files.ca, files.cert, files.key), Options())
        calls = [asyncio.ensure_future(one(channel, "Echo")(b"")) for _ in range(2)]
        calls.append(asyncio.ensure_future(many(channel, "Echo")().read()))
        await server.accept(hello=False)
        connecting = channel._connecting
        assert connecting is not None
        await asyncio.gather(channel.close(), channel.close())
        assert connecting.cancelled()
        for call in calls:
            assert (await failure(call)).code() is grpc.StatusCode.CANCELLED
        await channel.close()
        assert channel._connecting is None
        assert channel._ready() is None


async def test_a_channel_that_was_never_used_is_closed() -> None:
    channel = Channel(f"{HOST}:1", None, Options())
    await channel.close()
    assert (await failure(one(channel, "Echo")(b""))).code() is grpc.StatusCode.CANCELLED


# TLS.


def credentials_of(folder: Path, name: str = "server") -> grpc.ServerCredentials:
    files = certificates(folder, name)
    pair = (files.key.read_bytes(), files.cert.read_bytes())
    return grpc.ssl_server_credentials([pair], files.ca.read_bytes(), require_client_auth=True)


def context_of(folder: Path) -> Any:
    files = certificates(folder, "alice")
    return client_tls(files.ca, files.cert, files.key)


async def test_calls_over_tls_show_the_clients_certificate(tmp_path: Path) -> None:
    async def who(request: bytes, context: Any) -> bytes:
        name: bytes = context.auth_context()["x509_common_name"][0]
        return name + request

    async with (
        serving(0, credentials_of(tmp_path), Who=unary(who), Double=both_ways(double)) as target,
        connected(target, context_of(tmp_path)) as channel,
    ):
        assert await one(channel, "Who")(b"!") == b"alice!"
        large = bytes(3 * MIB)
        assert await one(channel, "Who")(large) == b"alice" + large
        talk = many(channel, "Double")()
        await talk.write(b"a")
        assert await talk.read() == b"aa"


@asynccontextmanager
async def listening(tls: Any = None) -> AsyncIterator[str]:
    """A server with which nobody gets as far as HTTP/2; its port.

    Not grpcio's: it has been seen to crash where handshakes fail while it stops.
    """

    async def drop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(drop, HOST, 0, ssl=tls)
    try:
        yield str(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def tls_of(folder: Path) -> Any:
    files = certificates(folder, "server")
    return server_tls(files.ca, files.cert, files.key)


async def test_a_server_of_another_authority_is_unavailable(tmp_path: Path, nothing_unforeseen: None) -> None:
    async with (
        listening(tls_of(tmp_path / "theirs")) as port,
        connected(f"{HOST}:{port}", context_of(tmp_path / "ours")) as channel,
    ):
        error = await failure(one(channel, "Echo")(b""))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "CERTIFICATE_VERIFY_FAILED" in (error.details() or "")


async def test_a_server_with_the_name_of_another_is_unavailable(tmp_path: Path) -> None:
    # Its certificate has the address only.
    async with (
        listening(tls_of(tmp_path)) as port,
        connected(f"localhost:{port}", context_of(tmp_path)) as channel,
    ):
        error = await failure(one(channel, "Echo")(b""))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "CERTIFICATE_VERIFY_FAILED" in (error.details() or "")


async def test_a_server_that_speaks_no_tls_is_unavailable(tmp_path: Path) -> None:
    async with listening() as port, connected(f"{HOST}:{port}", context_of(tmp_path)) as channel:
        assert (await failure(one(channel, "Echo")(b""))).code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_over_tls_end_with_their_channel(tmp_path: Path) -> None:
    stuck = Stuck()
    async with serving(0, credentials_of(tmp_path), Wait=unary(stuck.__call__)) as target:
        channel = Channel(target, context_of(tmp_path), Options())
        waiting = asyncio.ensure_future(one(channel, "Wait")(b""))
        await wait(stuck.begun)
        await channel.close()
        assert (await failure(waiting)).code() is grpc.StatusCode.CANCELLED
        await wait(stuck.cancelled)


# Memory.


@pytest.fixture
def no_collection() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def calls() -> list[Call]:
    return [each for each in gc.get_objects() if type(each) is Call]


async def test_calls_leave_nothing_for_the_garbage_collector(no_collection: None) -> None:
    async def silent(_: Any, context: Any) -> None:
        await asyncio.Event().wait()

    methods: dict[str, Any] = {
        "Echo": unary(echo),
        "Fail": unary(fail),
        "Wait": unary(Stuck().__call__),
        "Double": both_ways(double),
    }
    async with serving(**methods, Silent=both_ways(silent)) as target, connected(target) as channel:

        async def well() -> None:
            assert await one(channel, "Echo")(b"a", timeout=60) == b"a"

        async def badly() -> None:
            await failure(one(channel, "Fail")(b"no"))

        async def late() -> None:
            await failure(one(channel, "Wait")(b"", timeout=0.001))

        async def cancelled() -> None:
            task = asyncio.ensure_future(one(channel, "Wait")(b"", timeout=60))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        async def talked() -> None:
            talk = many(channel, "Double")(timeout=60)
            await talk.write(b"a")
            assert await talk.read() == b"aa"
            talk.cancel()
            await failure(talk.read())

        async def stopped() -> None:
            talk = many(channel, "Silent")(timeout=0.001)
            await failure(talk.read())
            await failure(talk.write(b""))

        before = len(calls())
        for _ in range(10):
            for kind in (well, badly, late, cancelled, talked, stopped):
                await kind()
                assert len(calls()) == before, kind.__name__
        # The count can count.
        talk = many(channel, "Silent")()
        await talk.write(b"")
        assert len(calls()) == before + 1
