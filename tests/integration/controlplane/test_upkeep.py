"""Upkeep of real etcds: history given up in time and not before, members defragmented, a full store relieved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from controlplane.election import KEY_PREFIX
from controlplane.store import keys
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.api.etcd_pb2_grpc import MaintenanceStub
from controlplane.store.commits import Committer, Write
from controlplane.store.endpoints import Compacted
from controlplane.store.etcd import Etcd
from controlplane.upkeep import plan
from controlplane.upkeep.upkeep import ROLE, Upkeep
from podwire import errors
from podwire.client import Client, RetryPolicy, Settings
from tests.integration.controlplane.conftest import connected
from tests.integration.controlplane.etcd_cluster import etcd_cluster
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import config_map, running_api

LEADER = f"{KEY_PREFIX}{ROLE}".encode()
MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def full_etcd_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EtcdServer]:
    """One that is full after 16 MiB."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"), f"--quota-backend-bytes={16 * MIB}")
    await server.start()
    yield server
    await server.kill()


async def has_history_at(etcd: Etcd, revision: int) -> bool:
    try:
        await etcd.range(keys.EPOCH, revision=revision)
    except Compacted:
        return False
    return True


async def test_history_is_kept_for_its_time_and_given_up_then(own_etcd: Etcd, clock: Clock) -> None:
    upkeep = Upkeep(own_etcd, "me", clock, history=300.0)
    first = await own_etcd.put(LEADER, b"me")
    await upkeep.look()
    second = await own_etcd.put(b"/test", b"")

    clock.now += 299
    await upkeep.look()
    assert await has_history_at(own_etcd, first)
    assert upkeep.observed.compactions == 0

    third = await own_etcd.put(b"/test", b"")
    clock.now += 1
    await upkeep.look()
    await upkeep.look()
    assert await own_etcd.compacted_revision(LEADER) == first
    assert upkeep.observed.compactions == 1
    assert await has_history_at(own_etcd, second)

    clock.now += 299
    await upkeep.look()
    assert await own_etcd.compacted_revision(LEADER) == second
    assert await has_history_at(own_etcd, third)


async def test_a_new_leader_takes_nothing_for_old_that_it_has_not_seen_for_long(own_etcd: Etcd, clock: Clock) -> None:
    await own_etcd.put(LEADER, b"old")
    old = Upkeep(own_etcd, "old", clock, history=300.0)
    await old.look()
    clock.now += 250
    revision = await own_etcd.put(LEADER, b"new")
    new = Upkeep(own_etcd, "new", clock, history=300.0)
    await new.look()

    clock.now += 250
    await old.look()
    await new.look()
    assert await own_etcd.compacted_revision(LEADER) == 0

    clock.now += 50
    await new.look()
    assert await own_etcd.compacted_revision(LEADER) == revision


async def test_two_leaders_at_once_do_no_harm(own_etcd: Etcd, clock: Clock) -> None:
    both = [Upkeep(own_etcd, "me", clock, history=300.0) for _ in range(2)]
    revision = await own_etcd.put(LEADER, b"me")
    for upkeep in both:
        await upkeep.look()
    await own_etcd.put(LEADER, b"me")
    clock.now += 300

    await asyncio.gather(*(upkeep.look() for upkeep in both))

    assert await own_etcd.compacted_revision(LEADER) == revision
    assert sum(upkeep.observed.compactions for upkeep in both) == 1


async def test_a_store_that_was_filled_recovers_by_itself_once_objects_are_deleted(
    full_etcd_server: EtcdServer, clock: Clock
) -> None:
    async with (
        connected(full_etcd_server) as etcd,
        running_api(full_etcd_server.url) as api,
        Client.connect(api.endpoint, settings=Settings(retry=RetryPolicy.NEVER)) as client,
    ):
        # Nobody is elected, and nobody can be: a lease is a write.
        upkeep = Upkeep(etcd, "me", clock, history=300.0)
        names = await fill(client, "full")
        with pytest.raises(errors.StoreFull):
            await etcd.grant(3)

        async def relieved() -> bool:
            clock.now += 30
            await upkeep.look()
            return not await etcd.maintenance.alarms()

        # Room for what history took, and no more: the alarm comes back, and stays.
        await eventually(relieved, within=60)
        names += await fill(client, "fuller")
        clock.now += 10
        await upkeep.look()
        assert [alarm.alarm for alarm in await etcd.maintenance.alarms()] == [pb.NOSPACE]

        for name in names:
            await client.config_maps.delete(name, namespace="default")
        await eventually(relieved, within=60)
        await client.config_maps.create(config_map("fits-again", text="x" * 500_000))
        (member,) = await etcd.maintenance.members()
        assert member.status is not None
        assert member.status.dbSize < 4 * MIB


