"""Patches, finalizers, dry runs and collections through the API, on a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import grpc.aio
import pytest

from podwire import errors, v1
from podwire.client import Client
from tests.integration.controlplane.replica import Api, config_map, namespace, pod, service
from tests.integration.controlplane.test_objects import raw

HOLD = "example.com/hold"


def held(name: str, ns: str, *finalizers: str, **data: str) -> v1.ConfigMap:
    made = config_map(name, ns, **data)
    made.metadata.finalizers.extend(finalizers or [HOLD])
    return made


def deployment(ns: str, name: str = "web") -> v1.Deployment:
    made = v1.Deployment(metadata=v1.ObjectMeta(name=name, namespace=ns))
    made.spec.selector.match_labels["app"] = name
    made.spec.template.metadata.labels["app"] = name
    made.spec.template.spec.containers.add(name="main", image="docker.io/library/busybox:1")
    return made


async def test_a_merge_patch_sets_what_it_names_and_removes_what_is_null(client: Client, ns: str) -> None:
    await client.config_maps.create(config_map("a", ns, x="1", y="2"))
    patched = await client.config_maps.patch("a", {"data": {"x": None, "z": "3"}}, namespace=ns)
    assert dict(patched.data) == {"y": "2", "z": "3"}
    assert await client.config_maps.get("a", namespace=ns) == patched


async def test_a_json_patch_runs_its_operations_and_is_all_or_nothing(client: Client, ns: str) -> None:
    await client.deployments.create(deployment(ns))
    image = "/spec/template/spec/containers/0/image"
    patched = await client.deployments.patch(
        "web",
        [
            {"op": "test", "path": image, "value": "docker.io/library/busybox:1"},
            {"op": "replace", "path": image, "value": "busybox:2"},
            {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
        ],
        namespace=ns,
    )
    assert patched.spec.template.spec.containers[0].image == "busybox:2"
    assert (patched.metadata.generation, dict(patched.metadata.labels)) == (2, {"a": "b"})
    with pytest.raises(errors.PreconditionFailed, match=r"patch\[1\] \(test /spec/replicas\): it is 1, not 7"):
        await client.deployments.patch(
            "web",
            [
                {"op": "remove", "path": "/metadata/labels"},
                {"op": "test", "path": "/spec/replicas", "value": 7},
            ],
            namespace=ns,
        )
    assert await client.deployments.get("web", namespace=ns) == patched


async def test_what_a_patch_makes_is_read_defaulted_and_validated_like_an_update(client: Client, ns: str) -> None:
    await client.deployments.create(deployment(ns))
    with pytest.raises(errors.Invalid, match="replicsa"):
        await client.deployments.patch("web", {"spec": {"replicsa": 1}}, namespace=ns)
    with pytest.raises(errors.Invalid, match=r"spec\.selector.*immutable"):
        await client.deployments.patch("web", {"spec": {"selector": {"matchLabels": {"app": "x"}}}}, namespace=ns)
    with pytest.raises(errors.Invalid, match=r"metadata\.name"):
        await client.deployments.patch("web", {"metadata": {"name": "other"}}, namespace=ns)
    defaulted = await client.deployments.patch("web", {"spec": {"replicas": None}}, namespace=ns)
    assert defaulted.spec.replicas == 1
    with pytest.raises(errors.NotFound):
        await client.deployments.patch("missing", {}, namespace=ns)


async def test_uid_and_version_in_a_patch_are_preconditions(client: Client, ns: str) -> None:
    first = await client.config_maps.create(config_map("a", ns))
    version = {"metadata": {"resourceVersion": first.metadata.resource_version, "uid": first.metadata.uid}}
    await client.config_maps.patch("a", {**version, "data": {"n": "1"}}, namespace=ns)
    with pytest.raises(errors.Conflict):
        await client.config_maps.patch("a", {**version, "data": {"n": "2"}}, namespace=ns)
    with pytest.raises(errors.PreconditionFailed):
        await client.config_maps.patch("a", {"metadata": {"uid": "other"}}, namespace=ns)
    assert (await client.config_maps.get("a", namespace=ns)).data["n"] == "1"


async def test_a_patch_of_the_status_changes_nothing_else_and_one_without_it_not_the_status(
    client: Client, ns: str
) -> None:
    await client.deployments.create(deployment(ns))
    change = {"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 3}, "status": {"replicas": 2}}
    of_status = await client.deployments.patch("web", change, namespace=ns, subresource="status")
    assert (of_status.status.replicas, of_status.spec.replicas, dict(of_status.metadata.labels)) == (2, 1, {})
    assert of_status.metadata.generation == 1
    change["status"] = {"replicas": 9}
    of_spec = await client.deployments.patch("web", change, namespace=ns)
    assert (of_spec.status.replicas, of_spec.spec.replicas, dict(of_spec.metadata.labels)) == (2, 3, {"a": "b"})


async def test_concurrent_patches_of_one_object_lose_nothing(client: Client, second_api: Api, ns: str) -> None:
    await client.config_maps.create(config_map("a", ns))
    clients = [client, second_api.client]
    await asyncio.gather(
        *(clients[n % 2].config_maps.patch("a", {"data": {f"k{n}": "1"}}, namespace=ns) for n in range(12))
    )
    assert len((await client.config_maps.get("a", namespace=ns)).data) == 12


@pytest.mark.parametrize(
    ("kind", "request_fields"),
    [
        ("ConfigMaps", {"type": "merge", "patch": b"["}),
        ("ConfigMaps", {"type": "merge", "patch": b"[]"}),
        ("ConfigMaps", {"type": "merge", "patch": b'{"a":' * 100_000}),
        ("ConfigMaps", {"type": "merge", "patch": b'{"data":' + b'{"a":' * 900 + b"1" + b"}" * 901}),
        ("ConfigMaps", {"type": "merge", "patch": b'{"data":{"a":NaN}}'}),
        ("ConfigMaps", {"type": "merge", "patch": b'{"\\ud800":1}'}),
        ("ConfigMaps", {"type": "merge", "patch": b"\xff"}),
        ("ConfigMaps", {"type": "json", "patch": b"{}"}),
        ("ConfigMaps", {"type": "json", "patch": b'[{"op":"replace","path":"","value":1}]'}),
        ("ConfigMaps", {"type": "json", "patch": b'[{"op":"remove","path":"/metadata/labels/x"}]'}),
        ("ConfigMaps", {"type": "strategic", "patch": b"{}"}),
        ("ConfigMaps", {"type": "merge", "patch": b"{}", "subresource": "status"}),
        ("Pods", {"type": "merge", "patch": b"{}", "subresource": "scale"}),
        ("ConfigMaps", {"type": "merge", "patch": b"{}", "name": ""}),
    ],
)
async def test_a_patch_that_is_none_is_an_invalid_argument(
    api: Api, ns: str, kind: str, request_fields: dict[str, Any]
) -> None:
    await api.client.config_maps.create(config_map("a", ns))
    request = v1.PatchRequest(**{"namespace": ns, "name": "a", **request_fields})
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(channel, f"/podwire.v1.{kind}/Patch")(request.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()


async def test_an_object_with_finalizers_is_marked_and_goes_with_the_last_of_them(client: Client, ns: str) -> None:
    made = await client.config_maps.create(held("a", ns, HOLD, "example.com/other"))
    marked = await client.config_maps.delete("a", namespace=ns)
    assert marked.metadata.HasField("deletion_timestamp")
    assert (await client.config_maps.delete("a", namespace=ns)) == marked
    marked.data["still"] = "changeable"
    marked.metadata.finalizers.remove(HOLD)
    changed = await client.config_maps.update(marked)
    assert changed.data["still"] == "changeable"
    last = await client.config_maps.patch("a", {"metadata": {"finalizers": None}}, namespace=ns)
    assert (last.metadata.uid, list(last.metadata.finalizers)) == (made.metadata.uid, [])
    with pytest.raises(errors.NotFound):
        await client.config_maps.get("a", namespace=ns)


async def test_the_watchers_of_an_object_see_its_end_with_the_change_that_took_its_last_finalizer(
    client: Client, ns: str
) -> None:
    await client.config_maps.create(held("a", ns))
    marked = await client.config_maps.delete("a", namespace=ns)
    ended = await client.config_maps.patch("a", {"metadata": {"finalizers": []}}, namespace=ns)
    events = client.config_maps.watch(namespace=ns, resource_version=marked.metadata.resource_version)
    async with asyncio.timeout(30):
        async for event in events:
            assert (event.type, event.object.metadata.resource_version) == (
                "DELETED",
                ended.metadata.resource_version,
            )
            break
    await events.aclose()


async def test_no_finalizer_is_added_to_what_is_being_deleted(client: Client, ns: str) -> None:
    await client.config_maps.create(held("a", ns))
    marked = await client.config_maps.delete("a", namespace=ns)
    marked.metadata.finalizers.append("example.com/late")
    with pytest.raises(errors.Invalid, match=r"metadata\.finalizers.*being deleted.*example\.com/late"):
        await client.config_maps.update(marked)


async def test_a_pod_with_a_grace_and_finalizers_waits_for_both(client: Client, ns: str) -> None:
    for name in ("first", "second"):
        made = pod(name, ns)
        made.metadata.finalizers.append(HOLD)
        made = await client.pods.create(made)
        await client.pods.bind(name, ns, made.metadata.uid, "n1")
        assert (await client.pods.delete(name, namespace=ns)).metadata.deletion_grace_period_seconds == 30
    await client.pods.delete("first", namespace=ns, grace_period_seconds=0)
    assert (await client.pods.get("first", namespace=ns)).metadata.deletion_grace_period_seconds == 0
    await client.pods.patch("first", {"metadata": {"finalizers": None}}, namespace=ns)
    await client.pods.patch("second", {"metadata": {"finalizers": None}}, namespace=ns)
    assert [p.metadata.name for p in (await client.pods.list(namespace=ns)).items] == ["second"]
    await client.pods.delete("second", namespace=ns, grace_period_seconds=0)
    assert (await client.pods.list(namespace=ns)).items == []


async def test_deletes_updates_and_the_last_finalizer_at_once_leave_nothing_behind(
    client: Client, second_api: Api, ns: str
) -> None:
    """Whatever comes first: the object ends, and nobody's write brings it back."""

    async def persist(write: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Until it is done, or there is nothing to do it to; who loses too many races in a row tries again."""
        while True:
            try:
                await write()
            except errors.Conflict:
                continue
            except errors.NotFound:
                pass
            return

    first, second = client.config_maps, second_api.client.config_maps
    for number in range(5):
        name = f"a{number}"
        await first.create(held(name, ns))
        writes: list[Callable[[], Coroutine[Any, Any, object]]] = [
            *(partial((first, second)[n % 2].patch, name, {"data": {f"k{n}": "1"}}, namespace=ns) for n in range(12)),
            partial(second.delete, name, namespace=ns),
            partial(second.patch, name, {"metadata": {"finalizers": None}}, namespace=ns),
            partial(first.delete, name, namespace=ns),
        ]
        await asyncio.wait_for(asyncio.gather(*map(persist, writes)), 60)
    # Where the finalizer went before the mark came, the deletion removed the object at once.
    assert (await client.config_maps.list(namespace=ns)).items == []


async def test_a_deletion_may_demand_a_version(client: Client, ns: str) -> None:
    old = await client.config_maps.create(config_map("a", ns))
    new = await client.config_maps.patch("a", {"data": {"n": "1"}}, namespace=ns)
    with pytest.raises(errors.Conflict):
        await client.config_maps.delete("a", namespace=ns, resource_version=old.metadata.resource_version)
    await client.config_maps.delete("a", namespace=ns, resource_version=new.metadata.resource_version)


async def test_dry_runs_answer_as_the_write_would_and_change_nothing(client: Client, second_api: Api, ns: str) -> None:
    made = await client.deployments.create(deployment(ns))
    changed = v1.Deployment()
    changed.CopyFrom(made)
    changed.spec.replicas = 5
    assert (await client.deployments.update(changed, dry_run=True)).metadata.generation == 2
    changed.status.replicas = 5
    assert (await client.deployments.update_status(changed, dry_run=True)).status.replicas == 5
    patched = await client.deployments.patch("web", {"spec": {"replicas": 5}}, namespace=ns, dry_run=True)
    assert patched.spec.replicas == 5
    assert (await client.deployments.delete("web", namespace=ns, dry_run=True)) == made
    (gone,) = await client.deployments.delete_collection(namespace=ns, dry_run=True)
    assert (gone.name, gone.removed) == ("web", True)
    tried = await client.services.create(service("s", ns), dry_run=True)
    assert tried.spec.cluster_ip
    assert not tried.metadata.resource_version
    assert await second_api.client.deployments.get("web", namespace=ns) == made
    assert (await second_api.client.services.list(namespace=ns)).items == []


async def test_dry_runs_make_every_check_that_the_write_makes(client: Client, ns: str) -> None:
    made = await client.services.create(service("s", ns))
    old_version = made.metadata.resource_version
    await client.services.patch("s", {"metadata": {"labels": {"a": "b"}}}, namespace=ns)
    refused: list[tuple[type[errors.PodwireError], Coroutine[Any, Any, object]]] = [
        (errors.NotFound, client.config_maps.create(config_map("a", "nowhere"), dry_run=True)),
        (errors.AlreadyExists, client.services.create(service("s", ns), dry_run=True)),
        (errors.Invalid, client.services.create(service("t", ns, address=made.spec.cluster_ip), dry_run=True)),
        (errors.Conflict, client.services.update(made, dry_run=True)),
        (errors.Conflict, client.services.update_status(made, dry_run=True)),
        (errors.Conflict, client.services.delete("s", namespace=ns, resource_version=old_version, dry_run=True)),
        (errors.PreconditionFailed, client.services.delete("s", namespace=ns, uid="other", dry_run=True)),
        (errors.NotFound, client.services.delete("missing", namespace=ns, dry_run=True)),
        (errors.NotFound, client.services.patch("missing", {}, namespace=ns, dry_run=True)),
    ]
    for expected, attempt in refused:
        with pytest.raises(expected):
            await attempt
    name = f"{ns}-going"
    await client.namespaces.create(namespace(name))
    await client.config_maps.create(config_map("a", name))
    await client.namespaces.delete(name)
    with pytest.raises(errors.PreconditionFailed, match="being deleted"):
        await client.config_maps.create(config_map("b", name), dry_run=True)
    with pytest.raises(errors.PreconditionFailed, match="not empty"):
        await client.namespaces.delete(name, grace_period_seconds=0, dry_run=True)


async def test_a_collection_is_deleted_by_selector_and_each_object_is_accounted_for(client: Client, ns: str) -> None:
    for number in range(40):
        made = config_map(f"c{number:02}", ns)
        made.metadata.labels["half"] = str(number % 2)
        if number < 2:
            made.metadata.finalizers.append(HOLD)
        await client.config_maps.create(made)
    deleted = await client.config_maps.delete_collection(namespace=ns, label_selector="half in (0)")
    assert sorted(one.name for one in deleted) == [f"c{number:02}" for number in range(0, 40, 2)]
    assert [one.name for one in deleted if not one.removed] == ["c00"]
    left = {item.metadata.name: item for item in (await client.config_maps.list(namespace=ns)).items}
    assert sorted(left) == ["c00", *(f"c{number:02}" for number in range(1, 40, 2))]
    assert left["c00"].metadata.HasField("deletion_timestamp")
    assert len(await client.config_maps.delete_collection(namespace=ns, field_selector="metadata.name=c01")) == 1
    assert await client.config_maps.delete_collection(namespace=ns, label_selector="half=2") == []


async def test_what_vanishes_while_its_collection_is_deleted_is_no_error(
    client: Client, second_api: Api, ns: str
) -> None:
    for number in range(60):
        await client.config_maps.create(config_map(f"c{number}", ns))
    results = await asyncio.gather(
        *(c.config_maps.delete_collection(namespace=ns) for c in [client, second_api.client] * 2)
    )
    names = [one.name for result in results for one in result]
    assert sorted(names) == sorted(f"c{number}" for number in range(60))
    assert (await client.config_maps.list(namespace=ns)).items == []


async def test_a_collection_that_meets_what_cannot_be_deleted_says_so(client: Client) -> None:
    with pytest.raises(errors.PreconditionFailed, match="always there"):
        await client.namespaces.delete_collection(field_selector="metadata.name=default")


async def test_a_namespace_waits_for_its_own_finalizers_and_for_those_inside(client: Client, ns: str) -> None:
    await client.config_maps.create(held("a", ns))
    await client.namespaces.patch(ns, {"metadata": {"finalizers": [HOLD]}})
    await client.namespaces.delete(ns)
    await client.config_maps.delete("a", namespace=ns)
    marked = await client.namespaces.delete(ns, grace_period_seconds=0)
    assert list(marked.metadata.finalizers) == [HOLD]
    # The last finalizer of a namespace does not remove it: what is in it must go first.
    await client.namespaces.patch(ns, {"metadata": {"finalizers": None}})
    with pytest.raises(errors.PreconditionFailed, match="not empty"):
        await client.namespaces.delete(ns, grace_period_seconds=0)
    await client.config_maps.patch("a", {"metadata": {"finalizers": None}}, namespace=ns)
    await client.namespaces.delete(ns, grace_period_seconds=0)
    with pytest.raises(errors.NotFound):
        await client.namespaces.get(ns)


async def test_concurrent_creates_with_generated_names_all_succeed(client: Client, second_api: Api, ns: str) -> None:
    def generated() -> v1.ConfigMap:
        made = config_map("", ns)
        made.metadata.generate_name = "gen-"
        return made

    made = await asyncio.gather(*(c.config_maps.create(generated()) for c in [client, second_api.client] * 20))
    assert len({one.metadata.name for one in made}) == 40


async def test_of_many_who_change_one_object_at_once_everybody_gets_a_turn(client: Client, ns: str) -> None:
    await client.config_maps.create(config_map("hot", ns))

    async def change(who: int) -> None:
        for time in range(8):
            await client.config_maps.patch("hot", {"data": {f"{who}-{time}": ""}}, namespace=ns)

    await asyncio.gather(*map(change, range(32)))
    assert len((await client.config_maps.get("hot", namespace=ns)).data) == 32 * 8
