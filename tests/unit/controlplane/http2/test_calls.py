"""Calls of grpcio's client: every shape of handler, both ends' metadata, every way to end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from structlog.testing import capture_logs

from tests.unit.controlplane.http2.serving import (
    KIB,
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

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# Shapes of handlers.


async def test_one_message_is_answered_with_one(tmp_path: Path) -> None:
    async def louder(request: str, context: Any) -> str:
        return request.upper()

    codecs = {"request_deserializer": bytes.decode, "response_serializer": str.encode}
    async with serving(tmp_path, Louder=unary(louder, **codecs), Echo=unary(echo)) as (_, channel):
        assert await channel.unary_unary(path("Louder"))("größe".encode()) == "GRÖSSE".encode()
        assert await channel.unary_unary(path("Echo"))(b"raw") == b"raw"


async def test_a_stream_is_what_an_async_generator_yields(tmp_path: Path) -> None:
    async with serving(tmp_path, Count=answers(counted)) as (_, channel):
        call = channel.unary_stream(path("Count"))
        assert [message async for message in call(b"3")] == [b"0", b"1", b"2"]
        assert [message async for message in call(b"0")] == []


async def test_a_stream_is_what_a_coroutine_writes(tmp_path: Path) -> None:
    async def write(request: int, context: Any) -> None:
        for number in range(request):
            await context.write(number)

    codecs = {"request_deserializer": int, "response_serializer": lambda number: b"%d" % number}
    async with serving(tmp_path, Write=answers(write, **codecs)) as (_, channel):
        assert [message async for message in channel.unary_stream(path("Write"))(b"3")] == [b"0", b"1", b"2"]


async def test_a_handler_reads_a_stream_while_it_writes_another(tmp_path: Path) -> None:
    async def talk(_: Any, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message * 2)
        assert await context.read() is grpc.aio.EOF
        await context.write(b"end")

    async with serving(tmp_path, Talk=both_ways(talk)) as (_, channel):
        call = channel.stream_stream(path("Talk"))()
        for message in (b"a", b"b"):
            await call.write(message)
            assert await call.read() == message * 2
        await call.done_writing()
        assert await call.read() == b"end"
        assert await call.read() is grpc.aio.EOF


async def test_a_handler_goes_through_a_stream_as_through_an_iterator(tmp_path: Path) -> None:
    async def double(requests: AsyncIterator[int], context: Any) -> AsyncIterator[bytes]:
        async for number in requests:
            yield b"%d" % (2 * number)

    async with serving(tmp_path, Double=both_ways(double, request_deserializer=int)) as (_, channel):
        call = channel.stream_stream(path("Double"))(iter((b"1", b"2", b"3")))
        assert [message async for message in call] == [b"2", b"4", b"6"]


async def test_a_handler_may_end_before_its_client_does(tmp_path: Path) -> None:
    async def first(_: Any, context: Any) -> None:
        await context.write(await context.read())

    async with serving(tmp_path, First=both_ways(first), Echo=unary(echo)) as (_, channel):
        call = channel.stream_stream(path("First"))()
        await call.write(b"a")
        assert await call.read() == b"a"
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert await channel.unary_unary(path("Echo"))(b"next") == b"next"


async def test_generated_code_adds_a_service(tmp_path: Path) -> None:
    servicer = health.aio.HealthServicer()
    async with serving(tmp_path) as (server, channel):
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert (await stub.Check(request)).status == SERVING
        watch = stub.Watch(request)
        assert (await watch.read()).status == SERVING
        await servicer.set("", NOT_SERVING)
        assert (await watch.read()).status == NOT_SERVING
        strange = await failure(stub.Check(health_pb2.HealthCheckRequest(service="strange")))
        assert strange.code() is grpc.StatusCode.NOT_FOUND
        watch.cancel()
        await until(lambda: not servicer._watcher_count_by_service)


async def test_services_are_listed_by_reflection(tmp_path: Path) -> None:
    names = (health.SERVICE_NAME, reflection.SERVICE_NAME)
    async with serving(tmp_path) as (server, channel):
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), server)
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        [answer] = [answer async for answer in call]
        assert {service.name for service in answer.list_services_response.service} == set(names)


async def test_a_method_that_nobody_has_is_unimplemented(tmp_path: Path) -> None:
    async with serving(tmp_path, Echo=unary(echo)) as (server, channel):
        error = await failure(channel.unary_unary(path("Other"))(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert path("Other") in str(error.details())
        assert path("Other") not in server._methods


# Metadata.


async def test_a_handler_is_told_the_clients_metadata(tmp_path: Path) -> None:
    async def told(request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        assert metadata["key-bin"] == b"\x00\xff\n"
        return str(metadata["key"]).encode()

    async with serving(tmp_path, Told=unary(told)) as (_, channel):
        call = channel.unary_unary(path("Told"))
        assert await call(b"", metadata=(("key", "value, with = signs"), ("key-bin", b"\x00\xff\n"))) == (
            b"value, with = signs"
        )


async def test_initial_metadata_come_before_the_first_message(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def late(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("key", "value"), ("key-bin", b"\x00\x01")))
        await asked.wait()
        yield b"message"

    async with serving(tmp_path, Late=answers(late)) as (_, channel):
        call = channel.unary_stream(path("Late"))(b"")
        async with asyncio.timeout(10):
            metadata = await call.initial_metadata()
        assert (metadata["key"], metadata["key-bin"]) == ("value", b"\x00\x01")
        asked.set()
        assert [message async for message in call] == [b"message"]


@pytest.mark.parametrize("fails", [False, True])
async def test_trailing_metadata_come_with_success_and_with_failure(tmp_path: Path, fails: bool) -> None:
    metadata = (("key", "value"), ("key-bin", b"\x00\xff"))

    async def trailing(request: bytes, context: Any) -> bytes:
        if fails:
            await context.abort(grpc.StatusCode.ABORTED, "no", metadata)
        context.set_trailing_metadata(metadata)
        return b""

    async with serving(tmp_path, Trailing=unary(trailing)) as (_, channel):
        call = channel.unary_unary(path("Trailing"))(b"")
        assert await call.code() is (grpc.StatusCode.ABORTED if fails else grpc.StatusCode.OK)
        got = await call.trailing_metadata()
        assert (got["key"], got["key-bin"]) == ("value", b"\x00\xff")


# Failures.


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "details", ["", "plain", "line\nline\ttab", "100 % größer – ☃ 🚀", "%41", "x" * 20_000], ids=lambda d: ascii(d[:8])
)
async def test_a_client_gets_the_details_of_a_failure_as_they_are(tmp_path: Path, details: str, begun: bool) -> None:
    async def fail(request: bytes, context: Any) -> None:
        if begun:
            await context.write(b"first")
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, details)

    # Its own limit is 8 KiB.
    more = (("grpc.max_metadata_size", 64 * KIB), ("grpc.absolute_max_metadata_size", 64 * KIB))
    client = connected(f"unix:{socket_of(tmp_path)}", *more)
    async with serving(tmp_path, Fail=answers(fail)), client as channel:
        call = channel.unary_stream(path("Fail"))(b"")
        if begun:
            assert await call.read() == b"first"
        error = await failure(call.read())
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, details)


async def test_a_status_with_details_of_google_rpc_comes_as_it_is(tmp_path: Path) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="BECAUSE", metadata={"größe": "\n" * 300}))
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="schön", details=[detail])

    async def fail(request: bytes, context: Any) -> None:
        await context.abort_with_status(rpc_status.to_status(status))

    async with serving(tmp_path, Fail=unary(fail)) as (_, channel):
        error: Any = await failure(channel.unary_unary(path("Fail"))(b""))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        sent = error.trailing_metadata()["grpc-status-details-bin"]
        assert status_pb2.Status.FromString(sent) == status


async def test_bytes_that_are_no_message_are_an_invalid_argument(tmp_path: Path) -> None:
    async def talk(_: Any, context: Any) -> None:
        await context.read()

    request_type = {"request_deserializer": health_pb2.HealthCheckRequest.FromString}
    methods: dict[str, Any] = {"One": unary(echo, **request_type), "Many": both_ways(talk, **request_type)}
    with capture_logs() as logs:
        async with serving(tmp_path, **methods) as (_, channel):
            one = await failure(channel.unary_unary(path("One"))(b"\xff\xff"))
            call = channel.stream_stream(path("Many"))()
            await call.write(b"\xff\xff")
            many = await failure(call.read())
    assert (one.code(), many.code()) == (grpc.StatusCode.INVALID_ARGUMENT,) * 2
    assert not [entry for entry in logs if entry["log_level"] == "error"]


@pytest.mark.parametrize("shape", [unary, answers])
async def test_why_a_handler_breaks_is_for_the_log_and_not_for_the_client(tmp_path: Path, shape: Any) -> None:
    async def broken(request: bytes, context: Any) -> None:
        raise RuntimeError("a secret")

    with capture_logs() as logs:
        async with serving(tmp_path, Broken=shape(broken)) as (_, channel):
            call = channel.unary_unary(path("Broken"))
            error = await failure(call(b""))
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert "a secret" not in f"{error.details()}{error.trailing_metadata()}"
    [entry] = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["path"], entry["exc_info"]) == (path("Broken"), True)


async def test_a_serializer_that_breaks_ends_its_call_only(tmp_path: Path) -> None:
    def broken(answer: Any) -> bytes:
        raise TypeError("a secret")

    with capture_logs():
        async with serving(tmp_path, Bad=unary(echo, response_serializer=broken), Echo=unary(echo)) as (_, channel):
            error = await failure(channel.unary_unary(path("Bad"))(b""))
            assert await channel.unary_unary(path("Echo"))(b"next") == b"next"
    assert error.code() is grpc.StatusCode.UNKNOWN


# Ends.


async def test_a_call_that_its_client_cancels_is_cancelled(tmp_path: Path) -> None:
    stuck = Stuck()
    async with serving(tmp_path, Stuck=unary(stuck)) as (_, channel):
        call = channel.unary_unary(path("Stuck"))(b"")
        await wait(stuck.begun)
        assert stuck.context.time_remaining() is None
        call.cancel()
        await wait(stuck.cancelled)


async def test_a_generator_whose_client_goes_away_is_closed(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(KIB)
        finally:
            closed.set()

    gc.disable()  # It must not need a search for garbage.
    try:
        async with serving(tmp_path, Endless=answers(endless)) as (_, channel):
            call = channel.unary_stream(path("Endless"))(b"")
            assert await call.read() == bytes(KIB)
            call.cancel()
            await wait(closed)
    finally:
        gc.enable()


async def test_a_reader_whose_client_goes_away_is_cancelled(tmp_path: Path) -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def talk(_: Any, context: Any) -> None:
        try:
            while await context.read() is not grpc.aio.EOF:
                await context.write(b"")
            ended.set_result("its client has ended")
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise

    async with serving(tmp_path, Talk=both_ways(talk)) as (_, channel):
        call = channel.stream_stream(path("Talk"))()
        await call.write(b"")
        assert await call.read() == b""
        call.cancel()
        async with asyncio.timeout(10):
            assert await ended == "cancelled"


async def test_a_call_whose_connection_is_lost_is_cancelled(tmp_path: Path) -> None:
    stuck = Stuck()
    async with serving(tmp_path, Stuck=unary(stuck)) as (server, channel):
        call = channel.unary_unary(path("Stuck"))(b"")
        await wait(stuck.begun)
        [connection] = server.connections
        connection.abort()
        await wait(stuck.cancelled)
        assert connection not in server.connections
        assert (await failure(call)).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_call_ends_at_its_deadline(tmp_path: Path) -> None:
    stuck = Stuck()
    async with serving(tmp_path, Stuck=unary(stuck)) as (_, channel):
        call = channel.unary_unary(path("Stuck"))
        error = await failure(call(b"", timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await wait(stuck.cancelled)
        assert stuck.context.time_remaining() == 0


async def test_a_handler_is_told_what_is_left_of_its_time(tmp_path: Path) -> None:
    async def left(request: bytes, context: Any) -> bytes:
        return b"%f" % context.time_remaining()

    async with serving(tmp_path, Left=unary(left)) as (_, channel):
        call = channel.unary_unary(path("Left"))
        # Clients round it, up.
        assert 30 < float(await call(b"", timeout=60)) < 61