async def test_corrupt_data_is_told_and_never_called_well(
    own_etcd: Etcd, own_etcd_server: EtcdServer, clock: Clock
) -> None:
    async with running_api(own_etcd_server.url) as api:
        (member,) = await own_etcd.maintenance.members()
        async with grpc.aio.insecure_channel(member.address) as channel:
            request = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=member.id, alarm=pb.CORRUPT)
            await MaintenanceStub(channel).Alarm(request)
        upkeep = Upkeep(own_etcd, "me", clock, history=300.0)

        await upkeep.look()
        with pytest.raises(errors.Unavailable, match="corrupt"):
            await api.client.config_maps.create(config_map("a"))

        assert [alarm.alarm for alarm in upkeep.observed.alarms] == [pb.CORRUPT]
        assert [alarm.alarm for alarm in await own_etcd.maintenance.alarms()] == [pb.CORRUPT]
        status = await api.client.cluster_status()
        assert [(alarm.type, alarm.member_name) for alarm in status.alarms] == [("CORRUPT", "test")]


async def test_in_a_full_store_groups_of_writes_are_refused_as_single_ones_are_and_deletions_are_not(
    full_etcd_server: EtcdServer,
) -> None:
    async with connected(full_etcd_server) as etcd:
        with pytest.raises(errors.StoreFull):
            for number in range(100):
                await etcd.put(b"/test/%d" % number, b"x" * 1_000_000)
        committer = Committer(etcd)
        running = asyncio.create_task(committer.run())

        # What waits at the same moment goes together.
        puts = [Write([], {b"/test/%d" % number: b""}) for number in range(2)]
        refused = await asyncio.gather(*map(committer.commit, puts), return_exceptions=True)
        deletes = [Write([], deletes=[b"/test/%d" % number]) for number in range(2)]
        deleted = await asyncio.gather(*map(committer.commit, deletes))
        running.cancel()

        assert [type(each) for each in refused] == [errors.StoreFull, errors.StoreFull]
        assert deleted[0].succeeded
        assert deleted[0].revision == deleted[1].revision
        await asyncio.wait([running])


async def test_members_are_defragmented_one_a_look_the_leader_last_and_none_while_one_is_missing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As ordinary as the real threshold, and sooner reached.
    monkeypatch.setattr(plan, "_WORTH_BYTES", 4 * MIB)
    async with etcd_cluster() as cluster, Etcd.connect(cluster.urls) as etcd:
        await etcd.put(LEADER, b"me", timeout=30)
        upkeep = Upkeep(etcd, "me", clock, history=300.0)
        for _ in range(5):
            for number in range(20):
                revision = await etcd.put(b"/test/%d" % number, b"x" * 100_000)
        await etcd.compact(revision, physical=True)

        async def all_are_worth_it() -> bool:
            # Each member counts what a compaction has freed with the commits that follow it.
            await etcd.put(b"/test/commit", b"")
            members = await etcd.maintenance.members()
            return len(members) == 3 and all(map(plan.worth_it, members))

        await eventually(all_are_worth_it, within=60)

        absent = await cluster.follower()
        await absent.kill()
        await upkeep.look()
        assert upkeep.observed.defragmentations == {}
        assert any(member.error for member in upkeep.observed.members)
        await cluster.restart(absent)
        await eventually(all_are_worth_it, within=60)

        (leader,) = [member.id for member in await etcd.maintenance.members() if member.leads]
        done: list[int] = []
        async with asyncio.timeout(60):
            while len(done) < 3:
                before = dict(upkeep.observed.defragmentations)
                await upkeep.look()
                new = [member for member in upkeep.observed.defragmentations if member not in before]
                assert len(new) <= 1
                done += new
        assert done[-1] == leader
        assert set(upkeep.observed.defragmentations.values()) == {1}
        assert not any(map(plan.worth_it, await etcd.maintenance.members()))


async def fill(client: Client, prefix: str) -> list[str]:
    """Makes objects, several at a time, until the store takes no more; their names."""
    made: list[str] = []

    async def make(name: str) -> bool:
        try:
            await client.config_maps.create(config_map(name, text="x" * 300_000))
        except errors.StoreFull:
            return False
        made.append(name)
        return True

    for number in range(20):
        # Those that wait for each other go to etcd in one transaction.
        if not all(await asyncio.gather(*(make(f"{prefix}-{number}-{part}") for part in range(6)))):
            return made
    raise AssertionError("the store is larger than its quota")
