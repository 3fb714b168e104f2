"""What becomes of owned objects when their owners are deleted, with the real controllers on a real etcd."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from podwire import errors, kinds, v1
from podwire.client import Client
from podwire.keys import Object
from podwire.kinds import Kind
from tests.integration.controllers.manifests import deployment
from tests.integration.controllers.observing import watching
from tests.integration.controllers.processes import ControlPlane, Role, serving
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.network import eventually

HOLD = "example.com/hold"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
async def roles(etcd_server: EtcdServer) -> AsyncIterator[ControlPlane]:
    """API and controllers; no scheduler, so that pods run nowhere and go at once."""
    with tempfile.TemporaryDirectory(prefix="podwire-") as folder:
        control_plane = ControlPlane(etcd_server.url, Path(folder))
        await control_plane.api.start()
        await control_plane.controllers.start()
        async with control_plane.client() as client:
            await serving(client)
        yield control_plane
        await control_plane.kill()


@pytest.fixture
async def client(roles: ControlPlane) -> AsyncIterator[Client]:
    async with roles.client() as client:
        yield client


@pytest.fixture
async def ns(client: Client) -> str:
    name = f"propagation-{next(_NUMBERS)}"
    await client.namespaces.create(v1.Namespace(metadata=v1.ObjectMeta(name=name)))
    return name


def owned_by(kind: Kind, *owners: Object, blocking: bool = True) -> list[v1.OwnerReference]:
    return [
        v1.OwnerReference(
            api_version=kind.api_version,
            kind=kind.name,
            name=owner.metadata.name,
            uid=owner.metadata.uid,
            block_owner_deletion=blocking,
        )
        for owner in owners
    ]


async def make(
    client: Client, ns: str, name: str, *, owners: list[v1.OwnerReference] | None = None, held: bool = False
) -> v1.ConfigMap:
    meta = v1.ObjectMeta(name=name, namespace=ns, owner_references=owners or [], finalizers=[HOLD] if held else [])
    return await client.config_maps.create(v1.ConfigMap(metadata=meta))


async def release(client: Client, ns: str, name: str) -> None:
    await client.config_maps.patch(name, {"metadata": {"finalizers": None}}, namespace=ns)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    await eventually(condition, within=60)


async def names(client: Client, ns: str) -> list[str]:
    return [item.metadata.name for item in (await client.config_maps.list(namespace=ns)).items]


async def test_owned_objects_of_any_kind_go_in_the_background_after_the_last_of_their_owners(
    client: Client, ns: str
) -> None:
    first, second = await make(client, ns, "first"), await make(client, ns, "second")
    both = owned_by(kinds.CONFIG_MAP, first, second)
    await make(client, ns, "both", owners=both)
    secret = v1.Secret(metadata=v1.ObjectMeta(name="s", namespace=ns, owner_references=both[:1]))
    await client.secrets.create(secret)
    foreign = v1.OwnerReference(api_version="example.com/v1", kind="Wonder", name="w", uid="x")
    await make(client, ns, "foreign", owners=[foreign])
    await client.config_maps.delete("first", namespace=ns)

    async def first_forgotten() -> bool:
        left = (await client.config_maps.get("both", namespace=ns)).metadata.owner_references
        return [ref.name for ref in left] == ["second"] and not (await client.secrets.list(namespace=ns)).items

    await until(first_forgotten)
    await client.config_maps.delete("second", namespace=ns)

    async def gone() -> bool:
        return await names(client, ns) == ["foreign"]

    await until(gone)


async def test_an_owner_that_never_existed_or_was_replaced_counts_as_gone(client: Client, ns: str) -> None:
    old = await make(client, ns, "owner")
    await client.config_maps.delete("owner", namespace=ns)
    await make(client, ns, "owner")
    missing = v1.OwnerReference(api_version="v1", kind="ConfigMap", name="missing", uid="x")
    await make(client, ns, "late", owners=owned_by(kinds.CONFIG_MAP, old))
    await make(client, ns, "lost", owners=[missing])

    async def only_owner() -> bool:
        return await names(client, ns) == ["owner"]

    await until(only_owner)


async def test_a_foreground_deletion_ends_with_the_owner_after_all_that_blocks_it(client: Client, ns: str) -> None:
    owner = await make(client, ns, "owner")
    blocking = await make(client, ns, "blocking", owners=owned_by(kinds.CONFIG_MAP, owner), held=True)
    await make(client, ns, "below", owners=owned_by(kinds.CONFIG_MAP, blocking))
    await make(client, ns, "not-waited-for", owners=owned_by(kinds.CONFIG_MAP, owner, blocking=False), held=True)
    marked = await client.config_maps.delete("owner", namespace=ns, propagation_policy="Foreground")
    assert list(marked.metadata.finalizers) == ["foregroundDeletion"]

    async def begun() -> bool:
        # What is below goes first; what is held waits, and the owner for it.
        return await names(client, ns) == ["blocking", "not-waited-for", "owner"]

    await until(begun)
    await release(client, ns, "blocking")

    async def owner_gone() -> bool:
        return await names(client, ns) == ["not-waited-for"]

    await until(owner_gone)
    left = await client.config_maps.get("not-waited-for", namespace=ns)
    assert left.metadata.HasField("deletion_timestamp")


async def test_a_circle_of_owners_is_deleted_in_the_foreground(client: Client, ns: str) -> None:
    first = await make(client, ns, "first")
    second = await make(client, ns, "second", owners=owned_by(kinds.CONFIG_MAP, first))
    first.metadata.owner_references.extend(owned_by(kinds.CONFIG_MAP, second))
    await client.config_maps.update(first)
    await client.config_maps.delete("first", namespace=ns, propagation_policy="Foreground")

    async def gone() -> bool:
        return await names(client, ns) == []

    await until(gone)


async def test_deleting_a_deployment_in_the_foreground_ends_its_pods_then_its_sets_then_itself(
    client: Client, ns: str
) -> None:
    made = deployment(3)
    made.metadata.namespace = ns
    await client.deployments.create(made)
    async with (
        watching(client.pods, ns) as pods,
        watching(client.replica_sets, ns) as sets,
        watching(client.deployments, ns) as deployments,
    ):
        await pods.until(lambda shown: len(shown) == 3)
        await client.deployments.delete(made.metadata.name, namespace=ns, propagation_policy="Foreground")
        # Each is there for as long as what it waits for is.
        await sets.until(lambda shown: not shown)
        assert not (await client.pods.list(namespace=ns)).items
        await deployments.until(lambda shown: not shown)


async def test_an_orphaning_deletion_leaves_the_pods_without_their_owner_and_nobody_takes_them_back(
    client: Client, ns: str
) -> None:
    made = deployment(2)
    made.metadata.namespace = ns
    await client.deployments.create(made)
    async with watching(client.pods, ns) as pods, watching(client.replica_sets, ns) as sets:
        await pods.until(lambda shown: len(shown) == 2)
        await client.deployments.delete(made.metadata.name, namespace=ns, propagation_policy="Orphan")
        (only,) = await sets.until(lambda shown: all(not one.metadata.owner_references for one in shown))
        await client.replica_sets.delete(only.metadata.name, namespace=ns, propagation_policy="Orphan")
        await sets.until(lambda shown: not shown)
        left = await pods.until(lambda shown: all(not one.metadata.owner_references for one in shown))
        assert len(left) == 2
        assert not any(one.metadata.HasField("deletion_timestamp") for one in left)


async def test_what_an_orphaning_deletion_finds_stays_and_what_comes_after_its_owner_has_gone_goes(
    client: Client, ns: str
) -> None:
    owner = await make(client, ns, "owner")
    refs = owned_by(kinds.CONFIG_MAP, owner)
    made: list[str] = []

    async def keep_making() -> None:
        while True:
            name = f"d{len(made):03}"
            await make(client, ns, name, owners=refs)
            made.append(name)

    making = asyncio.create_task(keep_making())

    async def some() -> bool:
        return len(made) >= 20

    await until(some)
    before = list(made)
    await client.config_maps.delete("owner", namespace=ns, propagation_policy="Orphan")

    async def owner_gone() -> bool:
        return "owner" not in await names(client, ns)

    await until(owner_gone)
    making.cancel()
    await asyncio.wait([making])
    late = await make(client, ns, "late", owners=refs)
    assert late.metadata.owner_references

    async def nobody_owned() -> bool:
        listed = await client.config_maps.list(namespace=ns)
        return not any(item.metadata.owner_references for item in listed.items)

    await until(nobody_owned)
    left = await names(client, ns)
    assert set(before) <= set(left)
    assert "late" not in left


async def test_what_a_killed_leader_left_half_done_the_next_one_finishes(
    roles: ControlPlane, client: Client, ns: str
) -> None:
    foreground = await make(client, ns, "foreground")
    orphaning = await make(client, ns, "orphaning")
    background = await make(client, ns, "background")
    for number in range(40):
        await make(client, ns, f"f{number}", owners=owned_by(kinds.CONFIG_MAP, foreground), held=number == 0)
        await make(client, ns, f"o{number}", owners=owned_by(kinds.CONFIG_MAP, orphaning))
        await make(client, ns, f"b{number}", owners=owned_by(kinds.CONFIG_MAP, background))
    await client.config_maps.delete("foreground", namespace=ns, propagation_policy="Foreground")
    await client.config_maps.delete("orphaning", namespace=ns, propagation_policy="Orphan")
    await client.config_maps.delete("background", namespace=ns)
    await roles.controllers.kill()
    left = await names(client, ns)
    assert "foreground" in left
    await release(client, ns, "f0")
    roles.controllers = Role("controllers", roles.etcd_url, roles.folder)
    await roles.controllers.start()

    async def finished() -> bool:
        return await names(client, ns) == sorted(f"o{number}" for number in range(40))

    await until(finished)
    listed = await client.config_maps.list(namespace=ns)
    assert not any(item.metadata.owner_references for item in listed.items)


async def test_a_namespace_is_emptied_and_waits_for_the_finalizers_in_it(client: Client, ns: str) -> None:
    await make(client, ns, "held", held=True)
    owner = await make(client, ns, "owner")
    await make(client, ns, "owned", owners=owned_by(kinds.CONFIG_MAP, owner))
    await client.namespaces.delete(ns)

    async def only_held() -> bool:
        return await names(client, ns) == ["held"]

    await until(only_held)
    assert (await client.namespaces.get(ns)).status.phase == "Terminating"
    await release(client, ns, "held")

    async def gone() -> bool:
        try:
            await client.namespaces.get(ns)
        except errors.NotFound:
            return True
        return False

    await until(gone)
