"""Watchers are woken in slices, in order."""

from __future__ import annotations

import asyncio

from controlplane.store.waking import Waker


async def test_other_work_has_its_turn_between_slices_of_many_wakers() -> None:
    waker = Waker()
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(200)]
    waker.wake(futures)
    woken = []
    while not futures[-1].done():
        await asyncio.sleep(0)
        woken.append(sum(future.done() for future in futures))
    assert len(woken) > 4
    assert all(future.done() for future in futures)


async def test_a_cancelled_waiter_is_passed_over() -> None:
    waker = Waker()
    gone, waiting = (asyncio.get_running_loop().create_future() for _ in range(2))
    gone.cancel()
    waker.wake([gone, waiting])
    await waiting
