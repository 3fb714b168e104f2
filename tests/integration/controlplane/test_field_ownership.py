"""Applies by several managers through the API, on real etcd: conflicts, and writes that race."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import grpc.aio
import pytest

from podwire import errors, v1
from podwire.client import Applied, Client
from tests.integration.controlplane.replica import Api, config_map, pod


def manifest(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def owners(obj: Any) -> list[tuple[str, str]]:
    return [(entry.manager, entry.operation) for entry in obj.metadata.managed_fields]


async def refused_json(api: Api, text: bytes) -> errors.PodwireError:
    """What the server says of a manifest that no client of ours would send."""
    async with grpc.aio.insecure_channel(api.endpoint) as channel:
        call: Any = channel.unary_unary("/podwire.v1.ConfigMaps/Apply")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(v1.ApplyRequest(manifest=text).SerializeToString())
    return errors.from_rpc_error(caught.value)


async def test_a_conflict_names_every_field_and_its_owner_and_changes_nothing(client: Client, ns: str) -> None:
    await client.deployments.apply(deployment(replicas=3, paused=True), namespace=ns, field_manager="team-a")
    before = await client.deployments.update(await _with_replicas(client, ns, 5), field_manager="autoscaler")
    wanted = deployment(replicas=1, paused=False)
    for dry_run in (True, False):
        with pytest.raises(errors.FieldConflict) as caught:
            await client.deployments.apply(wanted, namespace=ns, field_manager="team-b", dry_run=dry_run)
        assert caught.value.owners == (
            errors.FieldOwner("spec.paused", "team-a"),
            errors.FieldOwner("spec.replicas", "autoscaler"),
        )
        assert caught.value.metadata == {"kind": "Deployment", "key": f"{ns}/web"}
    assert await client.deployments.get("web", namespace=ns) == before


async def test_force_takes_the_fields_over_and_tells_the_one_who_had_them(client: Client, ns: str) -> None:
    await client.config_maps.apply(manifest(a="1", b="2"), namespace=ns, field_manager="team-a")
    taken = await client.config_maps.apply(manifest(a="9"), namespace=ns, field_manager="team-b", force=True)
    assert dict(taken.object.data) == {"a": "9", "b": "2"}
    with pytest.raises(errors.FieldConflict, match=r"data\[a\] \(owned by team-b\)"):
        await client.config_maps.apply(manifest(a="1", b="2"), namespace=ns, field_manager="team-a")


async def test_a_conflict_of_a_thousand_fields_is_told_too(client: Client, ns: str) -> None:
    def wanted(value: str) -> dict[str, Any]:
        return manifest(**{f"a-key-of-some-length-{n}": value for n in range(1_000)})

    await client.config_maps.apply(wanted("1"), namespace=ns, field_manager="team-a")
    with pytest.raises(errors.FieldConflict) as caught:
        await client.config_maps.apply(wanted("2"), namespace=ns, field_manager="team-b")
    assert caught.value.owners[0] == errors.FieldOwner("data[a-key-of-some-length-0]", "team-a")
    assert caught.value.owners[-1].path == f"and {1_001 - len(caught.value.owners)} more"


async def test_a_patch_makes_its_manager_the_owner_of_what_it_changes(client: Client, ns: str) -> None:
    await client.config_maps.apply(manifest(a="1", b="2"), namespace=ns, field_manager="team-a")
    patched = await client.config_maps.patch("a", {"data": {"b": "3"}}, namespace=ns, field_manager="fixer")
    assert owners(patched) == [("team-a", "Apply"), ("fixer", "Update")]
    with pytest.raises(errors.FieldConflict) as caught:
        await client.config_maps.apply(manifest(a="1", b="2"), namespace=ns, field_manager="team-a")
    assert caught.value.owners == (errors.FieldOwner("data[b]", "fixer"),)


async def test_a_writer_without_a_name_is_called_unknown(client: Client, ns: str) -> None:
    await client.config_maps.apply(manifest(a="1"), namespace=ns)
    patched = await client.config_maps.patch("a", {"data": {"a": "2"}}, namespace=ns)
    assert ("unknown", "Update") in owners(patched)


async def test_a_scaled_deployment_is_applied_without_conflict(client: Client, ns: str) -> None:
    await client.deployments.apply(deployment(replicas=1), namespace=ns)
    await client.deployments.update(await _with_replicas(client, ns, 5), field_manager="podctl-scale")
    assert (await client.deployments.apply(deployment(), namespace=ns)).object.spec.replicas == 5
    assert (await client.deployments.apply(deployment(replicas=2), namespace=ns)).object.spec.replicas == 2


async def test_an_object_that_was_never_applied_keeps_no_record(client: Client, ns: str) -> None:
    made = await client.pods.create(pod("a", ns))
    made.metadata.labels["x"] = "y"
    updated = await client.pods.update(made, field_manager="someone")
    updated.status.phase = "Running"
    written = await client.pods.update_status(updated)
    patched = await client.pods.patch("a", {"metadata": {"labels": {"x": "z"}}}, namespace=ns, field_manager="someone")
    assert [owners(obj) for obj in (made, updated, written, patched)] == [[], [], [], []]


async def test_a_create_stores_no_record_that_a_client_made_up(client: Client, ns: str) -> None:
    sent = config_map("a", ns, k="1")
    sent.metadata.managed_fields.add(manager="me", operation="Apply")
    assert owners(await client.config_maps.create(sent)) == []


async def test_a_status_does_not_touch_the_record(client: Client, ns: str) -> None:
    applied = (await client.deployments.apply(deployment(), namespace=ns)).object
    record = list(applied.metadata.managed_fields)
    applied.status.replicas = 3
    assert list((await client.deployments.update_status(applied)).metadata.managed_fields) == record


async def test_one_empty_entry_ends_the_record(client: Client, ns: str) -> None:
    await client.config_maps.apply(manifest(a="1"), namespace=ns)
    operation = {"op": "replace", "path": "/metadata/managedFields"}
    kept = await client.config_maps.patch("a", [{**operation, "value": []}], namespace=ns)
    assert owners(kept) == [("podctl", "Apply")]
    ended = await client.config_maps.patch("a", [{**operation, "value": [{}]}], namespace=ns)
    assert owners(ended) == []


async def test_racing_applies_of_disjoint_fields_lose_nobodys(client: Client, second_api: Api, ns: str) -> None:
    clients = [client, second_api.client]

    async def apply_in_turn(number: int) -> None:
        for turn in range(5):
            mine = {f"m{number}": str(turn), f"m{number}-{turn}": "x"}
            await clients[number % 2].config_maps.apply(manifest(**mine), namespace=ns, field_manager=f"team-{number}")

    await asyncio.gather(*map(apply_in_turn, range(6)))
    found = await client.config_maps.get("a", namespace=ns)
    assert dict(found.data) == {key: value for n in range(6) for key, value in ((f"m{n}", "4"), (f"m{n}-4", "x"))}
    assert {manager for manager, _ in owners(found)} == {f"team-{n}" for n in range(6)}


async def test_of_racing_applies_of_one_field_one_wins_and_the_others_hear_of_it(
    client: Client, second_api: Api, ns: str
) -> None:
    clients = [client, second_api.client] * 4
    results = await asyncio.gather(
        *(
            of.config_maps.apply(manifest(k=str(n)), namespace=ns, field_manager=f"team-{n}")
            for n, of in enumerate(clients)
        ),
        return_exceptions=True,
    )
    won = [n for n, result in enumerate(results) if isinstance(result, Applied)]
    assert len(won) == 1
    expected = (errors.FieldOwner("data[k]", f"team-{won[0]}"),)
    lost = [result for result in results if isinstance(result, BaseException)]
    assert [getattr(error, "owners", error) for error in lost] == [expected] * 7
    assert (await client.config_maps.get("a", namespace=ns)).data["k"] == str(won[0])


async def test_applies_and_updates_that_race_lose_nobodys_fields(client: Client, second_api: Api, ns: str) -> None:
    await client.config_maps.apply(manifest(own="0"), namespace=ns)

    async def apply_in_turn() -> None:
        for turn in range(10):
            await client.config_maps.apply(manifest(own=str(turn)), namespace=ns)

    async def update_in_turn(of: Client, name: str) -> None:
        for turn in range(5):

            def change(found: v1.ConfigMap, turn: int = turn) -> None:
                found.data[name] = str(turn)

            await of.config_maps.modify("a", change, namespace=ns, field_manager=name, attempts=100)

    await asyncio.gather(
        apply_in_turn(), *(update_in_turn(of, f"u{n}") for n, of in enumerate([client, second_api.client] * 2))
    )
    found = await client.config_maps.get("a", namespace=ns)
    assert dict(found.data) == {"own": "9", **{f"u{n}": "4" for n in range(4)}}
    assert owners(found) == [("podctl", "Apply"), *((f"u{n}", "Update") for n in _by_time(found))]


async def test_applies_and_deletions_that_race_leave_a_whole_object_or_none(
    client: Client, second_api: Api, ns: str
) -> None:
    async def delete_often() -> None:
        for _ in range(15):
            try:
                await second_api.client.config_maps.delete("a", namespace=ns)
            except errors.NotFound:
                pass

    async def apply_often(manager: str) -> None:
        for turn in range(15):
            applied = await client.config_maps.apply(
                manifest(**{manager: str(turn), f"{manager}-2": "x"}), namespace=ns, field_manager=manager
            )
            assert (applied.object.data[manager], applied.object.data[f"{manager}-2"]) == (str(turn), "x")
            assert applied.result in ("created", "configured", "unchanged")
            assert applied.object.metadata.uid

    await asyncio.gather(delete_often(), apply_often("b"), apply_often("c"))
    last = await client.config_maps.apply(manifest(b="end"), namespace=ns, field_manager="b")
    assert last.object.data["b"] == "end"
    assert "b-2" not in last.object.data


async def test_an_apply_that_names_a_uid_makes_no_other_object(client: Client, ns: str) -> None:
    first = (await client.config_maps.apply(manifest(a="1"), namespace=ns)).object
    again = manifest(a="2")
    again["metadata"]["uid"] = first.metadata.uid
    await client.config_maps.delete("a", namespace=ns)
    with pytest.raises(errors.PreconditionFailed):
        await client.config_maps.apply(again, namespace=ns)
    await client.config_maps.apply(manifest(a="1"), namespace=ns)
    with pytest.raises(errors.PreconditionFailed):
        await client.config_maps.apply(again, namespace=ns)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"metadata": {"name": "\\ud800"}}',
        b'{"\\udfff": 1}',
        b'{"metadata": {"name": "a", "labels": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}}",
        b'{"metadata": {"name": "a", "managedFields": [{"fieldsV1": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}}",
        b'{"metadata": {"name": "a", "generation": ' + b"9" * 10_000 + b"}}",
    ],
    ids=["empty", "list", "cut", "utf-16", "nan", "lists", "objects", "text", "name", "labels", "struct", "number"],
)
async def test_a_broken_manifest_is_invalid(api: Api, text: bytes) -> None:
    error = await refused_json(api, text)
    assert isinstance(error, errors.Invalid), error


async def test_a_manifest_of_nearly_a_megabyte_and_a_half_is_applied(client: Client, ns: str) -> None:
    def large(parts: int) -> dict[str, Any]:
        wanted = deployment()
        wanted["spec"]["template"]["spec"]["containers"][0]["args"] = ["x" * 14_000] * parts
        return wanted

    assert len(json.dumps(large(108))) > 1_500_000
    assert (await client.deployments.apply(large(108), namespace=ns)).result == "created"
    assert (await client.deployments.apply(large(108), namespace=ns)).result == "unchanged"
    with pytest.raises(errors.TooLarge, match=f"{ns}/web"):
        await client.deployments.apply(large(120), namespace=ns)


async def _with_replicas(client: Client, ns: str, replicas: int) -> v1.Deployment:
    found = await client.deployments.get("web", namespace=ns)
    found.spec.replicas = replicas
    return found


def _by_time(obj: Any) -> list[int]:
    """The numbers of the updaters in the order of their entries, which is by time and then by name."""
    updates: Mapping[str, int] = {
        entry.manager: entry.time.seconds for entry in obj.metadata.managed_fields if entry.operation == "Update"
    }
    return [int(name[1:]) for name in sorted(updates, key=lambda name: (updates[name], name))]
