"""gRPC's aio server, which here asks for many calls at a time.

By itself it asks gRPC for one call, and for the next one when the event loop has come round to that: a call every other
turn of the loop, with the cost of those turns, and of waking gRPC's thread, for each. With many asked for, whatever
clients have sent is taken in one turn: a bare echo serves half as many calls again, or twice as many
(docs/decisions/0018).

gRPC's own loop still takes the calls, one after another, from what was asked for here. Should another release of gRPC
not ask through the method that is replaced, its server does as it does by itself, and a test says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, cast

import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

# How many calls are asked for at a time: as many as clients send in a turn of the loop, most of the time.
ASKED_FOR: Final = 32


def server(options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Server:
    """As `grpc.aio.server(options=options)`; to be called in the loop that it serves in."""
    return cast(grpc.aio.Server, _Server(options))


class _Server(_server.Server):
    def __init__(self, options: Sequence[tuple[str, Any]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = _Asking(self._loop, options)


class _Asking(cygrpc.AioServer):  # type: ignore[misc]  # It has no types.
    def __init__(self, loop: asyncio.AbstractEventLoop, options: Sequence[tuple[str, Any]]) -> None:
        super().__init__(loop, None, (), None, tuple(options), None)
        self._serving_loop = loop
        # Calls that gRPC has given and its own loop has not taken yet: for a turn of the event loop.
        self._given: deque[Any] = deque()
        self._came = loop.create_future()
        self._ended: Exception | None = None
        # They end when gRPC gives no calls any more, and not before: it writes what it gives into what they hold.
        self._asking: list[asyncio.Task[None]] = []

    async def _request_call(self) -> Any:
        """The next call. Raises what gRPC says instead of one when the server shuts down."""
        if not self._asking:
            tasks = (self._serving_loop.create_task(self._ask(), name=f"calls {n}") for n in range(ASKED_FOR))
            self._asking.extend(tasks)
        while not self._given:
            if self._ended is not None:
                raise self._ended
            self._came = self._serving_loop.create_future()
            await self._came
        return self._given.popleft()

    async def _ask(self) -> None:
        ask = super()._request_call
        while self._ended is None:
            try:
                self._given.append(await ask())
            except Exception as ended:
                self._ended = ended
                # gRPC's loop takes no more: their clients are told that the server is gone, as are those whose calls
                # gRPC has not given yet.
                self._given.clear()
            if not self._came.done():
                self._came.set_result(None)
