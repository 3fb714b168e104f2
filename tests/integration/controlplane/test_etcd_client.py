"""The client of etcd against a real server that is killed, frozen and compacted."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from controlplane.store import operations as op
from controlplane.store.api import etcd_pb2 as pb
from controlplane.store.endpoints import Compacted, LeaseLost
from controlplane.store.etcd import Etcd
from podwire import errors
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually, wire_to

PREFIX = b"/test/"
END = op.prefix_end(PREFIX)


async def written_reliably(etcd: Etcd, key: bytes, value: bytes) -> int:
    """Writes a key once, through outages: a write of unknown fate is looked up before it is sent again."""
    while True:
        try:
            answer = await etcd.txn([op.absent(key)], [op.put(key, value)], timeout=2.0)
            if answer.succeeded:
                return answer.header.revision
        except (errors.Unavailable, errors.Timeout):
            await asyncio.sleep(0.05)
        found = await reading_reliably(etcd, key)
        if found is not None:
            return found


async def reading_reliably(etcd: Etcd, key: bytes) -> int | None:
    while True:
        try:
            kv = await etcd.get(key)
            return kv.mod_revision if kv is not None else None
        except (errors.Unavailable, errors.Timeout):
            await asyncio.sleep(0.05)


async def keys_seen(etcd: Etcd, start_revision: int, count: int) -> list[bytes]:
    """The keys of the first `count` changes of a watch; changes come in order, and whole revisions at a time."""
    seen: list[bytes] = []
    last = 0
    async with aclosing(etcd.watch(PREFIX, END, start_revision=start_revision)) as watch:
        async for batch in watch:
            revisions = [event.kv.mod_revision for event in batch.events]
            assert revisions == sorted(revisions)
            assert revisions[0] > last
            assert revisions[-1] == batch.revision
            last = batch.revision
            seen += [event.kv.key for event in batch.events]
            if len(seen) >= count:
                break
    return seen


async def test_a_transaction_does_one_branch_and_says_which(etcd: Etcd) -> None:
    key = b"/txn/one"
    first = await etcd.txn([op.absent(key)], [op.put(key, b"1")], [op.read(key)])
    assert first.succeeded
    second = await etcd.txn([op.absent(key)], [op.put(key, b"2")], [op.read(key)])
    assert not second.succeeded
    assert second.responses[0].response_range.kvs[0].value == b"1"
    kv = await etcd.get(key)
    assert kv is not None
    assert kv.mod_revision == first.header.revision


async def test_nested_transactions_fail_alone(etcd: Etcd) -> None:
    await etcd.put(b"/nested/taken", b"")
    requests = [
        pb.RequestOp(request_txn=_create(b"/nested/taken")),
        pb.RequestOp(request_txn=_create(b"/nested/free")),
    ]
    answer = await etcd.txn([], requests)
    assert [response.response_txn.succeeded for response in answer.responses] == [False, True]


async def test_a_request_above_etcds_limit_has_an_error_of_its_own(etcd: Etcd) -> None:
    with pytest.raises(errors.TooLarge):
        await etcd.put(b"/large", b"x" * 2_000_000)


async def test_reads_move_on_from_a_member_that_is_not_there(etcd_server: EtcdServer) -> None:
    async with Etcd.connect(["http://127.0.0.1:1", etcd_server.url]) as client:
        assert await client.get(b"/nobody/wrote/this") is None


async def test_a_write_that_etcd_does_not_answer_is_reported_and_not_repeated(
    own_etcd: Etcd, own_etcd_server: EtcdServer
) -> None:
    await own_etcd.put(b"/a", b"")
    own_etcd_server.freeze()
    with pytest.raises(errors.Timeout):
        await own_etcd.put(b"/a", b"1", timeout=0.5)
    own_etcd_server.thaw()
    kv = await own_etcd.get(b"/a", timeout=15)
    assert kv is not None
    assert kv.version <= 2


async def test_a_live_watch_through_a_sigkill_of_etcd_loses_and_repeats_nothing(
    own_etcd: Etcd, own_etcd_server: EtcdServer
) -> None:
    start = await own_etcd.put(b"/other", b"")
    expected = [PREFIX + b"%06d" % number for number in range(600)]

    async def write() -> None:
        for key in expected:
            await written_reliably(own_etcd, key, b"v")

    async with asyncio.timeout(60), asyncio.TaskGroup() as owner:
        watching = owner.create_task(keys_seen(own_etcd, start + 1, len(expected)))
        writing = owner.create_task(write())
        for _ in range(2):
            await more_than(own_etcd, await count_of(own_etcd) + 100)
            await own_etcd_server.kill()
            await own_etcd_server.start()
        await writing
    assert await watching == expected


async def more_than(etcd: Etcd, count: int) -> None:
    async def enough() -> bool:
        return await count_of(etcd) > count

    await eventually(enough)


async def count_of(etcd: Etcd) -> int:
    while True:
        try:
            return (await etcd.range(PREFIX, END, keys_only=True)).count
        except (errors.Unavailable, errors.Timeout):
            await asyncio.sleep(0.05)


async def test_a_catch_up_of_20000_events_through_a_sigkill_loses_and_repeats_nothing(
    own_etcd: Etcd, own_etcd_server: EtcdServer
) -> None:
    expected = [PREFIX + b"%06d" % number for number in range(20_000)]
    # Of several keys each, so that revisions that must stay whole are among them.
    for at in range(0, len(expected), 50):
        await own_etcd.txn([], [op.put(key, b"v" * 100) for key in expected[at : at + 50]])
    seen: list[bytes] = []
    kills = 0
    async with asyncio.timeout(60), aclosing(own_etcd.watch(PREFIX, END, start_revision=1)) as watch:
        async for batch in watch:
            seen += [event.kv.key for event in batch.events]
            if len(seen) >= 5_000 * (kills + 1) and kills < 2:
                kills += 1
                await own_etcd_server.kill()
                await own_etcd_server.start()
            if len(seen) >= len(expected):
                break
    assert seen == expected


async def test_a_large_revision_arrives_whole(own_etcd: Etcd) -> None:
    keys = [PREFIX + b"%d" % number for number in range(10)]
    # 1.4 MB: more than etcd puts into a response, which it then sends in fragments.
    await own_etcd.txn([], [op.put(key, b"x" * 140_000) for key in keys])
    async with asyncio.timeout(20), aclosing(own_etcd.watch(PREFIX, END, start_revision=1)) as watch:
        batch = await anext(watch)
    assert [event.kv.key for event in batch.events] == keys


async def test_a_watch_of_a_compacted_revision_names_the_oldest_that_can_be_watched(own_etcd: Etcd) -> None:
    revisions = [await own_etcd.put(PREFIX + b"k", b"%d" % number) for number in range(10)]
    await own_etcd.compact(revisions[5])
    with pytest.raises(Compacted) as caught:
        await keys_seen(own_etcd, revisions[2], 1)
    assert caught.value.compact_revision == revisions[5]
    assert len(await keys_seen(own_etcd, revisions[5], 5)) == 5
    with pytest.raises(Compacted):
        await own_etcd.range(PREFIX, END, revision=revisions[2])


async def test_100_cancelled_watches_leave_none_behind(own_etcd: Etcd, own_etcd_server: EtcdServer) -> None:
    started = 0

    async def watch() -> None:
        nonlocal started
        async with aclosing(own_etcd.watch(PREFIX, END, start_revision=1)) as events:
            async for _ in events:
                started += 1

    await own_etcd.put(PREFIX + b"k", b"")
    tasks = [asyncio.create_task(watch()) for _ in range(100)]
    await eventually(lambda: started == 100)
    assert await own_etcd_server.watchers() == 100
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    async def gone() -> bool:
        return await own_etcd_server.watchers() == 0

    await eventually(gone)


async def test_a_lease_is_kept_while_etcd_answers_and_ends_with_its_revocation(etcd: Etcd) -> None:
    lease = await etcd.grant(1)
    keeping = asyncio.create_task(lease.keep())
    await etcd.put(b"/leased", b"", lease=lease.id)
    first = lease.deadline
    await eventually(lambda: lease.deadline > first + 1)
    assert await etcd.get(b"/leased") is not None
    await lease.revoke()
    with pytest.raises(LeaseLost):
        await keeping
    assert await etcd.get(b"/leased") is None


async def test_the_holder_of_a_lease_stops_before_its_key_is_gone(etcd: Etcd, etcd_server: EtcdServer) -> None:
    async with wire_to(etcd_server.url) as wire, Etcd.connect([wire.url]) as holder:
        lease = await holder.grant(2)
        made = await holder.put(b"/leased", b"", lease=lease.id)
        keeping = asyncio.create_task(lease.keep())
        wire.cut()
        async with asyncio.timeout(20), aclosing(etcd.watch(b"/leased", start_revision=made + 1)) as watch:
            await anext(watch)
        gone = asyncio.get_running_loop().time()
        with pytest.raises(LeaseLost):
            await keeping
        # By its own clock, whichever of the two this busy process has noticed first.
        assert lease.deadline <= gone


async def test_many_leases_are_renewed_on_one_stream(etcd: Etcd) -> None:
    renewals = etcd.renewals()
    running = asyncio.create_task(renewals.run())
    try:
        leases = [await etcd.grant(30) for _ in range(20)]
        before = [lease.deadline for lease in leases]
        await asyncio.gather(*(renewals.renew(lease) for lease in leases))
        assert all(lease.deadline > earlier for lease, earlier in zip(leases, before, strict=True))
        await leases[0].revoke()
        with pytest.raises(LeaseLost):
            await renewals.renew(leases[0])
        assert await etcd.adopt(leases[0].id) is None
        adopted = await etcd.adopt(leases[1].id)
        assert adopted is not None
        assert adopted.ttl == 30
    finally:
        running.cancel()
        await asyncio.wait([running])


def _create(key: bytes) -> pb.TxnRequest:
    return pb.TxnRequest(compare=[op.absent(key)], success=[op.put(key, b"")], failure=[op.read(key)])
