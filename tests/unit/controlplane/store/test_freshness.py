"""Which readers share a proof. That it holds is shown on a real etcd, in the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.store.freshness import Freshness, Reached


class Ranges:
    """Stands for etcd: counts the Ranges, and answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def range(self, key: bytes, *, keys_only: bool) -> Any:
        self.asked += 1
        await self.may_answer.wait()
        return SimpleNamespace(revision=7)


class Store:
    def __init__(self) -> None:
        etcd: Any = Ranges()
        self.etcd = etcd
        reached = Reached()
        reached.advance(7)
        self.freshness = Freshness(etcd, reached)

    async def read_after(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await self.freshness.wait()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    running = asyncio.create_task(store.freshness.run())
    async with asyncio.timeout(20):
        yield store
    running.cancel()
    await asyncio.wait([running])


async def test_readers_that_come_a_few_turns_of_the_loop_apart_share_a_proof(store: Store) -> None:
    await asyncio.gather(*(store.read_after(2 * number) for number in range(5)))
    assert store.etcd.asked == 1


async def test_who_comes_while_a_proof_is_under_way_shares_the_next_one(store: Store) -> None:
    store.etcd.may_answer.clear()
    first = asyncio.create_task(store.read_after(0))
    others = [asyncio.create_task(store.read_after(30 * (number + 1))) for number in range(3)]
    for _ in range(200):
        await asyncio.sleep(0)
    assert store.etcd.asked == 1 and not first.done()
    store.etcd.may_answer.set()
    await asyncio.gather(first, *others)
    assert store.etcd.asked == 2


async def test_a_reader_who_is_alone_as_the_one_before_was_is_not_made_to_wait_for_others(store: Store) -> None:
    await store.read_after(0)
    reading = asyncio.create_task(store.read_after(0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert store.etcd.asked == 2
    await reading
