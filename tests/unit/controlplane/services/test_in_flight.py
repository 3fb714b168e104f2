"""The gates that limit what is under way, with a clock that stands where the test puts it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from controlplane.services.in_flight import LONGEST_DELAY, SHORTEST_DELAY, Gate, Share
from controlplane.settings import Room
from podwire import errors


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def gate(room: Room, clock: Callable[[], float] | None = None) -> Gate:
    return Gate("requests in flight", room, clock or Clock())


def user(of: Gate, name: str = "anna") -> Share:
    return Share(of, name, system=False)


async def queued(share: Share, cost: int = 1) -> asyncio.Task[None]:
    """A task that waits in the share's queue."""
    task = asyncio.create_task(share.enter(cost))
    await asyncio.sleep(0)
    assert share.waiting
    return task


async def entered(tasks: dict[str, asyncio.Task[None]]) -> set[str]:
    for _ in range(3):
        await asyncio.sleep(0)
    return {name for name, task in tasks.items() if task.done()}


def test_a_user_has_at_most_its_share_and_all_users_at_most_what_the_system_leaves() -> None:
    full = gate(Room(total=10, system=4, user=4))
    anna, bert = user(full, "anna"), user(full, "bert")
    assert [anna.enter_now() for _ in range(5)] == [True] * 4 + [False]
    assert [bert.enter_now() for _ in range(3)] == [True] * 2 + [False]
    agent = Share(full, "node n1", system=True)
    assert [agent.enter_now() for _ in range(5)] == [True] * 4 + [False]


def test_what_leaves_makes_room() -> None:
    full = gate(Room(total=1, system=0, user=1))
    anna = user(full)
    assert anna.enter_now() and not anna.enter_now()
    anna.leave()
    assert full.used == 0 and anna.enter_now()


async def test_room_goes_round_the_users_however_many_each_has_waiting() -> None:
    full = gate(Room(total=1, system=0, user=1, queue=10, wait=60))
    holder, greedy, modest = user(full, "holder"), user(full, "greedy"), user(full, "modest")
    assert holder.enter_now()
    tasks = {f"greedy {n}": await queued(greedy) for n in range(5)}
    tasks["modest"] = await queued(modest)
    order: list[set[str]] = []
    for leaving in (holder, greedy, modest):
        leaving.leave()
        order.append(await entered(tasks) - set().union(*order))
    assert order == [{"greedy 0"}, {"modest"}, {"greedy 1"}]
    for task in tasks.values():
        task.cancel()


async def test_the_system_does_not_wait_behind_users() -> None:
    full = gate(Room(total=3, system=1, user=2, queue=10, wait=60))
    anna, agent = user(full), Share(full, "node n1", system=True)
    assert anna.enter_now() and anna.enter_now()
    waiting = await queued(user(full, "bert"))
    assert agent.enter_now()
    second = await queued(agent)
    agent.leave()
    assert await entered({"bert": waiting, "agent": second}) == {"agent"}
    waiting.cancel()


async def test_a_large_one_is_not_overtaken_for_ever_by_small_ones() -> None:
    full = gate(Room(total=10, system=0, user=10, queue=10, wait=60))
    anna, bert, carl = (user(full, name) for name in ("anna", "bert", "carl"))
    assert anna.enter_now(6)
    large = await queued(bert, 8)
    assert not carl.enter_now(1)
    small = await queued(carl, 1)
    anna.leave(6)
    assert await entered({"large": large, "small": small}) == {"large", "small"}
    assert full.used == 9


def test_what_is_larger_than_all_room_goes_alone() -> None:
    full = gate(Room(total=10, system=2, user=5))
    anna = user(full)
    assert anna.enter_now(50)
    assert not user(full, "bert").enter_now(1)
    anna.leave(50)
    assert full.used == 0


async def test_one_too_many_in_a_queue_is_refused_and_the_others_wait_on() -> None:
    full = gate(Room(total=1, system=0, user=1, queue=1, wait=60))
    anna = user(full)
    assert anna.enter_now()
    waiting = await queued(anna)
    with pytest.raises(errors.Overloaded, match="anna has 1 of at most 1, all together 1 of 1"):
        await anna.enter()
    assert not waiting.done() and full.refused == 1
    waiting.cancel()


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind() -> None:
    full = gate(Room(total=1, system=0, user=1, queue=1, wait=0.001))
    anna = user(full)
    assert anna.enter_now()
    with pytest.raises(errors.Overloaded):
        await anna.enter()
    assert (full.waiting, len(anna.waiting)) == (0, 0)
    anna.leave()
    assert anna.idle and full.used == 0


async def test_who_goes_away_while_waiting_leaves_nothing_behind() -> None:
    full = gate(Room(total=1, system=0, user=1, queue=5, wait=60))
    anna = user(full)
    assert anna.enter_now()
    first, second = await queued(anna), await queued(anna)
    first.cancel()
    await asyncio.wait([first])
    anna.leave()
    assert await entered({"second": second}) == {"second"}
    assert (full.used, full.waiting) == (1, 0)


async def test_who_goes_away_at_the_moment_of_being_let_in_gives_the_room_back() -> None:
    full = gate(Room(total=1, system=0, user=1, queue=5, wait=60))
    anna = user(full)
    assert anna.enter_now()
    waiting = await queued(anna)
    anna.leave()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled() and full.used == 0


def test_the_delay_is_what_the_queue_needs_at_the_rate_measured() -> None:
    clock = Clock()
    full = gate(Room(total=1, system=0, user=1), clock)
    anna = user(full)
    for _ in range(10):
        assert anna.enter_now()
        anna.leave()
    assert anna.enter_now()
    clock.now += 20.0
    # Ten in twenty seconds: the next has two to wait.
    assert full.overloaded(anna).retry_after == pytest.approx(2.0)


def test_the_delay_is_bounded() -> None:
    clock = Clock()
    full = gate(Room(total=1, system=0, user=1), clock)
    anna = user(full)
    for _ in range(1000):
        assert anna.enter_now()
        anna.leave()
    clock.now += 1.0
    assert full.overloaded(anna).retry_after == SHORTEST_DELAY
    clock.now += 1000.0
    assert anna.enter_now()
    anna.leave()
    assert full.overloaded(anna).retry_after == LONGEST_DELAY
