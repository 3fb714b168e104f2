"""What tools are told of a server's connections."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from controlplane.http2 import Server
from controlplane.http2.channelz import Channelz
from tests.unit.controlplane.http2.serving import (
    HOST,
    Stuck,
    answers,
    certificates,
    client_tls,
    connected,
    connected_tls,
    echo,
    failure,
    path,
    serving,
    serving_tls,
    socket_of,
    unary,
    until,
    wait,
)

NOT_FOUND = grpc.StatusCode.NOT_FOUND


@asynccontextmanager
async def asked(folder: Path, **methods: Any) -> AsyncIterator[tuple[Server, Any, Any]]:
    """A server, a client of it, and who asks about both, by a connection of its own."""
    async with serving(folder, **methods) as (server, channel), connected(f"unix:{socket_of(folder)}") as tool:
        channelz_pb2_grpc.add_ChannelzServicer_to_server(Channelz(server), server)
        yield server, channel, channelz_pb2_grpc.ChannelzStub(tool)


async def sockets(stub: Any, start: int = 0, most: int = 0) -> tuple[list[int], bool]:
    """A page, and whether it is the last."""
    [shown] = (await stub.GetServers(channelz_pb2.GetServersRequest())).server
    request = channelz_pb2.GetServerSocketsRequest(
        server_id=shown.ref.server_id, start_socket_id=start, max_results=most
    )
    page = await stub.GetServerSockets(request)
    return [ref.socket_id for ref in page.socket_ref], page.end


async def socket(stub: Any, number: int) -> Any:
    return (await stub.GetSocket(channelz_pb2.GetSocketRequest(socket_id=number))).socket


async def test_there_is_one_server(tmp_path: Path) -> None:
    async with asked(tmp_path, Echo=unary(echo)) as (_, channel, stub):
        for _ in range(3):
            assert await channel.unary_unary(path("Echo"))(b"") == b""
        answer = await stub.GetServers(channelz_pb2.GetServersRequest())
        [listed] = answer.server
        assert answer.end
        # That question was the fourth.
        assert listed.data.calls_started == 4
        request = channelz_pb2.GetServerRequest(server_id=listed.ref.server_id)
        shown = (await stub.GetServer(request)).server
        assert shown.ref == listed.ref
        assert shown.data.calls_started == 5


async def test_a_servers_connections_are_listed_in_pages(tmp_path: Path) -> None:
    async with asked(tmp_path) as (server, _, stub):
        ((_, writer), *others) = [await asyncio.open_unix_connection(socket_of(tmp_path)) for _ in range(4)]
        await until(lambda: len(server.connections) == 4)
        everything, end = await sockets(stub)
        assert end
        assert everything == sorted(set(everything))
        assert len(everything) == 5
        assert await sockets(stub, most=2) == (everything[:2], False)
        assert await sockets(stub, start=everything[1] + 1, most=2) == (everything[2:4], False)
        assert await sockets(stub, start=everything[3] + 1, most=2) == (everything[4:], True)
        assert await sockets(stub, most=5) == (everything, True)
        assert await sockets(stub, start=everything[4] + 1) == ([], True)
        writer.close()
        await until(lambda: len(server.connections) == 4)
        assert len((await sockets(stub))[0]) == 4
        for _, other in others:
            other.close()


async def test_a_connection_is_shown_with_its_counts(tmp_path: Path) -> None:
    stuck = Stuck()

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            yield b""

    methods: dict[str, Any] = {"Echo": unary(echo), "Count": answers(count), "Stuck": unary(stuck)}
    async with asked(tmp_path, **methods) as (_, channel, stub):
        for _ in range(2):
            assert await channel.unary_unary(path("Echo"))(b"") == b""
        assert len([message async for message in channel.unary_stream(path("Count"))(b"5")]) == 5
        cancelled = channel.unary_unary(path("Stuck"))(b"")
        await wait(stuck.begun)
        cancelled.cancel()
        await wait(stuck.cancelled)
        stuck.begun.clear()
        running = channel.unary_unary(path("Stuck"))(b"")
        await wait(stuck.begun)
        # Who asks has begun other calls than these.
        every = [(await socket(stub, number)).data for number in (await sockets(stub))[0]]
        [data] = [data for data in every if data.messages_sent == 7]
        assert (data.streams_started, data.streams_succeeded, data.streams_failed) == (5, 3, 1)
        assert (data.messages_sent, data.messages_received) == (7, 5)
        running.cancel()


async def test_a_connection_is_shown_with_its_clients_address(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as (server, port):
        channelz_pb2_grpc.add_ChannelzServicer_to_server(Channelz(server), server)
        _, writer = await asyncio.open_connection(HOST, port, ssl=client_tls(tmp_path))
        own_port = writer.get_extra_info("sockname")[1]
        async with connected_tls(port, tmp_path, certificates(tmp_path, "tool")) as tool:
            stub: Any = channelz_pb2_grpc.ChannelzStub(tool)
            await until(lambda: len(server.connections) == 1)
            numbers, _ = await sockets(stub)
            shown = [(await socket(stub, number)).remote.tcpip_address for number in numbers]
        assert own_port in {address.port for address in shown}
        assert {address.ip_address for address in shown} == {ipaddress.ip_address(HOST).packed}
        assert len(shown) == 2
        writer.close()


async def test_a_client_on_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, _, stub):
        [number], _ = await sockets(stub)
        assert not (await socket(stub, number)).HasField("remote")


@pytest.mark.parametrize("number", [0, 1 << 39, 1 << 40, (1 << 40) + 99, (1 << 63) - 1, -1])
async def test_a_number_that_nothing_has_is_not_found(tmp_path: Path, number: int) -> None:
    async with asked(tmp_path) as (_, _, stub):
        [shown] = (await stub.GetServers(channelz_pb2.GetServersRequest())).server
        assert (await failure(stub.GetSocket(channelz_pb2.GetSocketRequest(socket_id=number)))).code() is NOT_FOUND
        if number != shown.ref.server_id:
            for call in (
                stub.GetServer(channelz_pb2.GetServerRequest(server_id=number)),
                stub.GetServerSockets(channelz_pb2.GetServerSocketsRequest(server_id=number)),
            ):
                assert (await failure(call)).code() is NOT_FOUND


async def test_this_processs_own_clients_are_shown_too(tmp_path: Path) -> None:
    async with asked(tmp_path, Echo=unary(echo)) as (_, channel, stub):
        assert await channel.unary_unary(path("Echo"))(b"") == b""
        found = (await stub.GetTopChannels(channelz_pb2.GetTopChannelsRequest())).channel
        assert any(str(socket_of(tmp_path)) in shown.data.target for shown in found)
