"""Watchers have turns: in rounds, some of them in a turn of the loop."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.store.waking import Sleeper, Waker


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


@pytest.mark.parametrize(("count", "at_once"), [(3, 3), (32, 32), (33, 32), (500, 32)])
async def test_a_few_are_woken_in_a_turn_of_the_loop_and_all_in_their_order(count: int, at_once: int) -> None:
    waker = Waker()
    sleepers, woken = named(count)
    waker.queue(sleepers)
    before, most = 0, 0
    while len(woken) < count:
        await asyncio.sleep(0)
        before, most = len(woken), max(most, len(woken) - before)
    assert most == at_once
    assert woken == list(range(count))


async def test_who_comes_again_and_again_has_no_more_turns_than_many() -> None:
    waker = Waker()
    (sleeper,), woken = named(1)
    for turn in range(30):
        waker.queue([sleeper])
        await asyncio.sleep(0)
        assert len(woken) <= turn + 1


async def test_who_is_alone_is_woken_in_the_next_turn() -> None:
    waker = Waker()
    (sleeper,), woken = named(1)
    waker.queue([sleeper])
    await asyncio.sleep(0)
    assert woken == [0]


async def test_who_had_a_turn_comes_after_all_who_wait_for_theirs() -> None:
    waker = Waker()
    sleepers, woken = named(20)
    waker.queue(sleepers)
    while len(woken) < 40:
        await asyncio.sleep(0)
        waker.queue([sleepers[name] for name in woken if not sleepers[name].queued])
    assert woken[:40] == [*range(20), *range(20)]


async def test_who_is_queued_keeps_its_one_place() -> None:
    waker = Waker()
    sleepers, woken = named(3)
    waker.queue(sleepers)
    waker.queue(reversed(sleepers))
    for _ in range(20):
        await asyncio.sleep(0)
    assert woken == [0, 1, 2]


async def test_one_who_has_given_up_is_passed_over() -> None:
    waker = Waker()
    gone, waiting = Sleeper(), Sleeper()
    tasks = [asyncio.ensure_future(sleeper.sleep()) for sleeper in (gone, waiting)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    waker.queue([gone, waiting])
    await tasks[1]
