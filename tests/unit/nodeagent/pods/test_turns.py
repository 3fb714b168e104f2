"""Who goes when only so many may."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from nodeagent.pods.turns import Turns, Urgency
from tests.unit.nodeagent.clock import settle


class Queue:
    """Tasks that take a turn each and keep it until they are let go."""

    def __init__(self, capacity: int) -> None:
        self.turns = Turns(capacity)
        self.at_work: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._done: dict[str, asyncio.Event] = {}

    async def come(self, name: str, urgency: Urgency = Urgency.SANDBOX) -> None:
        self._done[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._work(name, urgency), name=name)
        await settle()

    async def leave(self, name: str) -> None:
        self._done[name].set()
        await self.tasks[name]
        await settle()

    async def give_up(self, name: str) -> None:
        self.tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self.tasks[name]

    async def _work(self, name: str, urgency: Urgency) -> None:
        async with self.turns.take(urgency):
            self.at_work.append(name)
            try:
                await self._done[name].wait()
            finally:
                self.at_work.remove(name)


async def test_no_more_than_the_capacity_are_at_work() -> None:
    queue = Queue(2)
    for name in ("a", "b", "c"):
        await queue.come(name)
    assert queue.at_work == ["a", "b"]
    await queue.leave("a")
    assert queue.at_work == ["b", "c"]
    await queue.leave("b")
    await queue.leave("c")


async def test_what_completes_a_pod_goes_before_what_begins_one() -> None:
    queue = Queue(1)
    await queue.come("first")
    await queue.come("sandbox")
    await queue.come("container", Urgency.CONTAINER)
    await queue.leave("first")
    assert queue.at_work == ["container"]
    await queue.leave("container")
    assert queue.at_work == ["sandbox"]
    await queue.leave("sandbox")


async def test_who_gives_up_takes_no_turn_away() -> None:
    queue = Queue(1)
    for name in ("a", "b", "c"):
        await queue.come(name)
    await queue.give_up("b")
    await queue.give_up("a")
    await settle()
    assert queue.at_work == ["c"]
    await queue.leave("c")
    await queue.come("d")
    assert queue.at_work == ["d"]
    await queue.leave("d")


async def test_a_turn_that_was_given_to_one_who_gives_up_goes_on() -> None:
    queue = Queue(1)
    for name in ("a", "b", "c"):
        await queue.come(name)
    # b is given the turn when a leaves, and gives up before it knows.
    await queue.give_up("a")
    await queue.give_up("b")
    await settle()
    assert queue.at_work == ["c"]
    await queue.leave("c")
