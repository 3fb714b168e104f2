"""Objects through the API: made, changed, deleted, by many at once."""

from __future__ import annotations

import asyncio
import json

import grpc.aio
import pytest

from controlplane.store.etcd import Etcd
from podwire import errors, kinds, v1
from podwire.client import Client, Fence
from tests.integration.controlplane.network import eventually
from tests.integration.controlplane.replica import Api, config_map, namespace, pod


async def test_an_object_is_made_read_changed_and_deleted(client: Client, ns: str) -> None:
    made = await client.config_maps.create(config_map("a", ns, k="1"))
    assert made.metadata.uid
    assert made.metadata.creation_timestamp.seconds
    assert await client.config_maps.get("a", namespace=ns) == made
    made.data["k"] = "2"
    changed = await client.config_maps.update(made)
    assert int(changed.metadata.resource_version) > int(made.metadata.resource_version)
    assert changed.metadata.uid == made.metadata.uid
    gone = await client.config_maps.delete("a", namespace=ns)
    assert int(gone.metadata.resource_version) > int(changed.metadata.resource_version)
    with pytest.raises(errors.NotFound):
        await client.config_maps.get("a", namespace=ns)


async def test_an_update_of_a_stale_version_conflicts(client: Client, ns: str) -> None:
    first = await client.config_maps.create(config_map("a", ns, k="1"))
    second = v1.ConfigMap()
    second.CopyFrom(first)
    second.data["k"] = "2"
    await client.config_maps.update(second)
    first.data["k"] = "3"
    with pytest.raises(errors.Conflict):
        await client.config_maps.update(first)
    first.metadata.resource_version = ""
    assert (await client.config_maps.update(first)).data["k"] == "3"


async def test_an_update_that_changes_nothing_writes_nothing(client: Client, ns: str) -> None:
    made = await client.config_maps.create(config_map("a", ns, k="1"))
    assert await client.config_maps.update(made) == made


async def test_of_equal_creates_at_once_exactly_one_wins(client: Client, second_api: Api, ns: str) -> None:
    clients = [client, second_api.client] * 10
    results = await asyncio.gather(
        *(c.config_maps.create(config_map("a", ns, k=str(n))) for n, c in enumerate(clients)), return_exceptions=True
    )
    won = [result for result in results if isinstance(result, v1.ConfigMap)]
    assert len(won) == 1
    assert all(isinstance(result, errors.AlreadyExists) for result in results if result is not won[0])
    assert await client.config_maps.get("a", namespace=ns) == won[0]


async def test_no_update_is_lost_among_concurrent_ones(client: Client, second_api: Api, ns: str) -> None:
    await client.config_maps.create(config_map("a", ns, n="0"))

    async def count_up(of: Client) -> None:
        done = 0
        while done < 5:
            current = await of.config_maps.get("a", namespace=ns)
            current.data["n"] = str(int(current.data["n"]) + 1)
            try:
                await of.config_maps.update(current)
                done += 1
            except errors.Conflict:
                pass

    await asyncio.gather(*(count_up(c) for c in [client, second_api.client] * 4))
    assert (await client.config_maps.get("a", namespace=ns)).data["n"] == "40"


async def test_many_writes_at_once_share_transactions_and_each_gets_its_own_answer(client: Client, ns: str) -> None:
    await client.config_maps.create(config_map("m5", ns, k="taken"))
    results = await asyncio.gather(
        *(client.config_maps.create(config_map(f"m{n}", ns, k=str(n))) for n in range(100)), return_exceptions=True
    )
    refused = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
    assert refused == [5]
    assert isinstance(results[5], errors.AlreadyExists)
    revisions = {r.metadata.resource_version for r in results if isinstance(r, v1.ConfigMap)}
    assert len(revisions) < 99
    listed = {item.metadata.name: item for item in (await client.config_maps.list(namespace=ns)).items}
    assert all(listed[r.metadata.name] == r for r in results if isinstance(r, v1.ConfigMap))


async def test_all_that_is_wrong_is_said_at_once_and_nothing_is_stored(client: Client, ns: str) -> None:
    bad = pod("web", ns)
    bad.metadata.labels["x y"] = "z"
    bad.spec.containers[0].image = ""
    bad.spec.restart_policy = "Sometimes"
    with pytest.raises(errors.Invalid) as caught:
        await client.pods.create(bad)
    paths = {error.path for error in caught.value.errors}
    assert {"spec.containers[0].image", "spec.restartPolicy"} <= paths
    assert any(path.startswith("metadata.labels") for path in paths)
    assert (await client.pods.list(namespace=ns)).items == []


