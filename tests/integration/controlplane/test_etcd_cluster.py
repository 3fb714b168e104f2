"""The client of etcd on a cluster of three, whose leader is killed and whose members freeze."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from itertools import count

import pytest

from controlplane.store import operations as op
from controlplane.store.endpoints import LeaseLost
from controlplane.store.etcd import Etcd
from podwire import errors
from tests.integration.controlplane.etcd_cluster import EtcdCluster, etcd_cluster
from tests.integration.controlplane.network import eventually, wire_to

_numbers = count()


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[EtcdCluster]:
    """One for all tests of this file: each leaves it whole."""
    async with etcd_cluster() as running:
        yield running


@pytest.fixture
async def etcd(cluster: EtcdCluster) -> AsyncIterator[Etcd]:
    async with Etcd.connect(cluster.urls) as client:
        yield client


@pytest.fixture
def prefix() -> bytes:
    """What the test's own keys begin with."""
    return b"/test%d/" % next(_numbers)


class Watching:
    """A watch in a task of its own, and the keys that it has delivered; it ends with the last of `expected`."""

    def __init__(self, etcd: Etcd, start_revision: int, expected: list[bytes]) -> None:
        self.keys: list[bytes] = []
        self._etcd = etcd
        self._start = start_revision
        self._expected = expected

    async def run(self) -> None:
        last = 0
        prefix = self._expected[0][: self._expected[0].rindex(b"/") + 1]
        async with aclosing(self._etcd.watch(prefix, op.prefix_end(prefix), start_revision=self._start)) as watch:
            async for batch in watch:
                assert batch.events[0].kv.mod_revision > last
                last = batch.revision
                self.keys += [event.kv.key for event in batch.events]
                if self.keys[-1] == self._expected[-1]:
                    return

    async def wait_delivered(self, wanted: int, *, within: float = 60.0) -> None:
        await eventually(lambda: len(self.keys) >= wanted, within=within)


async def write_each(etcd: Etcd, keys: list[bytes]) -> None:
    """Creates the keys in their order, each once, however often it takes."""
    for key in keys:
        while True:
            try:
                await etcd.txn([op.absent(key)], [op.put(key, b"v")])
                break
            except (errors.Unavailable, errors.Timeout):
                # It may have happened: then the key is there, and the next attempt does nothing.
                await asyncio.sleep(0.02)


async def test_a_live_watch_through_sigkills_of_the_leader_loses_and_repeats_nothing(
    etcd: Etcd, cluster: EtcdCluster, prefix: bytes
) -> None:
    expected = [prefix + b"%06d" % number for number in range(300)]
    watching = Watching(etcd, await etcd.put(b"/other", b"") + 1, expected)
    async with asyncio.timeout(120), asyncio.TaskGroup() as owner:
        owner.create_task(watching.run())
        owner.create_task(write_each(etcd, expected))
        for delivered in (50, 150):
            await watching.wait_delivered(delivered)
            leader = await cluster.leader()
            await leader.kill()
            await watching.wait_delivered(delivered + 50)
            await cluster.restart(leader)
    assert watching.keys == expected


async def test_a_catch_up_of_20000_events_through_sigkills_loses_and_repeats_nothing(
    etcd: Etcd, cluster: EtcdCluster, prefix: bytes
) -> None:
    expected = [prefix + b"%06d" % number for number in range(20_000)]
    for at in range(0, len(expected), 100):
        await etcd.txn([], [op.put(key, b"v" * 100) for key in expected[at : at + 100]])
    seen: list[bytes] = []
    kills = 0
    async with asyncio.timeout(120), aclosing(etcd.watch(prefix, op.prefix_end(prefix), start_revision=1)) as watch:
        async for batch in watch:
            seen += [event.kv.key for event in batch.events]
            if len(seen) >= 5_000 * (kills + 1) and kills < 2:
                kills += 1
                # Whoever leads: with the others, the member that the watch is on is among those killed.
                leader = await cluster.leader()
                await leader.kill()
                await cluster.leader()
                await cluster.restart(leader)
            if len(seen) >= len(expected):
                break
    assert seen == expected


async def test_a_watch_leaves_a_leader_that_freezes(etcd: Etcd, cluster: EtcdCluster, prefix: bytes) -> None:
    expected = [prefix + b"%06d" % number for number in range(60)]
    start = await etcd.put(b"/other", b"") + 1
    leader = await cluster.leader()
    others = [member.url for member in cluster.members if member is not leader]
    async with Etcd.connect([leader.url, *others]) as on_the_leader, Etcd.connect(others) as elsewhere:
        watching = Watching(on_the_leader, start, expected)
        async with asyncio.timeout(120), asyncio.TaskGroup() as owner:
            owner.create_task(watching.run())
            await write_each(elsewhere, expected[:20])
            await watching.wait_delivered(20)
            leader.freeze()
            await write_each(elsewhere, expected[20:40])
            # It neither answers nor resets: only the silence tells. gRPC's own patience would be 60 s.
            await watching.wait_delivered(40, within=30)
            leader.thaw()
            await write_each(elsewhere, expected[40:])
    assert watching.keys == expected


async def test_a_lease_is_kept_through_the_death_of_the_leader(etcd: Etcd, cluster: EtcdCluster, prefix: bytes) -> None:
    lease = await etcd.grant(20)
    made = await etcd.put(prefix, b"", lease=lease.id)
    keeping = asyncio.create_task(lease.keep())
    leader = await cluster.leader()
    await leader.kill()
    await cluster.leader()
    await cluster.restart(leader)
    before = lease.deadline
    await eventually(lambda: keeping.done() or lease.deadline > before, within=60)
    kv = await etcd.get(prefix, timeout=30)
    assert kv is not None
    assert kv.create_revision == made
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_a_holder_cut_off_stops_before_a_new_leader_gives_its_lease_away(
    etcd: Etcd, cluster: EtcdCluster, prefix: bytes
) -> None:
    async with AsyncExitStack() as undo:
        wires = [await undo.enter_async_context(wire_to(url)) for url in cluster.urls]
        holder = await undo.enter_async_context(Etcd.connect([wire.url for wire in wires]))
        lease = await holder.grant(3)
        made = await holder.put(prefix, b"", lease=lease.id)
        keeping = asyncio.create_task(lease.keep())
        for wire in wires:
            wire.cut()
        leader = await cluster.leader()
        await leader.kill()
        async with asyncio.timeout(60), aclosing(etcd.watch(prefix, start_revision=made + 1)) as watch:
            await anext(watch)
        gone = asyncio.get_running_loop().time()
        with pytest.raises(LeaseLost):
            await keeping
        assert lease.deadline <= gone
    await cluster.restart(leader)
