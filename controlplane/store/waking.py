"""Lets watchers have their turns: a few in each turn of the event loop, one round after another.

Hundreds of watchers that write in one turn of the loop keep everything else waiting for as long as all their writes
take, and the changes that they wait for are part of everything else: an update needs about ten turns of the loop until
it is answered. So other work goes on between the turns of a few, and gets half of the time when there is much of it.
Whoever has had a turn comes after all who wait for theirs, and then takes what has gathered in the meantime: load makes
batches larger and not latency longer.

Nobody waits where nobody else does: no timer is involved, and the first in the queue is woken in the next turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

# Woken in one turn of the loop at least and at most. A message costs 30 to 60 us; with 500 watchers as fast as it goes
# 32 in every turn left time for 31 updates a second, and messages of 1.3 events.
_FEWEST: Final = 4
_MOST: Final = 32
# One more for so much time that the last turn took: twice what a message costs, so that others get the other half.
_SECONDS_EACH: Final = 0.0001


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
    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._queue: deque[Sleeper] = deque()
        self._clock = clock
        self._scheduled = False
        self._turn_began = 0.0

    def queue(self, sleepers: Iterable[Sleeper]) -> None:
        """Wakes them when it is their turn, after those who are queued already; who is queued keeps its place."""
        for sleeper in sleepers:
            if not sleeper.queued:
                sleeper.queued = True
                self._queue.append(sleeper)
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._turn_began = self._clock()
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        now = self._clock()
        paid = int((now - self._turn_began) / _SECONDS_EACH)
        self._turn_began = now
        for _ in range(min(max(paid, _FEWEST), _MOST, len(self._queue))):
            sleeper = self._queue.popleft()
            sleeper.queued = False
            sleeper.wake()
        self._scheduled = bool(self._queue)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._wake_some)
