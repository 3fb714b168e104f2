"""Watches through the API: every change once and in order, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from controlplane.store import keys
from controlplane.store.etcd import Etcd
from podwire import errors, v1
from podwire.client import Client, RetryPolicy, Settings
from podwire.errors import from_rpc_error
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually, wire_to
from tests.integration.controlplane.replica import Api, config_map, pod, running_api

Seen = tuple[str, str]


class RawWatch:
    """One Watch call, with none of the client's help."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, v1.ConfigMapWatchResponse]) -> None:
        self.call = call

    async def read(self) -> v1.ConfigMapWatchResponse:
        try:
            async with asyncio.timeout(20):
                response: Any = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        assert response is not grpc.aio.EOF
        found: v1.ConfigMapWatchResponse = response
        return found


@asynccontextmanager
async def raw_watch(api: Api, **request: Any) -> AsyncIterator[RawWatch]:
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        method = channel.unary_stream(
            "/podwire.v1.ConfigMaps/Watch",
            request_serializer=v1.WatchRequest.SerializeToString,
            response_deserializer=v1.ConfigMapWatchResponse.FromString,
        )
        yield RawWatch(method(v1.WatchRequest(**request)))


async def test_a_list_and_a_watch_from_it_join_without_gap(client: Client, ns: str) -> None:
    await client.config_maps.create(config_map("before", ns))
    listed = await client.config_maps.list(namespace=ns)
    made = await client.config_maps.create(config_map("a", ns, k="1"))
    made.data["k"] = "2"
    changed = await client.config_maps.update(made)
    gone = await client.config_maps.delete("a", namespace=ns)
    events = client.config_maps.watch(
        namespace=ns, resource_version=listed.resource_version, epoch=listed.epoch, known=listed.items
    )
    async with asyncio.timeout(20), aclosing(events):
        got = [await anext(events) for _ in range(3)]
    assert [event.type for event in got] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [event.object.metadata.resource_version for event in got]
    assert versions[1:] == [changed.metadata.resource_version, gone.metadata.resource_version]
    assert versions == sorted(versions, key=int)
    assert got[1].object == changed


async def test_an_idle_watch_gets_bookmarks_that_move_with_other_kinds(api: Api, ns: str) -> None:
    async with raw_watch(api, namespace=ns, bookmark_interval_seconds=1) as watch:
        first = (await watch.read()).events[0]
        made = await api.client.pods.create(pod("a", ns))
        second = (await watch.read()).events[0]
    assert [first.type, second.type] == ["BOOKMARK", "BOOKMARK"]
    assert int(second.object.metadata.resource_version) >= int(made.metadata.resource_version)


async def test_initial_events_end_with_a_marked_bookmark(api: Api, ns: str) -> None:
    made = [await api.client.config_maps.create(config_map(name, ns)) for name in ("a", "b")]
    async with raw_watch(api, namespace=ns, send_initial_events=True) as watch:
        response = await watch.read()
        assert [event.type for event in response.events] == ["ADDED", "ADDED", "BOOKMARK"]
        assert [event.object for event in response.events[:2]] == made
        assert "podwire.io/initial-events-end" in response.events[2].object.metadata.annotations
        await api.client.config_maps.create(config_map("c", ns))
        assert [event.object.metadata.name for event in (await watch.read()).events] == ["c"]


async def test_objects_of_one_transaction_come_in_one_batch(api: Api, ns: str) -> None:
    async with raw_watch(api, namespace=ns, bookmark_interval_seconds=60) as watch:
        await watch.call.initial_metadata()
        await asyncio.gather(*(api.client.config_maps.create(config_map(f"c{n}", ns)) for n in range(40)))
        last, count = "", 0
        while count < 40:
            revisions = [event.object.metadata.resource_version for event in (await watch.read()).events]
            count += len(revisions)
            assert revisions[0] != last
            last = revisions[-1]


@pytest.mark.parametrize(
    ("request_fields", "error"),
    [
        ({"resource_version": "1"}, errors.HistoryLost),
        ({"resource_version": "999999999"}, errors.HistoryLost),
        ({"epoch": "another"}, errors.HistoryLost),
        ({"resource_version": "x"}, errors.Invalid),
        ({"label_selector": "a=b=c"}, errors.Invalid),
        ({"field_selector": "spec.nodeName=x"}, errors.Invalid),
    ],
    ids=str,
)
async def test_a_watch_that_cannot_be_served_says_why(
    own_etcd_server: EtcdServer, request_fields: dict[str, str], error: type[errors.PodwireError]
) -> None:
    async with Etcd.connect([own_etcd_server.url]) as etcd:
        await etcd.compact(await etcd.put(b"/before", b""))
    async with running_api(own_etcd_server.url) as api, raw_watch(api, **request_fields) as watch:
        with pytest.raises(error):
            await watch.read()


async def test_a_watcher_resumes_after_its_replica_was_replaced(own_etcd_server: EtcdServer) -> None:
    async with running_api(own_etcd_server.url) as first:
        listed = await first.client.config_maps.list()
        made = [await first.client.config_maps.create(config_map(f"c{n}")) for n in range(5)]
        await first.client.config_maps.delete("c0")
    request = {"resource_version": listed.resource_version, "epoch": listed.epoch}
    async with running_api(own_etcd_server.url) as second, raw_watch(second, **request) as watch:
        response = await watch.read()
    assert [event.type for event in response.events] == ["ADDED"] * 5 + ["DELETED"]
    assert [event.object for event in response.events[:5]] == made


