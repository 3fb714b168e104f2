"""Blocking work off the event loop that is never left behind: a cancelled caller still waits for its end.

A thread cannot be stopped. If the caller went on at once, what it does next (a DEL, say) would race with the ADD that
still runs. All work given here is bounded in time by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def run_to_end(executor: Executor | None, work: Callable[[], T]) -> T:
    """The result of `work`, done in a thread of `executor` (the loop's own where None)."""
    running = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue  # the first cancellation is raised below
        if not running.cancelled():
            running.exception()  # seen here: nobody else will
        raise
