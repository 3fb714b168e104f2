"""Which pods have changed, for readers at their own pace: a pod waits once, however often it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from nodeagent.model import PodUid


class Changes:
    """None stands for all pods: changes may have been missed."""

    def __init__(self) -> None:
        self._readers: set[_Reader] = set()

    def tell(self, uid: PodUid | None) -> None:
        for reader in self._readers:
            reader.add(uid)

    async def follow(self) -> AsyncGenerator[PodUid | None, None]:
        """None first, then what changes; ends only by cancellation."""
        reader = _Reader()
        self._readers.add(reader)
        try:
            while True:
                yield await reader.next()
        finally:
            self._readers.discard(reader)


class _Reader:
    def __init__(self) -> None:
        self._waiting: dict[PodUid | None, None] = {None: None}
        self._news = asyncio.Event()
        self._news.set()

    def add(self, uid: PodUid | None) -> None:
        self._waiting[uid] = None
        self._news.set()

    async def next(self) -> PodUid | None:
        await self._news.wait()
        uid = next(iter(self._waiting))
        del self._waiting[uid]
        if not self._waiting:
            self._news.clear()
        return uid
