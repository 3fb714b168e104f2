"""Elections on a real etcd: one acts at a time, and whoever may have lost stops in time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from controlplane.election import KEY_PREFIX, LockedError, candidate, elected
from controlplane.store.endpoints import LeaseLost
from controlplane.store.etcd import Etcd
from controlplane.store.operations import absent, created_at, put
from tests.integration.controlplane.etcd_server import EtcdServer

TTL = 2


@pytest.fixture
def role() -> str:
    """An election of the test's own."""
    return f"test-{uuid4()}"


async def test_of_many_candidates_one_acts_at_a_time_and_each_gets_its_turn(etcd: Etcd, role: str) -> None:
    acting: set[str] = set()
    revisions: list[int] = []

    async def act(name: str) -> None:
        async with elected(etcd, role, name) as fence:
            acting.add(name)
            # Long enough for another to come in between, if it could.
            holder = await etcd.get(fence.key.encode())
            assert holder is not None
            assert (acting, holder.value) == ({name}, name.encode())
            revisions.append(fence.create_revision)
            acting.remove(name)

    async with asyncio.timeout(20), asyncio.TaskGroup() as owner:
        for number in range(8):
            owner.create_task(act(f"candidate-{number}"))
    assert len(revisions) == 8
    assert revisions == sorted(set(revisions))


async def test_a_killed_candidates_successor_does_not_wait_for_its_lease(etcd: Etcd, role: str) -> None:
    dead = await etcd.grant(60)
    await etcd.put(f"{KEY_PREFIX}{role}".encode(), b"me", lease=dead.id)

    async with asyncio.timeout(5), elected(etcd, role, "me"):
        pass


async def test_another_candidate_waits_for_the_lease_of_a_killed_one(etcd: Etcd, role: str) -> None:
    key = f"{KEY_PREFIX}{role}".encode()
    dead = await etcd.grant(TTL)
    await etcd.put(key, b"dead", lease=dead.id)

    async with asyncio.timeout(TTL + 5), elected(etcd, role, "alive"):
        holder = await etcd.get(key)
        assert holder is not None
        assert holder.value == b"alive"


async def test_a_late_write_of_a_former_holder_fails_the_compare(etcd: Etcd, role: str) -> None:
    async with elected(etcd, role, "first") as old:
        pass
    async with elected(etcd, role, "second") as new:
        late = await etcd.txn([created_at(old.key.encode(), old.create_revision)], [put(b"/test/late", b"")])
        timely = await etcd.txn(
            [created_at(new.key.encode(), new.create_revision), absent(f"/test/{role}".encode())],
            [put(f"/test/{role}".encode(), b"")],
        )

    assert not late.succeeded
    assert timely.succeeded


async def test_a_holder_that_loses_etcd_stops_before_its_lease_can_be_given_away(
    own_etcd_server: EtcdServer, role: str
) -> None:
    clock = asyncio.get_running_loop().time
    async with Etcd.connect([own_etcd_server.url]) as etcd:
        with pytest.RaisesGroup(LeaseLost):
            async with elected(etcd, role, "me", ttl=TTL):
                frozen_at = clock()
                own_etcd_server.freeze()
                try:
                    await asyncio.sleep(60)
                finally:
                    stopped_at = clock()
                    own_etcd_server.thaw()

    assert stopped_at - frozen_at <= TTL


async def test_a_holder_whose_lease_is_gone_stops(etcd: Etcd, role: str) -> None:
    with pytest.RaisesGroup(LeaseLost):
        async with asyncio.timeout(10), elected(etcd, role, "me", ttl=TTL) as fence:
            held = await etcd.get(fence.key.encode())
            assert held is not None
            lease = await etcd.adopt(held.lease)
            assert lease is not None
            await lease.revoke()
            await asyncio.sleep(60)


async def test_leaving_resigns_at_once(etcd: Etcd, role: str) -> None:
    async with elected(etcd, role, "me") as fence:
        pass

    assert await etcd.get(fence.key.encode()) is None


def test_a_run_folder_has_one_process_of_a_role(tmp_path: Path) -> None:
    with candidate(tmp_path, "scheduler"):
        with candidate(tmp_path, "controllers"):
            pass
        with pytest.raises(LockedError, match="--run-dir"), candidate(tmp_path, "scheduler"):
            pass


def test_the_next_process_in_a_run_folder_has_the_same_name(tmp_path: Path) -> None:
    with candidate(tmp_path, "scheduler") as first:
        pass
    with candidate(tmp_path, "scheduler") as second, candidate(tmp_path / "other", "scheduler") as other:
        assert second == first != other
