"""A queue of keys to reconcile: each at most once in it, and never worked on twice at once.

A key that is added while it is worked on comes up again when that is done: nothing that happened meanwhile is missed,
and two workers never meet at one object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from podwire.backoff import Backoff

K = TypeVar("K", bound=Hashable)

# The first retry soon, because most failures are conflicts that a new read settles; the cap so that one broken object
# costs little. Kubernetes' controllers have 5 ms and 1000 s.
RETRY_FIRST: Final = 0.05
RETRY_CAP: Final = 60.0


class ShutDown(Exception):
    """The queue was shut down, and nothing is left in it: the worker ends."""


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """What the queue needs of an event loop; tests give it a clock of their own."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> TimerHandle: ...


class WorkQueue(Generic[K]):
    """Workers loop: `key = await queue.get()`, reconcile, `forget` or `retry`, and in any case `done`.

    A program that just ends cancels its workers; one that finishes first what is queued calls `shut_down` and waits for
    them.
    """

    def __init__(
        self, *, retry_first: float = RETRY_FIRST, retry_cap: float = RETRY_CAP, clock: Clock | None = None
    ) -> None:
        """Seconds throughout; without a `clock`, the running loop's."""
        self._retry_first = retry_first
        self._retry_cap = retry_cap
        self._clock: Clock = clock or asyncio.get_running_loop()
        # None, once the queue was shut down, is for every worker to see, and is put back behind what else there is.
        self._ready: asyncio.Queue[K | None] = asyncio.Queue()
        self._shut_down = False
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._timers: dict[K, tuple[float, TimerHandle]] = {}
        self._backoffs: dict[K, Backoff] = {}

    def __len__(self) -> int:
        """Keys that wait for a worker now; not those whose time has not come."""
        return self._ready.qsize() - self._shut_down

    def add(self, key: K) -> None:
        """Queues `key` now, unless it is queued, or the queue was shut down."""
        if key in self._waiting or self._shut_down:
            return
        self._waiting.add(key)
        if key not in self._working:
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Queues `key` in `seconds`; of several times the earliest counts."""
        if self._shut_down:
            return
        when = self._clock.time() + seconds
        earlier = self._timers.get(key)
        if earlier is not None:
            if earlier[0] <= when:
                return
            earlier[1].cancel()
        self._timers[key] = (when, self._clock.call_at(when, self._come_due, key))

    def retry(self, key: K) -> None:
        """Queues `key` after a delay that doubles with each retry since the last `forget`."""
        backoff = self._backoffs.setdefault(key, Backoff(self._retry_first, self._retry_cap))
        self.add_after(key, backoff.next())

    def retries(self, key: K) -> int:
        """How often `retry` was called for `key` since the last `forget`: some give up after a few."""
        backoff = self._backoffs.get(key)
        return backoff.failures if backoff else 0

    def forget(self, key: K) -> None:
        """`key` went well: its next retry is the first again."""
        self._backoffs.pop(key, None)

    async def get(self) -> K:
        """The next key, which is this caller's until `done`. Raises ShutDown where there will be none."""
        while (key := await self._ready.get()) is None:
            # Behind it may be a key that was added before the end, while it was worked on.
            nothing_left = self._ready.empty()
            self._ready.put_nowait(None)
            if nothing_left:
                raise ShutDown
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """The work on `key` is over; if it was added meanwhile, it comes up again."""
        self._working.discard(key)
        if key in self._waiting:
            self._ready.put_nowait(key)

    def shut_down(self) -> None:
        """Takes no more keys, nor those whose time has not come; workers get what is queued, and then ShutDown."""
        if self._shut_down:
            return
        self._shut_down = True
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ready.put_nowait(None)

    def _come_due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)
