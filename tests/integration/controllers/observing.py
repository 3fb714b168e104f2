"""Waiting for a state: informers that tell when a condition on everything they show has come true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from podwire.client import Informer, KindClient
from podwire.keys import Object

T = TypeVar("T", bound=Object)


class View(Generic[T]):
    def __init__(self, informer: Informer[T]) -> None:
        self._informer = informer
        self._changed = asyncio.Event()
        informer.add_handler(lambda key, old, new: self._changed.set())

    @property
    def objects(self) -> Collection[T]:
        return self._informer.values()

    def get(self, key: str) -> T:
        found = self._informer.get(key)
        assert found is not None, f"{key} is not there"
        return found

    async def until(self, condition: Callable[[Collection[T]], bool], *, timeout: float = 30) -> Collection[T]:
        """The objects, when `condition` holds for them."""
        try:
            async with asyncio.timeout(timeout):
                while not (self._informer.synced and condition(self.objects)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            shown = "\n".join(str(obj) for obj in self.objects)
            raise AssertionError(f"it did not come to that within {timeout} s; there is:\n{shown}") from None
        return self.objects

    def each_time(self, check: Callable[[Collection[T]], None]) -> None:
        """Calls `check` after every change from now on."""
        self._informer.add_handler(lambda key, old, new: check(self.objects))


@asynccontextmanager
async def watching(client: KindClient[T], namespace: str = "") -> AsyncGenerator[View[T], None]:
    informer = Informer(client, namespace=namespace)
    view = View(informer)
    task = asyncio.create_task(informer.run())
    try:
        await informer.wait_synced()
        # What asks before the first change is asked again once the list is complete.
        yield view
    finally:
        task.cancel()
        await asyncio.wait([task])