async def test_a_watcher_that_does_not_read_is_ended_and_others_are_served(api: Api, ns: str) -> None:
    count = 24
    async with raw_watch(api, namespace=ns) as slow, raw_watch(api, namespace=ns) as quick:
        await slow.call.initial_metadata()
        await quick.call.initial_metadata()
        for number in range(count):
            await api.client.config_maps.create(config_map(f"c{number}", ns, data="x" * 1_000_000))
            assert [event.object.metadata.name for event in (await quick.read()).events] == [f"c{number}"]
        with pytest.raises(errors.SlowWatcher):
            for _ in range(count):
                await slow.read()
    for number in range(count):
        await api.client.config_maps.delete(f"c{number}", namespace=ns)


async def followed(client: Client, expected: int, started: asyncio.Event) -> list[Seen]:
    """The changes of config maps until `expected` objects were deleted."""
    seen: list[Seen] = []
    listed = await client.config_maps.list()
    events = client.config_maps.watch(resource_version=listed.resource_version, epoch=listed.epoch, known=listed.items)
    started.set()
    deleted = 0
    async with aclosing(events):
        async for event in events:
            if event.type != "BOOKMARK":
                seen.append((event.type, event.object.metadata.name))
                deleted += event.type == "DELETED"
            if deleted == expected:
                break
    return seen


async def until_done(write: Any) -> Any:
    """A write that can be repeated, through outages."""
    while True:
        try:
            return await write()
        except (errors.AlreadyExists, errors.NotFound):
            return None
        except (errors.Unavailable, errors.Timeout):
            await asyncio.sleep(0.05)


async def test_kills_of_etcd_and_a_replaced_replica_lose_and_repeat_no_event(own_etcd_server: EtcdServer) -> None:
    count = 150
    names = [f"c{number:03}" for number in range(count)]
    settings = Settings(RetryPolicy(patience=20.0))
    async with (
        asyncio.timeout(120),
        running_api(own_etcd_server.url) as staying,
        running_api(own_etcd_server.url) as leaving,
        Client.connect([leaving.endpoint, staying.endpoint], settings=settings) as client,
    ):
        started = asyncio.Event()
        following = asyncio.create_task(followed(client, count, started))
        await started.wait()
        await _make_and_delete(staying.client, names[:50])
        await own_etcd_server.kill()
        await own_etcd_server.start()
        await _make_and_delete(staying.client, names[50:100])
        # The replica that the watcher is connected to stops in the middle of more writes.
        writing = asyncio.create_task(_make_and_delete(staying.client, names[100:]))
        half = staying.replica.cache.revision + 50
        await eventually(lambda: staying.replica.cache.revision > half)
        await leaving.stop()
        await writing
        seen = await following
    per_name = {name: [kind for kind, of in seen if of == name] for name in names}
    assert all(kinds == ["ADDED", "DELETED"] for kinds in per_name.values()), per_name


async def _make_and_delete(client: Client, names: list[str]) -> None:
    for name in names:
        await until_done(lambda name=name: client.config_maps.create(config_map(name)))
        await until_done(lambda name=name: client.config_maps.delete(name))


async def test_a_compaction_while_a_replica_is_cut_off_ends_in_one_new_list(own_etcd_server: EtcdServer) -> None:
    async with (
        running_api(own_etcd_server.url) as healthy,
        wire_to(own_etcd_server.url) as wire,
        running_api(wire.url) as cut,
        raw_watch(cut) as watch,
    ):
        await watch.call.initial_metadata()
        for name in ("a", "b"):
            await healthy.client.config_maps.create(config_map(name))
        assert (await watch.read()).events
        wire.cut()
        for number in range(10):
            await healthy.client.config_maps.create(config_map(f"missed{number}"))
        async with Etcd.connect([own_etcd_server.url]) as etcd:
            await etcd.compact(healthy.replica.cache.revision)
        await wire.sever()
        wire.mend()
        with pytest.raises(errors.HistoryLost):
            while True:
                await watch.read()
        listed = await cut.client.config_maps.list()
        assert len(listed.items) == 12
        assert cut.replica.cache.starts == 2


async def test_a_restored_store_has_another_epoch_and_everybody_lists_again(own_etcd_server: EtcdServer) -> None:
    async with running_api(own_etcd_server.url) as api, Etcd.connect([own_etcd_server.url]) as etcd:
        await api.client.config_maps.create(config_map("a"))
        before = await api.client.config_maps.list()
        async with raw_watch(api) as watch:
            await watch.call.initial_metadata()
            await etcd.put(keys.EPOCH, b"restored")
            with pytest.raises(errors.HistoryLost):
                await watch.read()
        after = await api.client.config_maps.list()
        assert (before.epoch != "restored", after.epoch) == (True, "restored")
        assert after.items == before.items


async def test_writes_of_others_in_the_same_etcd_do_not_make_readers_wait(own_etcd_server: EtcdServer) -> None:
    async with running_api(own_etcd_server.url) as api, Etcd.connect([own_etcd_server.url]) as etcd:
        await etcd.put(b"/somebody/else", b"")
        async with asyncio.timeout(5):
            await api.client.config_maps.list()
        # The proof was a write inside the watched keys; until the next strange one it is not needed again.
        assert await etcd.get(keys.CLOCK) is not None