async def test_an_object_that_is_too_large_is_named(client: Client, ns: str) -> None:
    with pytest.raises(errors.TooLarge, match=f"{ns}/big") as caught:
        await client.pods.create(_large_pod(ns))
    assert caught.value.metadata["key"] == f"{ns}/big"


async def test_a_generated_name_is_unique(client: Client, ns: str) -> None:
    made = pod("", ns)
    made.metadata.generate_name = "web-"
    names = {p.metadata.name for p in await asyncio.gather(*(client.pods.create(made) for _ in range(20)))}
    assert len(names) == 20
    assert all(name.startswith("web-") for name in names)


async def test_a_dry_run_defaults_and_validates_and_stores_nothing(client: Client, ns: str) -> None:
    tried = await client.pods.create(pod("a", ns), dry_run=True)
    assert tried.spec.restart_policy == "Always"
    with pytest.raises(errors.NotFound):
        await client.pods.get("a", namespace=ns)
    made = await client.pods.create(pod("a", ns))
    made.metadata.labels["x"] = "y"
    assert (await client.pods.update(made, dry_run=True)).metadata.labels["x"] == "y"
    assert not (await client.pods.get("a", namespace=ns)).metadata.labels
    with pytest.raises(errors.AlreadyExists):
        await client.pods.create(pod("a", ns), dry_run=True)


async def test_status_and_spec_are_written_separately(client: Client, ns: str) -> None:
    made = await client.pods.create(pod("a", ns))
    made.status.phase = "Running"
    made.metadata.labels["x"] = "y"
    updated = await client.pods.update(made)
    assert updated.status.phase == "Pending"
    updated.status.phase = "Running"
    updated.metadata.labels["x"] = "z"
    after = await client.pods.update_status(updated)
    assert (after.status.phase, after.metadata.labels["x"]) == ("Running", "y")
    assert after.metadata.generation == 1


async def test_immutable_fields_are_refused(client: Client, ns: str) -> None:
    made = await client.pods.create(pod("a", ns))
    made.spec.node_name = "n1"
    made.spec.containers[0].command.append("sleep")
    with pytest.raises(errors.Invalid):
        await client.pods.update(made)


async def test_a_namespace_that_is_missing_or_going_takes_nothing(client: Client, second_api: Api) -> None:
    with pytest.raises(errors.NotFound, match="nowhere"):
        await client.pods.create(pod("a", "nowhere"))
    await client.namespaces.create(namespace("going"))
    await second_api.client.pods.create(pod("a", "going"))
    marked = await second_api.client.namespaces.delete("going")
    assert marked.status.phase == "Terminating"
    with pytest.raises(errors.PreconditionFailed):
        await client.pods.create(pod("b", "going"))
    with pytest.raises(errors.PreconditionFailed, match="not empty"):
        await client.namespaces.delete("going", grace_period_seconds=0)
    await client.pods.delete("a", namespace="going")
    await client.namespaces.delete("going", grace_period_seconds=0)
    with pytest.raises(errors.NotFound):
        await client.namespaces.get("going")


async def test_creates_and_the_end_of_their_namespace_do_not_cross(client: Client, second_api: Api) -> None:
    await client.namespaces.create(namespace("crossing"))

    async def create_until_refused(number: int) -> int:
        of = (client, second_api.client)[number % 2]
        made = 0
        while True:
            try:
                await of.config_maps.create(config_map(f"c{number}-{made}", "crossing"))
            except (errors.NotFound, errors.PreconditionFailed):
                return made
            made += 1

    async def end() -> None:
        marked = await client.namespaces.delete("crossing")
        while True:
            left = await client.config_maps.list(namespace="crossing")
            assert all(int(o.metadata.resource_version) < int(marked.metadata.resource_version) for o in left.items)
            for item in left.items:
                await client.config_maps.delete(item.metadata.name, namespace="crossing")
            try:
                await client.namespaces.delete("crossing", grace_period_seconds=0)
                return
            except errors.PreconditionFailed:
                pass

    creating = [asyncio.create_task(create_until_refused(number)) for number in range(8)]
    await eventually(lambda: all(f"crossing/c{number}-0" in _known(second_api) for number in range(8)))
    await end()
    assert all(made > 0 for made in await asyncio.gather(*creating))
    assert (await client.config_maps.list(namespace="crossing")).items == []


