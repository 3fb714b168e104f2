"""Whose silence it is when a renewal is not answered. That leases are kept is shown on a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.store import leases
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.endpoints import LeaseLost
from controlplane.store.leases import Lease, Renewals


class Member:
    """Stands for etcd: answers each renewal so many turns of the loop after it was asked."""

    address = "here"

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.streams = 0
        self.lease = SimpleNamespace(LeaseKeepAlive=self.open)

    def open(self, *, timeout: float | None = None) -> Any:
        self.streams += 1
        return Stream(self.turns)


class Stream:
    def __init__(self, turns: int) -> None:
        self._turns = turns
        self._asked: asyncio.Queue[int] = asyncio.Queue()

    async def write(self, request: pb.LeaseKeepAliveRequest) -> None:
        self._asked.put_nowait(request.ID)

    async def read(self) -> pb.LeaseKeepAliveResponse:
        lease_id = await self._asked.get()
        for _ in range(self._turns):
            await asyncio.sleep(0)
        return pb.LeaseKeepAliveResponse(ID=lease_id, TTL=5)

    def cancel(self) -> None:
        pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every answer is late, as on a loop that was busy for longer than an answer may take."""
    monkeypatch.setattr(leases, "_ANSWER_SECONDS", 0.0)
    yield


async def renewed(member: Member, within: float) -> bool:
    endpoints: Any = SimpleNamespace(current=member, failed=lambda _: None)
    clock = asyncio.get_running_loop().time
    renewals = Renewals(endpoints, clock)
    running = asyncio.create_task(renewals.run())
    lease = Lease(endpoints, 7, 5, clock)
    try:
        async with asyncio.timeout(within):
            await renewals.renew(lease)
        return lease.remaining > 0
    except TimeoutError:
        return False
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_an_answer_that_is_there_but_not_read_yet_is_waited_for() -> None:
    member = Member(turns=20)
    assert await renewed(member, within=20)
    # One for each stream: none was given up.
    assert member.streams == leases._STREAMS


async def test_a_member_that_does_not_answer_is_given_up() -> None:
    member = Member(turns=10**9)
    assert not await renewed(member, within=0.5)
    assert member.streams > leases._STREAMS


async def test_who_keeps_a_lease_stops_while_it_is_still_held() -> None:
    endpoints: Any = SimpleNamespace(current=Member(turns=10**9), failed=lambda _: None)
    clock = asyncio.get_running_loop().time
    lease = Lease(endpoints, 7, 3, clock)
    lease.renewed(clock(), 3)
    with pytest.raises(LeaseLost):
        await lease.keep()
    # 0.3 s, for what has to stop.
    assert lease.remaining > 0


async def test_streams_that_break_while_they_are_ended_end() -> None:
    """As where etcd goes away at the moment in which the server is told to stop."""

    class Breaking(Stream):
        async def read(self) -> pb.LeaseKeepAliveResponse:
            try:
                return await super().read()
            except asyncio.CancelledError:
                raise asyncio.InvalidStateError("the stream has ended") from None

    member = Member(turns=0)
    streams: Iterator[Stream] = chain((Breaking(0) for _ in range(leases._STREAMS)), repeat(Stream(0)))
    member.lease = SimpleNamespace(LeaseKeepAlive=lambda: next(streams))
    endpoints: Any = SimpleNamespace(current=member, failed=lambda _: None)
    running = asyncio.create_task(Renewals(endpoints, asyncio.get_running_loop().time).run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    _, pending = await asyncio.wait([running], timeout=5)
    assert not pending
    assert running.cancelled()
