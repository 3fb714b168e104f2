"""The loop that all controllers share: a queue of keys, a few workers, and what happens when a reconcile fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NoReturn, TypeVar

import structlog

from podwire import errors
from podwire.client import WorkQueue

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)


class Reconciler(Generic[K]):
    """Calls `reconcile(key)` for every key that is added, never twice at once for one key.

    What fails is tried again, later each time. A fault of ours with one object must not stop the others: it is logged
    with its trace, and tried again like the rest. Only the loss of the election ends the loop (errors.Fenced).
    """

    def __init__(self, name: str, reconcile: Callable[[K], Awaitable[None]], *, workers: int = 4) -> None:
        self._name = name
        self._reconcile = reconcile
        self._workers = workers
        self.queue: WorkQueue[K] = WorkQueue()

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as owner:
            for number in range(self._workers):
                owner.create_task(self._work(), name=f"{self._name} {number}")
        raise AssertionError("workers do not end")

    async def _work(self) -> NoReturn:
        while True:
            key = await self.queue.get()
            try:
                await self._reconcile(key)
            except errors.Fenced:
                raise
            except errors.Conflict as error:
                # The picture was stale; the next reconcile sees the change that came between.
                log.debug("conflict", controller=self._name, key=key, error=str(error))
                self.queue.retry(key)
            except errors.PodwireError as error:
                log.warning("reconcile failed", controller=self._name, key=key, error=str(error))
                self.queue.retry(key)
            except Exception:
                log.exception("reconcile broke", controller=self._name, key=key)
                self.queue.retry(key)
            else:
                self.queue.forget(key)
            finally:
                self.queue.done(key)
