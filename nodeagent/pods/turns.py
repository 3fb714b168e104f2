"""Turns at what costs the machine most: starting sandboxes and containers.

Started all at once, fifty pods fight for the same few cores and locks, and all of them become ready at the end. When
they take turns, containers before sandboxes, the first are ready after the time of one and the last no later.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum


class Urgency(IntEnum):
    """The lower goes first: what completes a pod before what begins one."""

    CONTAINER = 0
    SANDBOX = 1


class Turns:
    """At most `capacity` at a time; who waits is served by urgency, then in the order of coming."""

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._order = itertools.count()
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(self, urgency: Urgency) -> AsyncIterator[None]:
        await self._acquire(urgency)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, urgency: Urgency) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It had just been given to us.
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
