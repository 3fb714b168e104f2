"""Where connections come in, who may, and how it all ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from controlplane.http2 import Identity, Options, Server, frames
from controlplane.shared_address import AddressTakenError
from podwire.client import Tls
from tests.unit.controlplane.http2.serving import (
    HOST,
    KIB,
    MIB,
    ORGANIZATION,
    Stuck,
    add,
    answers,
    certificates,
    client_tls,
    connected,
    connected_tls,
    echo,
    failure,
    path,
    port_of,
    serving,
    serving_tls,
    socket_of,
    tls_of,
    unary,
    until,
    wait,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
CONNECTION_SECONDS = 10


class Held:
    """A handler that answers when it is let."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.let = asyncio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.begun.set()
        await self.let.wait()
        return request


async def whoami(request: bytes, context: Any) -> bytes:
    return repr(context.connection.identity).encode()


async def first_frame(reader: asyncio.StreamReader) -> int:
    """The type of the first frame that a server sends."""
    async with asyncio.timeout(CONNECTION_SECONDS):
        return (await reader.readexactly(9))[3]


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends."""
    got = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(CONNECTION_SECONDS):
            while more := await reader.read(64 * KIB):
                got += more
    return got


# Stopping.


async def test_a_call_that_runs_is_finished_while_new_ones_are_refused(tmp_path: Path) -> None:
    held = Held()
    async with serving(tmp_path, Held=unary(held), Echo=unary(echo)) as (server, channel):
        running = channel.unary_unary(path("Held"))(b"answer")
        await wait(held.begun)
        async with asyncio.TaskGroup() as owner, connected(f"unix:{socket_of(tmp_path)}") as other:
            stopping = owner.create_task(server.stop(60))
            await asyncio.sleep(0)
            for each in (channel, other):
                assert (await failure(each.unary_unary(path("Echo"))(b""))).code() is UNAVAILABLE
            assert not stopping.done()
            held.let.set()
            assert await running == b"answer"
            async with asyncio.timeout(10):
                await stopping
        assert not server.connections


async def test_a_call_without_an_end_is_ended_when_the_time_is_over(tmp_path: Path) -> None:
    stuck = Stuck()

    async def endless(request: bytes, context: Any) -> None:
        await context.write(b"first")
        await stuck(request, context)

    async with serving(tmp_path, Endless=answers(endless)) as (server, channel):
        call = channel.unary_stream(path("Endless"))(b"")
        assert await call.read() == b"first"
        async with asyncio.timeout(10):
            await server.stop(0.01)
        error = await failure(call.read())
        assert (error.code(), error.details()) == (UNAVAILABLE, "the server stops")
        assert stuck.cancelled.is_set()
        assert not server.connections


async def test_a_call_whose_client_does_not_read_is_unavailable_when_the_server_stops(tmp_path: Path) -> None:
    waits = asyncio.Event()

    async def much(request: bytes, context: Any) -> None:
        context.send(bytes(MIB))
        waits.set()
        await context.drained()

    async with serving(tmp_path, Much=answers(much)) as (server, channel):
        call = channel.unary_stream(path("Much"))(b"")
        await wait(waits)
        async with asyncio.timeout(10):
            await server.stop(0)
        assert not server.connections
        # Clients go elsewhere with what is unavailable; a call that is cancelled they take for their own doing.
        assert (await failure(call.read())).code() is UNAVAILABLE


async def test_a_handler_that_does_not_end_holds_up_nobody(tmp_path: Path) -> None:
    begun, let = asyncio.Event(), asyncio.Event()

    async def stubborn(request: bytes, context: Any) -> bytes:
        begun.set()
        while not let.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let.wait()
        return b""

    async with serving(tmp_path, Stubborn=unary(stubborn)) as (server, channel):
        call = channel.unary_unary(path("Stubborn"))(b"")
        await wait(begun)
        async with asyncio.timeout(10):
            await server.stop(0)
        assert (await failure(call)).code() is UNAVAILABLE
        let.set()


async def test_a_server_that_has_no_calls_stops_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, Echo=unary(echo)) as (server, channel):
        assert await channel.unary_unary(path("Echo"))(b"") == b""
        async with asyncio.timeout(10):
            await server.stop(60)
        assert not server.connections


async def test_a_server_may_stop_before_it_starts(tmp_path: Path) -> None:
    server = Server()
    server.listen_unix(socket_of(tmp_path))
    await server.stop(60)
    assert not socket_of(tmp_path).exists()


async def test_who_is_still_shaking_hands_when_the_server_stops_is_not_served(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as (server, port):
        slow = socket.create_connection((HOST, port))
        # Connections are accepted in turn: once the second is there, so is the first.
        quick, writer = await asyncio.open_connection(HOST, port, ssl=client_tls(tmp_path))
        assert await first_frame(quick) == frames.SETTINGS
        await server.stop(0)
        slow.setblocking(False)
        try:
            reader, late = await asyncio.open_connection(sock=slow, ssl=client_tls(tmp_path), server_hostname=HOST)
        except OSError:
            pass  # It was told so even earlier.
        else:
            async with asyncio.timeout(CONNECTION_SECONDS):
                assert await reader.read(1) == b""
            late.close()
        assert not server.connections
        writer.close()


# Unix sockets.


async def test_a_socket_is_gone_when_its_server_has_stopped(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        assert stat.S_ISSOCK(socket_of(tmp_path).stat().st_mode)
        await server.stop(0)
        assert not socket_of(tmp_path).exists()


async def test_a_socket_that_a_successor_has_put_there_stays(tmp_path: Path) -> None:
    successor = Server()
    add(successor, Echo=unary(echo))
    async with serving(tmp_path) as (server, _):
        successor.listen_unix(socket_of(tmp_path))
        await server.stop(0)
        await successor.start()
        async with connected(f"unix:{socket_of(tmp_path)}") as channel:
            assert await channel.unary_unary(path("Echo"))(b"next") == b"next"
    await successor.stop(0)
    assert not socket_of(tmp_path).exists()


async def test_a_socket_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    killed = Server()
    killed.listen_unix(socket_of(tmp_path))
    for bound, _ in killed._listeners:
        bound.close()
    assert socket_of(tmp_path).exists()
    async with serving(tmp_path, Echo=unary(echo)) as (_, channel):
        assert await channel.unary_unary(path("Echo"))(b"") == b""


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    socket_of(tmp_path).write_text("precious")
    server = Server()
    with pytest.raises(AddressTakenError, match=str(socket_of(tmp_path))):
        server.listen_unix(socket_of(tmp_path))
    await server.stop(0)
    assert socket_of(tmp_path).read_text() == "precious"


async def test_a_socket_in_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    server = Server()
    with pytest.raises(AddressTakenError, match="No such file"):
        server.listen_unix(tmp_path / "none" / "s")
    await server.stop(0)


async def test_clients_that_come_before_the_start_are_served_after_it(tmp_path: Path) -> None:
    server = Server()
    add(server, Echo=unary(echo))
    server.listen_unix(socket_of(tmp_path))
    reader, writer = await asyncio.open_unix_connection(socket_of(tmp_path))
    async with connected(f"unix:{socket_of(tmp_path)}") as channel:
        call = channel.unary_unary(path("Echo"))(b"early")
        await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        assert not server.connections
        await server.start()
        assert await call == b"early"
        assert await first_frame(reader) == frames.SETTINGS
    writer.close()
    await server.stop(0)


async def test_who_comes_by_a_unix_socket_is_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path, Whoami=unary(whoami)) as (_, channel):
        assert await channel.unary_unary(path("Whoami"))(b"") == b"None"


# TCP and TLS.


async def test_an_address_is_served_by_one_server_only(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as (_, port):
        second = Server()
        for shared in (False, True):
            with pytest.raises(AddressTakenError, match=str(port)):
                second.listen(f"{HOST}:{port}", tls_of(tmp_path), shared=shared)
        await second.stop(0)


async def test_an_address_may_be_shared_by_those_who_all_do(tmp_path: Path) -> None:
    tls, first, second = tls_of(tmp_path), Server(), Server()
    first.listen(f"{HOST}:0", tls, shared=True)
    port = port_of(first)
    second.listen(f"{HOST}:{port}", tls, shared=True)
    add(second, Echo=unary(echo))
    for server in (first, second):
        await server.start()
    await first.stop(0)
    async with connected_tls(port, tmp_path, certificates(tmp_path, "alice")) as channel:
        assert await channel.unary_unary(path("Echo"))(b"") == b""
    await second.stop(0)


async def test_a_client_is_whom_its_certificate_names(tmp_path: Path) -> None:
    async with serving_tls(tmp_path, Whoami=unary(whoami)) as (_, port):
        for name in ("alice", "bob"):
            async with connected_tls(port, tmp_path, certificates(tmp_path, name)) as channel:
                identity = Identity(name, frozenset({ORGANIZATION}))
                assert await channel.unary_unary(path("Whoami"))(b"") == repr(identity).encode()


@pytest.mark.parametrize("shown", ["none", "of another authority"])
async def test_a_client_needs_a_certificate_of_the_servers_authority(tmp_path: Path, shown: str) -> None:
    theirs: Tls | None = certificates(tmp_path / "theirs", "alice") if shown != "none" else None
    async with serving_tls(tmp_path / "ours", Echo=unary(echo)) as (server, port):
        async with connected_tls(port, tmp_path / "ours", theirs) as channel:
            assert (await failure(channel.unary_unary(path("Echo"))(b""))).code() is UNAVAILABLE
            assert not server.connections
        async with connected_tls(port, tmp_path / "ours", certificates(tmp_path / "ours", "alice")) as channel:
            assert await channel.unary_unary(path("Echo"))(b"") == b""


async def test_a_client_that_does_not_speak_http2_is_sent_away(tmp_path: Path) -> None:
    async with serving_tls(tmp_path) as (server, port):
        reader, writer = await asyncio.open_connection(HOST, port, ssl=client_tls(tmp_path, alpn=False))
        assert await ended(reader) == b""
        writer.close()
        await until(lambda: not server.connections)
        reader, writer = await asyncio.open_connection(HOST, port, ssl=client_tls(tmp_path))
        assert await first_frame(reader) == frames.SETTINGS
        writer.close()


async def test_large_messages_go_through_tls(tmp_path: Path) -> None:
    message = bytes(range(256)) * 4 * KIB * 5
    alice = certificates(tmp_path, "alice")
    async with serving_tls(tmp_path, Echo=unary(echo)) as (_, port), connected_tls(port, tmp_path, alice) as channel:
        assert await channel.unary_unary(path("Echo"))(message) == message


# Limits of a connection.


async def test_calls_beyond_the_most_of_a_connection_wait_for_the_others(tmp_path: Path) -> None:
    running, most = 0, 0

    async def counted(request: bytes, context: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return request

    async with serving(tmp_path, Options(most_streams=3), Counted=unary(counted)) as (_, channel):
        assert await channel.unary_unary(path("Counted"))(b"") == b""
        calls = [channel.unary_unary(path("Counted"))(b"%d" % number) for number in range(30)]
        assert [await call for call in calls] == [b"%d" % number for number in range(30)]
    assert 1 <= most <= 3


@pytest.mark.parametrize(("ping_after", "pong_within"), [(0.2, 0.15), (0.05, 0.3)])
async def test_a_client_that_is_silent_and_alive_keeps_its_connection(
    tmp_path: Path, ping_after: float, pong_within: float
) -> None:
    """It answers pings: its streams may say nothing for as long as they like."""
    let = asyncio.Event()

    async def quiet(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await let.wait()
        yield b"at last"

    options = Options(ping_after=ping_after, pong_within=pong_within)
    async with serving(tmp_path, options, Quiet=answers(quiet)) as (server, channel):
        call = channel.unary_stream(path("Quiet"))(b"")
        await until(lambda: bool(server.connections))
        await until(lambda: not server.connections or next(iter(server.connections)).pings_sent > 1)
        let.set()
        assert await call.read() == b"at last"


async def test_a_client_that_does_not_answer_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, Options(ping_after=0.02, pong_within=0.02)) as (server, _):
        reader, writer = await asyncio.open_unix_connection(socket_of(tmp_path))
        assert await first_frame(reader) == frames.SETTINGS
        await ended(reader)
        writer.close()
        assert not server.connections
