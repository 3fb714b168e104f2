"""Waits for those who are about to join: what is asked of etcd for many at once costs hardly more than for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# Turns of the loop that must bring nobody further: a request takes a turn or two from the socket to where it waits, and
# those who were answered together come back together. With one turn 64 readers cost etcd a tenth more; with four, which
# last the longer the busier the loop is, writers get a tenth less through.
_QUIET_TURNS: Final = 2


async def gather(count: Callable[[], int], most: int) -> None:
    """Until nobody joins any more, or there are as many as `most`; `count` says how many there are."""
    gathered = quiet = 0
    while quiet < _QUIET_TURNS and (found := count()) < most:
        quiet = quiet + 1 if found == gathered else 0
        gathered = found
        await asyncio.sleep(0)
