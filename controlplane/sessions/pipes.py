"""A bounded way for messages from one task to another, which either end may close: a full one holds the sender up."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from podwire import errors

T = TypeVar("T")


class Pipe(Generic[T]):
    """For one sender and one receiver."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._closed = False
        self._error: errors.PodwireError | None = None
        self._changed = asyncio.Event()

    async def put(self, item: T) -> None:
        """Waits for room. Raises Unavailable, or what the pipe was closed with, where nobody will take the item."""
        while len(self._items) >= self._capacity and not self._closed:
            await self._wait()
        if self._closed:
            raise self._error or errors.Unavailable("the other end of the stream is gone")
        self._items.append(item)
        self._changed.set()

    async def get(self) -> T | None:
        """The next item, or None at the end. Raises what the pipe was closed with, after everything sent before."""
        while not self._items and not self._closed:
            await self._wait()
        if self._items:
            item = self._items.popleft()
            self._changed.set()
            return item
        self.raise_for_failure()
        return None

    def raise_for_failure(self) -> None:
        """Raises what the pipe was closed with."""
        if self._error is not None:
            raise self._error

    def close(self, error: errors.PodwireError | None = None) -> None:
        if not self._closed:
            self._closed = True
            self._error = error
            self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