async def test_a_write_is_fenced_by_the_election_that_it_names(api: Api, etcd: Etcd, ns: str) -> None:
    key = f"/podwire/elections/{ns}"
    revision = await etcd.put(key.encode(), b"")
    async with Client.connect(api.endpoint, fence=Fence(key, revision)) as leader:
        made = await leader.config_maps.create(config_map("a", ns, k="1"))
        made.data["k"] = "2"
        made = await leader.config_maps.update(made)
        await etcd.delete(key.encode())
        await etcd.put(key.encode(), b"")
        made.data["k"] = "3"
        for write in (leader.config_maps.update(made), leader.config_maps.create(config_map("b", ns))):
            with pytest.raises(errors.Fenced):
                await write
        with pytest.raises(errors.Fenced):
            await leader.config_maps.delete("a", namespace=ns)
    assert (await api.client.config_maps.get("a", namespace=ns)).data["k"] == "2"


async def test_reads_of_any_replica_see_what_was_written_through_another(
    client: Client, second_api: Api, ns: str
) -> None:
    for number in range(20):
        await client.config_maps.create(config_map(f"c{number}", ns))
        await second_api.client.config_maps.get(f"c{number}", namespace=ns)
        listed = await second_api.client.config_maps.list(namespace=ns)
        assert len(listed.items) == number + 1


async def test_a_pod_is_bound_once(client: Client, second_api: Api, ns: str) -> None:
    made = await client.pods.create(pod("a", ns))
    results = await asyncio.gather(
        *(c.pods.bind("a", ns, made.metadata.uid, f"n{n}") for n, c in enumerate([client, second_api.client] * 4)),
        return_exceptions=True,
    )
    bound = [result for result in results if isinstance(result, v1.Pod)]
    assert len(bound) == 1
    assert (await client.pods.get("a", namespace=ns)).spec.node_name == bound[0].spec.node_name


async def test_a_running_pod_is_marked_and_then_removed_by_its_agent(client: Client, ns: str) -> None:
    made = await client.pods.create(pod("a", ns))
    await client.pods.bind("a", ns, made.metadata.uid, "n1")
    marked = await client.pods.delete("a", namespace=ns)
    assert marked.metadata.HasField("deletion_timestamp")
    with pytest.raises(errors.PreconditionFailed):
        await client.pods.delete("a", namespace=ns, uid="another", grace_period_seconds=0)
    await client.pods.delete("a", namespace=ns, uid=made.metadata.uid, grace_period_seconds=0)
    with pytest.raises(errors.NotFound):
        await client.pods.get("a", namespace=ns)


async def test_events_hang_on_shared_leases_of_an_hour(client: Client, etcd: Etcd, ns: str) -> None:
    leases = set()
    for number in range(3):
        event = v1.Event(metadata=v1.ObjectMeta(name=f"e{number}", namespace=ns), reason="Tested", type="Normal")
        event.involved_object.kind, event.involved_object.name = "Pod", "a"
        event.involved_object.namespace = ns
        made = await client.events.create(event)
        made.count = 2
        await client.events.update(made)
        kv = await etcd.get(f"/podwire/events/{ns}/e{number}".encode())
        assert kv is not None
        leases.add(kv.lease)
    assert len(leases) == 1
    lease = await etcd.adopt(leases.pop())
    assert lease is not None
    assert lease.ttl >= 3600


async def test_lists_come_in_consistent_pages(api: Api, ns: str) -> None:
    client = api.client
    for number in range(10):
        await client.config_maps.create(config_map(f"c{number}", ns))
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        call = channel.unary_unary(
            "/podwire.v1.ConfigMaps/List",
            request_serializer=v1.ListRequest.SerializeToString,
            response_deserializer=v1.ConfigMapList.FromString,
        )
        request = v1.ListRequest(namespace=ns, limit=4)
        seen, revisions = [], set()
        while True:
            page = await call(request)
            seen += [item.metadata.name for item in page.items]
            revisions.add(page.metadata.resource_version)
            following = getattr(page.metadata, "continue")
            if not following:
                break
            assert page.metadata.remaining_item_count == 10 - len(seen)
            setattr(request, "continue", following)
            await client.config_maps.delete(seen[-1], namespace=ns)
            await client.config_maps.delete(f"c{len(seen)}", namespace=ns)
    assert seen == [f"c{number}" for number in range(10)]
    assert len(revisions) == 1


