"""Watchers have turns: a few in each of the loop, in rounds, and more the longer others keep the loop busy."""

from __future__ import annotations

import asyncio

from controlplane.store.waking import Sleeper, Waker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Named(Sleeper):
    """Notes when it is woken."""

    def __init__(self, name: int, woken: list[int]) -> None:
        super().__init__()
        self.name = name
        self._noted = woken

    def wake(self) -> None:
        self._noted.append(self.name)
        super().wake()


def named(count: int) -> tuple[list[Named], list[int]]:
    woken: list[int] = []
    return [Named(name, woken) for name in range(count)], woken


async def test_other_work_has_its_turn_while_many_are_woken() -> None:
    waker = Waker(Clock())
    sleepers, woken = named(200)
    waker.queue(sleepers)
    turns = 0
    while len(woken) < len(sleepers):
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 40
    assert woken == list(range(200))


async def test_who_is_alone_is_woken_in_the_next_turn() -> None:
    waker = Waker(Clock())
    (sleeper,), woken = named(1)
    for expected in (1, 2):
        waker.queue([sleeper])
        await asyncio.sleep(0)
        assert len(woken) == expected


async def test_who_had_a_turn_comes_after_all_who_wait_for_theirs() -> None:
    waker = Waker(Clock())
    sleepers, woken = named(20)
    waker.queue(sleepers)
    while len(woken) < 40:
        await asyncio.sleep(0)
        waker.queue([sleepers[name] for name in woken if not sleepers[name].queued])
    assert woken[:40] == [*range(20), *range(20)]


async def test_who_is_queued_keeps_its_one_place() -> None:
    waker = Waker(Clock())
    sleepers, woken = named(3)
    waker.queue(sleepers)
    waker.queue(reversed(sleepers))
    for _ in range(5):
        await asyncio.sleep(0)
    assert woken == [0, 1, 2]


async def test_the_longer_a_turn_of_the_loop_takes_the_more_are_woken_in_the_next() -> None:
    clock = Clock()
    waker = Waker(clock)
    sleepers, woken = named(200)
    waker.queue(sleepers)
    in_turns = []
    for seconds in (0.0, 0.001, 0.002, 1.0):
        clock.now += seconds
        before = len(woken)
        await asyncio.sleep(0)
        in_turns.append(len(woken) - before)
    assert in_turns == sorted(in_turns)
    assert in_turns[0] < in_turns[1] < in_turns[2] < in_turns[3] < 64


async def test_one_who_has_given_up_is_passed_over() -> None:
    waker = Waker(Clock())
    gone, waiting = Sleeper(), Sleeper()
    tasks = [asyncio.ensure_future(sleeper.sleep()) for sleeper in (gone, waiting)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    waker.queue([gone, waiting])
    await tasks[1]
