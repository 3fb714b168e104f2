"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.unit.nodeagent.pods.builders import START


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def fire(self) -> None:
        if self.callback is not None:
            self.callback()

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Starts at the builders' START; `advance` calls what becomes due, in order, and lets the loop settle each time."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _Timer]] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self._elapsed

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(timer.fire)
            return timer
        heapq.heappush(self._timers, (self._elapsed + seconds, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        over = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not over.done():
                over.set_result(None)

        self.call_later(seconds, wake)
        await over

    async def advance(self, seconds: float) -> None:
        end = self._elapsed + seconds
        await settle()
        while self._timers and self._timers[0][0] <= end + 1e-9:
            due, _, timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, due)
            timer.fire()
            await settle()
        self._elapsed = end
        await settle()


async def settle() -> None:
    """Lets every task go as far as it can without time passing. Work in threads is awaited too."""
    for _ in range(50):
        await asyncio.sleep(0)
