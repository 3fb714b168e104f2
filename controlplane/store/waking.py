"""Wakes watchers a few at a time.

Hundreds of watchers that wake in one turn of the event loop keep everything else waiting for as long as all their
writes take, and the changes that they wait for are part of everything else. In slices, other work has its turn in
between, and whoever is woken later takes more at once: load makes batches larger and not latency longer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

# Tasks woken in one turn of the loop: about two milliseconds of writes.
_SLICE: Final = 32


class Waker:
    def __init__(self) -> None:
        self._sleeping: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    def wake(self, futures: Iterable[asyncio.Future[None]]) -> None:
        """Resolves `futures`, in their order, in this turn of the loop or one of the next."""
        self._sleeping.extend(futures)
        if self._sleeping and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        for _ in range(min(_SLICE, len(self._sleeping))):
            future = self._sleeping.popleft()
            if not future.done():
                future.set_result(None)
        self._scheduled = bool(self._sleeping)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._wake_some)
