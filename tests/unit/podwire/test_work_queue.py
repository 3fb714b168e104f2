"""The queue of keys, with a clock that stands still until it is told."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

import pytest

from podwire.client import ShutDown, WorkQueue


class Clock:
    def __init__(self) -> None:
        self._now = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._cancelled: set[int] = set()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> "_Timer":
        number = next(self._order)
        heapq.heappush(self._timers, (when, number, callback, args))
        return _Timer(self._cancelled, number)

    def advance(self, seconds: float) -> None:
        self._now += seconds
        while self._timers and self._timers[0][0] <= self._now:
            _, number, callback, args = heapq.heappop(self._timers)
            if number not in self._cancelled:
                callback(*args)


class _Timer:
    def __init__(self, cancelled: set[int], number: int) -> None:
        self._cancelled, self._number = cancelled, number

    def cancel(self) -> None:
        self._cancelled.add(self._number)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(retry_first=1, retry_cap=8, clock=clock)


async def test_a_key_is_in_the_queue_once(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_is_not_worked_on_twice_at_once_and_no_addition_is_lost(queue: WorkQueue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert len(queue) == 1
    queue.done(await queue.get())
    assert len(queue) == 0


async def test_a_delayed_key_comes_when_its_time_has_come(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 5)
    clock.advance(4.9)
    assert len(queue) == 0
    clock.advance(0.1)
    assert await queue.get() == "a"


async def test_of_two_delays_the_shorter_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 5)
    queue.add_after("a", 2)
    queue.add_after("a", 9)
    clock.advance(2)
    queue.done(await queue.get())
    clock.advance(100)
    assert len(queue) == 0


async def test_retries_wait_longer_each_time_up_to_the_cap_until_forgotten(queue: WorkQueue[str], clock: Clock) -> None:
    for most in (1, 2, 4, 8, 8):
        queue.retry("a")
        clock.advance(most / 2 - 0.01)
        assert len(queue) == 0
        clock.advance(most / 2 + 0.01)
        queue.done(await queue.get())
    queue.forget("a")
    queue.retry("a")
    clock.advance(1)
    assert len(queue) == 1


async def test_a_cancelled_wait_loses_no_key(queue: WorkQueue[str]) -> None:
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1):
        assert await queue.get() == "a"


async def test_retries_are_counted_until_forgotten(queue: WorkQueue[str]) -> None:
    assert queue.retries("a") == 0
    queue.retry("a")
    queue.retry("a")
    assert queue.retries("a") == 2
    queue.forget("a")
    assert queue.retries("a") == 0


async def test_workers_finish_what_is_queued_when_the_queue_is_shut_down(queue: WorkQueue[str], clock: Clock) -> None:
    idle = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    for key in ("a", "b"):
        queue.add(key)
    queue.add_after("late", 1)
    assert await idle == "a"
    queue.add("a")
    queue.shut_down()
    queue.shut_down()
    queue.add("c")
    queue.retry("a")
    clock.advance(10)
    assert len(queue) == 1
    assert await queue.get() == "b"
    queue.done("a")
    assert await queue.get() == "a"
    for _ in range(3):
        with pytest.raises(ShutDown):
            await queue.get()
    assert len(queue) == 0
