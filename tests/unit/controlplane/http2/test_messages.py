"""What calls carry, clients that do not read, and what is left of calls."""

from __future__ import annotations

import asyncio
import gc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from controlplane.http2 import Context, Options
from tests.unit.controlplane.http2.serving import (
    KIB,
    MIB,
    Stuck,
    answers,
    both_ways,
    connected,
    counted,
    echo,
    failure,
    path,
    serving,
    socket_of,
    unary,
    until,
    wait,
)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_understood(tmp_path: Path, compression: grpc.Compression) -> None:
    seen: list[str] = []

    async def see(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata())["grpc-encoding"])
        return request

    async def talk(_: Any, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    client = connected(f"unix:{socket_of(tmp_path)}", compression=compression)
    async with serving(tmp_path, Echo=unary(see), Talk=both_ways(talk)), client as channel:
        call = channel.stream_stream(path("Talk"))()
        for message in (b"podwire " * 50_000, b"", b"x"):
            assert await channel.unary_unary(path("Echo"))(message) == message
            await call.write(message)
            assert await call.read() == message
    assert set(seen) == {compression.name.lower()}


async def test_a_message_may_be_as_large_as_the_largest(tmp_path: Path) -> None:
    async with serving(tmp_path, Options(largest_message=100 * KIB), Echo=unary(echo)) as (_, channel):
        call = channel.unary_unary(path("Echo"))
        assert len(await call(bytes(100 * KIB))) == 100 * KIB
        error = await failure(call(bytes(100 * KIB + 1)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max (102401 vs. 102400)" in str(error.details())
        assert await call(b"next") == b"next"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_message_may_be_as_large_as_the_largest(
    tmp_path: Path, compression: grpc.Compression
) -> None:
    client = connected(f"unix:{socket_of(tmp_path)}", compression=compression)
    async with serving(tmp_path, Options(largest_message=100 * KIB), Echo=unary(echo)), client as channel:
        assert len(await channel.unary_unary(path("Echo"))(bytes(100 * KIB))) == 100 * KIB


async def test_a_message_that_is_too_large_once_it_is_unpacked_is_refused(tmp_path: Path) -> None:
    bomb = bytes(20 * MIB)
    assert len(zlib.compress(bomb)) < 100 * KIB
    client = connected(f"unix:{socket_of(tmp_path)}", compression=grpc.Compression.Gzip)
    async with serving(tmp_path, Options(largest_message=MIB), Echo=unary(echo)), client as channel:
        error = await failure(channel.unary_unary(path("Echo"))(bomb))
        # As one that is too large before: not as a method that does not exist.
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in str(error.details())


@pytest.mark.parametrize("size", [0, 1, 5 * MIB])
async def test_messages_of_any_size_go_both_ways(tmp_path: Path, size: int) -> None:
    async def talk(_: Any, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    message = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    async with serving(tmp_path, Echo=unary(echo), Talk=both_ways(talk)) as (_, channel):
        assert await channel.unary_unary(path("Echo"))(message) == message
        call = channel.stream_stream(path("Talk"))()
        for _ in range(2):
            await call.write(message)
            assert await call.read() == message


async def test_two_hundred_calls_run_at_once_on_one_connection(tmp_path: Path) -> None:
    running = 0
    everybody = asyncio.Event()

    async def meet(request: bytes, context: Any) -> bytes:
        nonlocal running
        running += 1
        if running == 200:
            everybody.set()
        await everybody.wait()
        return request

    async with serving(tmp_path, Meet=unary(meet)) as (server, channel):
        calls = [channel.unary_unary(path("Meet"))(b"%d" % number) for number in range(200)]
        async with asyncio.timeout(30):
            assert [await call for call in calls] == [b"%d" % number for number in range(200)]
        [connection] = server.connections
        assert connection.calls_begun == 200
        await until(lambda: not connection.streams and not connection.running)


# Clients that do not read.


async def test_a_handler_waits_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    contexts: list[Context] = []
    written = 0
    waits = asyncio.Event()

    async def much(request: bytes, context: Context) -> None:
        nonlocal written
        contexts.append(context)
        for _ in range(100):
            context.send(bytes(100 * KIB))
            written += 1
            if context.waits:
                waits.set()
                await context.drained()
                assert not context.waits

    async with serving(tmp_path, Much=answers(much), Echo=unary(echo)) as (_, channel):
        call = channel.unary_stream(path("Much"))(b"")
        await wait(waits)
        # Others are not held up, and by the time they are answered nothing more has been written.
        for _ in range(10):
            assert await channel.unary_unary(path("Echo"))(b"other") == b"other"
        assert contexts[0].waits
        assert written <= 3
        async with asyncio.timeout(30):
            assert sum([len(message) async for message in call]) == 100 * 100 * KIB
        assert written == 100


async def test_a_call_that_is_cancelled_while_its_client_does_not_read_is_reset(tmp_path: Path) -> None:
    contexts: list[Context] = []
    waits = asyncio.Event()

    async def much(request: bytes, context: Context) -> None:
        contexts.append(context)
        context.send(bytes(MIB))
        assert context.waits
        waits.set()
        await context.drained()

    async with serving(tmp_path, Much=answers(much)) as (server, channel):
        call = channel.unary_stream(path("Much"))(b"")
        await wait(waits)
        task = contexts[0].task
        assert task is not None
        task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([task])
        error = await failure(anext(aiter(call)))
        assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        [connection] = server.connections
        assert not connection.streams
        assert not connection.running


async def test_a_call_whose_task_is_cancelled_is_unavailable(tmp_path: Path) -> None:
    stuck = Stuck()
    async with serving(tmp_path, Stuck=unary(stuck)) as (_, channel):
        call = channel.unary_unary(path("Stuck"))(b"")
        await wait(stuck.begun)
        stuck.context.task.cancel()
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_sends_no_more_than_a_handler_takes_in(tmp_path: Path) -> None:
    """A window ahead of it, and no further."""
    contexts: list[Context] = []
    taking = asyncio.Event()

    async def take(_: Any, context: Context) -> AsyncIterator[bytes]:
        contexts.append(context)
        await taking.wait()
        total = 0
        while (message := await context.read()) is not grpc.aio.EOF:
            total += len(message)
        yield b"%d" % total

    window = 128 * KIB
    async with serving(tmp_path, Options(stream_window=window), Take=both_ways(take), Echo=unary(echo)) as (
        _,
        channel,
    ):
        call = channel.stream_stream(path("Take"))(bytes(32 * KIB) for _ in range(64))
        await until(lambda: bool(contexts) and contexts[0]._unread >= window)
        for _ in range(10):
            assert await channel.unary_unary(path("Echo"))(b"other") == b"other"
        assert contexts[0]._unread <= 2 * window
        taking.set()
        async with asyncio.timeout(10):
            assert [message async for message in call] == [b"%d" % (2 * MIB)]


# What is left of calls.


async def fine(channel: Any) -> None:
    assert await channel.unary_unary(path("Echo"))(b"") == b""


async def fine_stream(channel: Any) -> None:
    assert [message async for message in channel.unary_stream(path("Count"))(b"3")] == [b"0", b"1", b"2"]


async def with_deadline(channel: Any) -> None:
    call = channel.unary_unary(path("Echo"))
    assert await call(b"", timeout=60) == b""


async def aborted(channel: Any) -> None:
    await failure(channel.unary_unary(path("Abort"))(b""))


async def broken(channel: Any) -> None:
    await failure(channel.unary_unary(path("Broken"))(b""))


async def cancelled(channel: Any) -> None:
    call = channel.unary_stream(path("Endless"))(b"")
    assert await call.read() == bytes(KIB)
    call.cancel()


async def late(channel: Any) -> None:
    call = channel.unary_unary(path("Stuck"))
    await failure(call(b"", timeout=0.005))


@pytest.mark.parametrize("end", [fine, fine_stream, with_deadline, aborted, broken, cancelled, late])
async def test_calls_leave_no_garbage(tmp_path: Path, end: Any) -> None:
    async def abort(request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "no")

    async def endless(request: bytes, context: Any) -> None:
        while True:
            await context.write(bytes(KIB))

    async def stuck(request: bytes, context: Any) -> None:
        await asyncio.Event().wait()

    async def fail(request: bytes, context: Any) -> None:
        raise RuntimeError("no")

    methods: dict[str, Any] = {
        "Echo": unary(echo),
        "Count": answers(counted),
        "Abort": unary(abort),
        "Broken": unary(fail),
        "Endless": answers(endless),
        "Stuck": unary(stuck),
    }
    with capture_logs():
        async with serving(tmp_path, **methods) as (server, channel):
            await fine(channel)
            gc.collect()
            gc.disable()
            try:
                for _ in range(50):
                    await end(channel)
                [connection] = server.connections
                await until(lambda: not connection.streams and not connection.running)
                assert connection.calls_begun > 1
                alive = [o for o in gc.get_objects() if isinstance(o, Context) and o.connection is connection]
                # The loop's last turn may hold the last call's task.
                assert len(alive) <= 1
            finally:
                gc.enable()
