"""The leases that events hang on: few, shared by replicas and their successors, and replaced where they are lost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from controlplane.services.event_leases import EventLeases
from controlplane.store import keys
from controlplane.store.etcd import Etcd
from podwire import errors, v1
from podwire.client import Client, RetryPolicy, Settings
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import running_api


async def leases_of(server: EtcdServer) -> list[int]:
    """All that there are: "found 1 leases", then their ids."""
    listing = await asyncio.create_subprocess_exec(
        "etcdctl", f"--endpoints={server.url}", "lease", "list", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await listing.communicate()
    return [int(line, 16) for line in out.decode().split("\n")[1:] if line]


async def test_replicas_and_their_successors_share_a_lease(own_etcd: Etcd, own_etcd_server: EtcdServer) -> None:
    many = [EventLeases(own_etcd) for _ in range(8)]

    chosen = await asyncio.gather(*(leases.lease_id() for leases in many for _ in range(3)))

    assert len(set(chosen)) == 1
    assert await EventLeases(own_etcd).lease_id() == chosen[0]
    # Those who were not the first have taken theirs back.
    assert await leases_of(own_etcd_server) == [chosen[0]]


async def test_a_lease_that_gets_too_short_is_replaced_and_what_hangs_on_it_goes_with_it(own_etcd: Etcd) -> None:
    leases = EventLeases(own_etcd, event_seconds=2, shared_seconds=1)
    first = await leases.lease_id()
    await own_etcd.put(b"/test/event", b"", lease=first)
    written = (await own_etcd.range(b"/test/event")).revision

    async def is_replaced() -> bool:
        return await leases.lease_id() != first

    await eventually(is_replaced)
    assert await own_etcd.get(b"/test/event") is not None
    async with asyncio.timeout(20), aclosing(own_etcd.watch(b"/test/event", start_revision=written + 1)) as changes:
        async for batch in changes:
            assert [event.type for event in batch.events] == [1]
            break


async def test_a_lease_that_was_revoked_is_replaced_once_by_all(own_etcd: Etcd, own_etcd_server: EtcdServer) -> None:
    both = [EventLeases(own_etcd) for _ in range(2)]
    old = await both[0].lease_id()
    assert await both[1].lease_id() == old
    lease = await own_etcd.adopt(old)
    assert lease is not None
    await lease.revoke()

    for leases in both:
        leases.lost(old)
        # Whoever hears of it late takes nothing away from the new one.
        await leases.lease_id()
        leases.lost(old)

    assert await both[0].lease_id() == await both[1].lease_id() != old
    assert len(await leases_of(own_etcd_server)) == 1


async def test_events_are_written_again_after_their_lease_was_lost_and_after_etcd_was_away(
    own_etcd: Etcd, own_etcd_server: EtcdServer
) -> None:
    async with (
        running_api(own_etcd_server.url) as api,
        Client.connect(api.endpoint, settings=Settings(retry=RetryPolicy.NEVER)) as client,
    ):

        async def tell(name: str) -> bool:
            event = v1.Event(metadata=v1.ObjectMeta(name=name, namespace="default"), reason="Test", type="Normal")
            event.involved_object.kind = "Pod"
            event.involved_object.name = "web"
            event.involved_object.namespace = "default"
            try:
                await client.events.create(event)
            except (errors.Unavailable, errors.Timeout):
                return False
            return True

        assert await tell("first")
        (lease_id,) = await leases_of(own_etcd_server)
        lease = await own_etcd.adopt(lease_id)
        assert lease is not None
        await lease.revoke()
        assert await tell("second")

        await own_etcd_server.kill()
        assert not await tell("lost")
        await own_etcd_server.start()
        await eventually(lambda: tell("third"))
        # The lease outlives etcd's restart and goes on to be used.
        stored = await own_etcd.get(b"/podwire/events/default/third")
        shared = await own_etcd.get(keys.EVENT_LEASE)
        assert stored is not None
        assert shared is not None
        assert [stored.lease] == [shared.lease] == await leases_of(own_etcd_server)
