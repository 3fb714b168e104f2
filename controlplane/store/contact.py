"""Whether this replica still hears of what is written: proved every few seconds, for those who only listen.

Whoever reads the present finds out by asking. A watch would not: where the replica is cut off from etcd it stays open
and says nothing, and looks like one on a store in which nothing happens. So when the proof fails every watch is ended,
once, and its client goes on with another replica where it has one; until the proof succeeds again a new watch waits,
and is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from podwire import errors

log = structlog.get_logger(__name__)

# Seconds between proofs. With the 5 s that one may take, a client is told within 7 s.
_EVERY: Final = 2.0


class Contact:
    """`run` needs a task. `prove` raises Unavailable where there is no proof in time."""

    def __init__(
        self, prove: Callable[[], Awaitable[None]], end_watches: Callable[[errors.PodwireError], None]
    ) -> None:
        self._prove = prove
        self._end_watches = end_watches
        self._lost = False

    async def wait(self) -> None:
        """Returns at once while there is contact; else as soon as there is again, or with Unavailable."""
        if self._lost:
            await self._prove()

    async def run(self) -> NoReturn:
        while True:
            try:
                await self._prove()
            except errors.StoreFull:
                # It answers, and what is written would be heard of.
                pass
            except errors.PodwireError as error:
                if not self._lost:
                    log.warning("watches end: this replica is cut off from etcd", reason=error.message)
                    self._lost = True
                    self._end_watches(error)
            else:
                if self._lost:
                    log.info("this replica hears from etcd again")
                self._lost = False
            await asyncio.sleep(_EVERY)
