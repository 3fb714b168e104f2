"""Lets watchers have their turns: one after another, in rounds, with turns of the event loop for others in between.

Hundreds of watchers that write in one turn of the loop keep everything else waiting for as long as all their writes
take. Worse, each write's end is an event that gRPC's thread announces to the loop by one byte in a socket pair, and of
these bytes the loop reads one a turn. The socket has room for 278 of them; where it is full, events, those of updates
and of leases too, come through one a turn, and each waits for 278 turns. With several writes in a turn, that was half a
second (500 watchers: 31 updates and 16,000 events a second); so there is less than one in a turn.

Whoever has had a turn comes after all who wait for theirs, and then takes what has gathered in the meantime: load makes
batches larger and not latency longer. No timer is involved, and who is alone is woken in the next turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

# Turns of the loop for each who is woken, so that there is room for the events of others too. A turn without anything
# to do takes microseconds, a write 30 to 60; at two turns, 500 watchers got 160,000 events a second.
_TURNS_EACH: Final = 3


class Sleeper:
    """One who waits for something to happen, and then for its turn."""

    __slots__ = ("_woken", "queued")

    def __init__(self) -> None:
        self._woken: asyncio.Future[None] | None = None
        # It has a place in the waker's queue.
        self.queued = False

    async def sleep(self) -> None:
        """Until it is woken."""
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class Waker:
    def __init__(self) -> None:
        self._queue: deque[Sleeper] = deque()
        # Turns of the loop that are left to others.
        self._rest = 0
        self._scheduled = False

    def queue(self, sleepers: Iterable[Sleeper]) -> None:
        """Wakes them when it is their turn, after those who are queued already; who is queued keeps its place."""
        for sleeper in sleepers:
            if not sleeper.queued:
                sleeper.queued = True
                self._queue.append(sleeper)
        self._schedule()

    def _schedule(self) -> None:
        if (self._queue or self._rest) and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._rest:
            self._rest -= 1
        else:
            sleeper = self._queue.popleft()
            sleeper.queued = False
            sleeper.wake()
            self._rest = _TURNS_EACH - 1
        self._schedule()
