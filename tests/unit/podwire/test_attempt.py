"""Attempts that fail, and attempts whose caller is cancelled while they fail."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from podwire import errors
from podwire.attempt import attempt


async def fail_at_once() -> NoReturn:
    raise errors.Unavailable("gone")


async def fail_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise errors.Unavailable("the connection is closed") from None


async def in_a_group(work: object) -> None:
    async with asyncio.TaskGroup() as owner:
        owner.create_task(work)  # type: ignore[arg-type]


class Loop:
    """Goes on after failures, as those do that follow etcd."""

    def __init__(self) -> None:
        self.failures = 0

    async def run(self, *works: object) -> None:
        for work in works:
            try:
                await attempt(in_a_group(work))
            except* errors.Unavailable:
                self.failures += 1
            await asyncio.sleep(0)


async def test_what_an_attempt_gives_and_raises_is_the_callers() -> None:
    assert await attempt(asyncio.sleep(0, "result")) == "result"
    with pytest.raises(errors.Unavailable, match="gone"):
        await attempt(fail_at_once())


async def test_a_loop_goes_on_after_failures() -> None:
    loop = Loop()
    await loop.run(fail_at_once(), fail_at_once(), fail_at_once())
    assert loop.failures == 3


async def test_a_loop_that_is_cancelled_while_an_attempt_fails_ends() -> None:
    loop = Loop()
    never = asyncio.Event().wait()
    running = asyncio.create_task(loop.run(fail_at_once(), fail_when_cancelled(), never))
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert loop.failures == 1
    never.close()


async def test_who_is_cancelled_is_so_although_the_attempt_ends_well() -> None:
    async def end_well() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "well"

    running = asyncio.create_task(attempt(end_well()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
