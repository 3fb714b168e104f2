"""The API's gRPC server takes what clients have sent together in one turn of the loop, and stops cleanly."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from controlplane import grpc_server

CLIENTS = 32
# For what takes milliseconds.
PATIENCE = 10.0


class Echo(grpc.GenericRpcHandler):
    """Answers with what it is sent, and counts the calls that are taken in each turn of the running loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.taken: Counter[int] = Counter()
        self._handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(self._echo)

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        self.taken[self.turn] += 1
        return self._handler

    async def _echo(self, data: bytes, context: Any) -> bytes:
        return data


@asynccontextmanager
async def serving(server: grpc.aio.Server, handler: Echo, folder: Path) -> AsyncIterator[str]:
    server.add_generic_rpc_handlers((handler,))
    address = f"unix:{folder}/socket"
    server.add_insecure_port(address)
    await server.start()
    try:
        yield address
    finally:
        await asyncio.wait_for(server.stop(None), PATIENCE)


def call_of(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary("/test.Test/Echo", lambda data: data, lambda data: data)


def tasks_of(server: grpc.aio.Server) -> list[asyncio.Task[None]]:
    """Those that ask gRPC for calls."""
    tasks: list[asyncio.Task[None]] = server._server._asking  # type: ignore[attr-defined]
    return tasks


def asking(server: grpc.aio.Server) -> list[asyncio.Task[None]]:
    """Those that have not ended."""
    return [task for task in tasks_of(server) if not task.done()]


async def most_in_a_turn(server: grpc.aio.Server, folder: Path, rounds: int) -> int:
    """Of calls that are sent together, how many are taken in the same turn at most; no more rounds once it is two."""
    handler = Echo()
    counting = asyncio.create_task(handler.count_turns())
    try:
        async with serving(server, handler, folder) as address, grpc.aio.insecure_channel(address) as channel:
            echo = call_of(channel)
            for _ in range(rounds):
                sent = [b"%d" % number for number in range(CLIENTS)]
                assert await asyncio.gather(*(echo(data, timeout=PATIENCE) for data in sent)) == sent
                if max(handler.taken.values()) > 1:
                    break
    finally:
        counting.cancel()
    return max(handler.taken.values())


async def test_calls_that_come_together_are_taken_together(tmp_path: Path) -> None:
    assert await most_in_a_turn(grpc_server.server(), tmp_path, rounds=200) > 1


async def test_grpcs_own_server_takes_one_in_a_turn(tmp_path: Path) -> None:
    """Should this fail, another release of gRPC does by itself what ours is for."""
    assert await most_in_a_turn(grpc.aio.server(), tmp_path, rounds=20) == 1


async def test_it_asks_for_as_many_again_once_calls_are_served(tmp_path: Path) -> None:
    server = grpc_server.server()
    async with serving(server, Echo(), tmp_path) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            echo = call_of(channel)
            await asyncio.gather(*(echo(b"", timeout=PATIENCE) for _ in range(3 * grpc_server.ASKED_FOR)))
        assert len(asking(server)) == grpc_server.ASKED_FOR
    assert not asking(server)


async def test_a_stop_under_load_leaves_no_call_without_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answered = 0
    busy = asyncio.Event()
    ends: Counter[grpc.StatusCode] = Counter()

    async def ask(channel: grpc.aio.Channel) -> None:
        nonlocal answered
        echo = call_of(channel)
        while True:
            try:
                await echo(b"x", timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                ends[error.code()] += 1
                return
            answered += 1
            if answered % (10 * CLIENTS) == 0:
                busy.set()

    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        busy.clear()
        server = grpc_server.server()
        async with asyncio.TaskGroup() as owner:
            async with serving(server, Echo(), folder) as address:
                # The channels are closed when everybody has heard of the end.
                channels = [grpc.aio.insecure_channel(address) for _ in range(4)]
                asked = [owner.create_task(ask(channel)) for channel in channels for _ in range(CLIENTS)]
                await asyncio.wait_for(busy.wait(), PATIENCE)
            await asyncio.wait_for(asyncio.gather(*asked), PATIENCE)
            for channel in channels:
                await channel.close()
        assert [task.exception() for task in tasks_of(server)] == [None] * grpc_server.ASKED_FOR
    # What gRPC says of a server that has gone, and nothing of its inside or of a call that hung.
    assert ends.keys() <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert not [record for record in caplog.records if record.name.startswith("grpc")]


async def test_calls_that_were_given_and_not_taken_when_it_stops_end_at_once(tmp_path: Path) -> None:
    server = grpc_server.server()
    stops: list[asyncio.Task[None]] = []

    class Given(deque[Any]):
        """Stops the server, with an hour for what is under way, while there are calls that it has not taken."""

        def append(self, call: Any) -> None:
            super().append(call)
            if len(self) == 2 and not stops:
                stops.append(asyncio.create_task(server.stop(3600.0)))

    server._server._given = Given()  # type: ignore[attr-defined]
    async with serving(server, Echo(), tmp_path) as address, grpc.aio.insecure_channel(address) as channel:
        echo = call_of(channel)
        async with asyncio.timeout(PATIENCE):
            while not stops:
                ends = await asyncio.gather(
                    *(echo(b"", timeout=3600.0) for _ in range(CLIENTS)), return_exceptions=True
                )
            await stops[0]
    refused = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert len(refused) + ends.count(b"") == CLIENTS