async def test_large_lists_are_cut_and_put_together_by_the_client(client: Client, ns: str) -> None:
    for number in range(5):
        await client.config_maps.create(config_map(f"c{number}", ns, data="x" * 900_000))
    listed = await client.config_maps.list(namespace=ns)
    assert [item.metadata.name for item in listed.items] == [f"c{number}" for number in range(5)]


@pytest.mark.parametrize("method", ["Get", "List", "Create", "Update", "Apply", "Delete", "UpdateStatus"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(api: Api, method: str) -> None:
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(channel, f"/podwire.v1.Pods/{method}")(b"\x0a\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[", b"[]", b"[" * 200_000, b'{"kind":"ConfigMap"}', b"\xff"],
    ids=lambda manifest: repr(manifest[:20]),
)
async def test_a_manifest_that_is_none_is_an_invalid_argument(api: Api, manifest: bytes) -> None:
    request = v1.ApplyRequest(manifest=manifest).SerializeToString()
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(channel, "/podwire.v1.ConfigMaps/Apply")(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_node_sessions_cannot_be_written(api: Api) -> None:
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(channel, "/podwire.v1.NodeSessions/Create")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_apply_makes_changes_and_leaves(client: Client, ns: str) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"x": "1"}},
        "data": {"a": "1", "b": "2"},
    }
    first = await client.config_maps.apply(manifest, namespace=ns)
    assert first.result == "created"
    assert (await client.config_maps.apply(manifest, namespace=ns)).result == "unchanged"
    theirs = await client.config_maps.get("a", namespace=ns)
    theirs.data["c"] = "3"
    await client.config_maps.update(theirs)
    assert (await client.config_maps.apply(manifest, namespace=ns)).result == "unchanged"
    changed = await client.config_maps.apply({**manifest, "data": {"a": "9"}}, namespace=ns)
    assert changed.result == "configured"
    assert dict(changed.object.data) == {"a": "9", "c": "3"}
    assert await client.config_maps.get("a", namespace=ns) == changed.object
    assert changed.object.metadata.managed_fields[0].manager == "podctl"


async def test_applies_of_one_manager_at_once_make_one_object(client: Client, second_api: Api, ns: str) -> None:
    def manifest(number: int) -> dict[str, object]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"n": str(number)}}

    applied = await asyncio.gather(
        *(c.config_maps.apply(manifest(n), namespace=ns) for n, c in enumerate([client, second_api.client] * 8))
    )
    assert [a.result for a in applied].count("created") == 1
    last = max(applied, key=lambda a: int(a.object.metadata.resource_version)).object
    assert await client.config_maps.get("a", namespace=ns) == last


async def test_a_deployment_that_is_applied_again_is_unchanged(client: Client, ns: str) -> None:
    labels = {"app": "web"}
    probe = {"httpGet": {"path": "/", "port": "http"}}
    container = {"name": "web", "image": "nginx", "ports": [{"containerPort": 80, "name": "http"}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{**container, "livenessProbe": probe}]}}
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
    first = await client.deployments.apply(manifest, namespace=ns)
    assert first.object.spec.HasField("replicas")
    assert (await client.deployments.apply(manifest, namespace=ns)).result == "unchanged"
    del template["spec"]["containers"][0]["livenessProbe"]  # type: ignore[index]
    changed = await client.deployments.apply(manifest, namespace=ns)
    assert changed.result == "configured"
    assert changed.object.metadata.generation == 2
    assert not changed.object.spec.template.spec.containers[0].HasField("liveness_probe")


async def test_an_apply_with_unknown_fields_names_them_all(client: Client, ns: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "nmae": 1}, "dta": {}, "data": []}
    with pytest.raises(errors.Invalid) as caught:
        await client.config_maps.apply(json.loads(json.dumps(manifest)), namespace=ns)
    assert {error.path for error in caught.value.errors} == {"metadata.nmae", "dta", "data"}


def _known(api: Api) -> set[str]:
    """The keys of the config maps that a replica's cache has."""
    return set(api.replica.cache.of(kinds.CONFIG_MAP).entries)


def raw(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method called with bytes, which need be no message."""
    return channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)


def _large_pod(ns: str) -> v1.Pod:
    made = pod("big", ns)
    for number in range(2_000):
        made.spec.containers[0].env.add(name=f"V{number}", value="x" * 1_000)
    return made
