"""For loops that go on after failures, and must end all the same when they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def attempt(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives or raises; CancelledError where the caller was asked to end meanwhile, whatever `work` says.

    A task group that is cancelled while one of its tasks fails tells of the failure alone, and a loop that handles it
    goes on for ever. Before Python 3.13 it also leaves a request to cancel in its own task that nobody made: hence a
    task for each attempt, so that the caller's own requests can be told.
    """
    caller = asyncio.current_task()
    assert caller is not None
    task = asyncio.create_task(work)
    try:
        return await task
    finally:
        if caller.cancelling():
            raise asyncio.CancelledError
