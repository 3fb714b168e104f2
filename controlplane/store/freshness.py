"""Proof that the cache has seen every write that was answered before a reader came.

One linearizable Range gives the store's revision, for all readers that wait at that moment: those who come while it is
on its way share the next one, which waits until nobody joins any more. When the cache has reached that revision they
may read. Where no event brings it there (the revision belongs to a write outside the watched keys), a write to a key
inside them does.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import Final, NoReturn

import structlog

from controlplane.store import keys
from controlplane.store.etcd import Etcd
from controlplane.store.gathering import gather
from podwire import errors

log = structlog.get_logger(__name__)

# Longer than an event takes to arrive after its write was answered, also on a busy machine.
_STALL_SECONDS: Final = 0.2
# Readers for whom no further ones are waited for.
_ENOUGH_READERS: Final = 64
# For the clock's own event.
_PROOF_SECONDS: Final = 5.0


class Reached:
    """The revision that the cache has reached, to wait for."""

    def __init__(self) -> None:
        self.revision = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    def advance(self, revision: int) -> None:
        self.revision = revision
        while self._waiting and self._waiting[0][0] <= revision:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def wait(self, revision: int) -> None:
        if self.revision >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), future))
        await future


class Freshness:
    """`run` needs a task; `wait` is for any number of readers."""

    def __init__(self, etcd: Etcd, reached: Reached) -> None:
        self._etcd = etcd
        self._reached = reached
        self._waiting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()
        # Readers of the last proof.
        self._last = 0

    async def wait(self) -> None:
        """Returns once the cache holds everything that was written before the call; Unavailable without etcd."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wanted.set()
        await future

    async def run(self) -> NoReturn:
        """Raises HistoryLost where the store has gone back behind what the cache has seen."""
        while True:
            # Who comes while nothing is on its way, after one that came so too, is alone, and is not made to wait.
            alone = not self._waiting and self._last == 1
            await self._wanted.wait()
            if not alone:
                await gather(lambda: len(self._waiting), _ENOUGH_READERS)
            self._wanted.clear()
            readers, self._waiting = self._waiting, []
            self._last = len(readers)
            try:
                await self._prove()
            except (errors.StoreFull, errors.Unauthenticated) as error:
                _settle(readers, error)
            except (errors.Unavailable, errors.Timeout) as error:
                unavailable = errors.Unavailable(f"this replica cannot read now: {error.message}")
                _settle(readers, unavailable)
                # Those who came meanwhile too: another replica answers them sooner than another failure here would.
                self.give_up(unavailable)
            except BaseException:
                _settle(readers, errors.Unavailable("the cache starts over: try again"))
                raise
            else:
                _settle(readers)

    def give_up(self, error: errors.PodwireError) -> None:
        """Nothing can be proved for now: whoever waits is told so."""
        readers, self._waiting = self._waiting, []
        _settle(readers, error)

    async def _prove(self) -> None:
        # What the cache has reached before it asks: an event may overtake the answer.
        reached = self._reached.revision
        revision = (await self._etcd.range(keys.EPOCH, keys_only=True)).revision
        if revision < reached:
            raise errors.HistoryLost(f"the store is at revision {revision}, behind {reached}")
        if self._reached.revision >= revision:
            return
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                await self._reached.wait(revision)
        except TimeoutError:
            log.debug("cache stalls, writing the clock", reached=self._reached.revision, store=revision)
            written = await self._etcd.put(keys.CLOCK, b"")
            try:
                async with asyncio.timeout(_PROOF_SECONDS):
                    await self._reached.wait(written)
            except TimeoutError:
                # The member that the cache follows is being defragmented, or is cut off: its events come later.
                raise errors.Unavailable("this replica does not hear from etcd in time: try again") from None


def _settle(readers: list[asyncio.Future[None]], error: errors.PodwireError | None = None) -> None:
    for future in readers:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
