"""Lists at a revision, in pages, by selectors; what the cache has forgotten is read from etcd."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from controlplane.store.etcd import Etcd
from podwire import errors, kinds, v1
from podwire.client import Client
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.replica import Api, config_map, pod, running_api
from tests.integration.controlplane.test_objects import raw


class Lister:
    """Lists of config maps as they are on the wire."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = raw(channel, "/podwire.v1.ConfigMaps/List")

    async def page(self, **fields: Any) -> v1.ConfigMapList:
        try:
            answer = await self._call(v1.ListRequest(**fields).SerializeToString())
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from None
        return v1.ConfigMapList.FromString(answer)


@asynccontextmanager
async def listing(api: Api) -> AsyncIterator[Lister]:
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        yield Lister(channel)


def names(page: v1.ConfigMapList) -> list[str]:
    return [item.metadata.name for item in page.items]


def forget(api: Api) -> None:
    """The cache of config maps loses its history, as a busy one does."""
    cache = api.replica.cache
    cache.of(kinds.CONFIG_MAP).floor = cache.revision


def following(page: v1.ConfigMapList) -> str:
    token: str = getattr(page.metadata, "continue")
    return token


async def test_a_list_at_an_exact_revision_shows_what_was_then(client: Client, ns: str) -> None:
    await client.config_maps.create(config_map("a", ns, n="1"))
    then = await client.config_maps.create(config_map("b", ns, n="1"))
    version = then.metadata.resource_version
    await client.config_maps.patch("b", {"data": {"n": "2"}}, namespace=ns)
    await client.config_maps.delete("a", namespace=ns)
    await client.config_maps.create(config_map("c", ns))
    listed = await client.config_maps.list(namespace=ns, resource_version=version, exact=True)
    assert [(o.metadata.name, o.data["n"]) for o in listed.items] == [("a", "1"), ("b", "1")]
    assert listed.resource_version == version
    newer = await client.config_maps.list(namespace=ns, resource_version=version)
    assert [o.metadata.name for o in newer.items] == ["b", "c"]


@pytest.mark.parametrize("forgotten", [False, True])
async def test_pages_go_on_at_their_revision_whatever_the_cache_remembers(api: Api, ns: str, forgotten: bool) -> None:
    client = api.client
    for number in range(9):
        await client.config_maps.create(config_map(f"c{number}", ns))
    async with listing(api) as lister:
        page = await lister.page(namespace=ns, limit=4)
        seen, revision = names(page), page.metadata.resource_version
        await client.config_maps.delete("c5", namespace=ns)
        await client.config_maps.create(config_map("c55", ns))
        while token := following(page):
            if forgotten:
                forget(api)
            page = await lister.page(namespace=ns, limit=4, **{"continue": token})
            assert page.metadata.resource_version == revision
            seen += names(page)
            if following(page):
                assert page.metadata.remaining_item_count == 9 - len(seen)
    assert seen == [f"c{number}" for number in range(9)]


async def test_a_forgotten_revision_is_listed_by_the_same_selectors(api: Api, ns: str) -> None:
    for number in range(4):
        made = config_map(f"c{number}", ns)
        made.metadata.labels["odd"] = str(number % 2)
        made = await api.client.config_maps.create(made)
    await api.client.config_maps.delete_collection(namespace=ns)
    forget(api)
    listed = await api.client.config_maps.list(
        namespace=ns, label_selector="odd=1", resource_version=made.metadata.resource_version, exact=True
    )
    assert [o.metadata.name for o in listed.items] == ["c1", "c3"]


async def test_a_compacted_page_or_revision_names_the_way_out(own_etcd_server: EtcdServer) -> None:
    async with running_api(own_etcd_server.url) as api, listing(api) as lister:
        for number in range(3):
            await api.client.config_maps.create(config_map(f"c{number}"))
        page = await lister.page(limit=1)
        await api.client.config_maps.create(config_map("later"))
        async with Etcd.connect([own_etcd_server.url]) as etcd:
            await etcd.compact(api.replica.cache.revision)
        forget(api)
        for request in (
            {"limit": 1, "continue": following(page)},
            {"resource_version": page.metadata.resource_version, "resource_version_match": "Exact"},
        ):
            with pytest.raises(errors.HistoryLost, match="list again from the start"):
                await lister.page(**request)
        assert len((await api.client.config_maps.list()).items) == 4


@pytest.mark.parametrize("match", ["", "NotOlderThan", "Exact"])
async def test_a_revision_that_is_not_there_yet_is_told_apart_from_one_that_is(api: Api, match: str) -> None:
    async with listing(api) as lister:
        with pytest.raises(errors.HistoryLost, match="has not reached revision"):
            await lister.page(resource_version=str(10**9), resource_version_match=match)


@pytest.mark.parametrize(
    "fields",
    [
        {"resource_version_match": "Exact"},
        {"resource_version_match": "NotOlderThan"},
        {"resource_version": "any", "resource_version_match": "Exact"},
        {"resource_version": "0", "resource_version_match": "Exact"},
        {"resource_version": "5", "resource_version_match": "exactly"},
        {"resource_version": "-1"},
        {"resource_version": "9" * 5000},
        {"resource_version": "٣"},
        {"limit": -1},
        {"continue": "x"},
        {"continue": base64.urlsafe_b64encode(b"[" * 100_000).decode()},
        *(
            {"continue": base64.urlsafe_b64encode(json.dumps(token).encode()).decode()}
            for token in (
                [0, "e", "a"],
                [-1, "e", "a"],
                [1, "e"],
                [1, "e", "\ud800"],
                [1, "e", 5],
                [float("inf"), "e", "a"],
            )
        ),
        {"label_selector": "a=b,"},
        {"label_selector": "a in (b"},
        {"field_selector": "data.x=1"},
    ],
    ids=lambda fields: str(fields)[:60],
)
async def test_a_list_that_makes_no_sense_is_invalid(api: Api, fields: dict[str, Any]) -> None:
    async with listing(api) as lister:
        with pytest.raises(errors.Invalid):
            await lister.page(**fields)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("spec.restartPolicy=Never", ["b"]),
        ("spec.schedulerName!=default-scheduler", ["b"]),
        ("spec.serviceAccountName=robot", ["b"]),
        ("spec.nodeName=n1", ["b"]),
        ("status.phase=Running,status.podIP=10.0.0.9", ["b"]),
        ("status.nominatedNodeName=", ["a", "b"]),
        ("spec.hostNetwork=true", []),
        ("metadata.name!=a", ["b"]),
    ],
)
async def test_pods_are_selected_by_the_fields_that_kubernetes_has(
    client: Client, ns: str, selector: str, expected: list[str]
) -> None:
    await client.pods.create(pod("a", ns))
    other = pod("b", ns, node="n1")
    other.spec.restart_policy, other.spec.scheduler_name, other.spec.service_account_name = "Never", "mine", "robot"
    other = await client.pods.create(other)
    other.status.phase, other.status.pod_ip = "Running", "10.0.0.9"
    await client.pods.update_status(other)
    listed = await client.pods.list(namespace=ns, field_selector=selector)
    assert [item.metadata.name for item in listed.items] == expected
