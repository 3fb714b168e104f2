"""Addresses, ports and CIDRs: never two holders, never a lost one."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane.settings import NodePortRange
from controlplane.store import keys
from controlplane.store import operations as op
from controlplane.store.etcd import Etcd
from podwire import errors, v1
from podwire.client import Client
from tests.integration.controlplane.etcd_server import EtcdServer
from tests.integration.controlplane.replica import Api, running_api, service

# Small ranges, so that those who allocate at once meet.
RANGES: dict[str, Any] = {
    "service_cidr": ipaddress.IPv4Network("10.96.0.0/25"),
    "pod_cidr": ipaddress.IPv4Network("10.244.0.0/19"),
    "node_ports": NodePortRange(30000, 30059),
}


@pytest.fixture
async def two(own_etcd_server: EtcdServer) -> AsyncIterator[list[Api]]:
    async with running_api(own_etcd_server.url, **RANGES) as one, running_api(own_etcd_server.url, **RANGES) as other:
        yield [one, other]


async def held(etcd_server: EtcdServer) -> set[str]:
    async with Etcd.connect([etcd_server.url]) as etcd:
        found = await etcd.range(keys.ALLOCATIONS, op.prefix_end(keys.ALLOCATIONS), keys_only=True)
    return {kv.key.removeprefix(keys.ALLOCATIONS).decode() for kv in found.items}


async def test_services_made_at_once_through_two_replicas_share_no_address_and_no_port(
    two: list[Api], own_etcd_server: EtcdServer
) -> None:
    made = await asyncio.gather(
        *(two[n % 2].client.services.create(service(f"s{n}", type_="NodePort")) for n in range(50))
    )
    addresses = {s.spec.cluster_ip for s in made}
    ports = {s.spec.ports[0].node_port for s in made}
    assert len(addresses) == len(ports) == 50
    expected = {f"addresses/{a}" for a in addresses} | {f"nodeports/{p}" for p in ports}
    assert await held(own_etcd_server) == expected
    await asyncio.gather(*(two[n % 2].client.services.delete(f"s{n}") for n in range(50)))
    assert await held(own_etcd_server) == set()


async def test_nodes_made_at_once_share_no_cidr(two: list[Api], own_etcd_server: EtcdServer) -> None:
    nodes = [v1.Node(metadata=v1.ObjectMeta(name=f"n{n}")) for n in range(32)]
    made = await asyncio.gather(*(two[n % 2].client.nodes.create(node) for n, node in enumerate(nodes)))
    assert len({node.spec.pod_cidr for node in made}) == 32
    with pytest.raises(errors.PreconditionFailed):
        await two[0].client.nodes.create(v1.Node(metadata=v1.ObjectMeta(name="one-too-many")))
    await two[1].client.nodes.delete("n5")
    again = await two[0].client.nodes.create(v1.Node(metadata=v1.ObjectMeta(name="next")))
    assert again.spec.pod_cidr == made[5].spec.pod_cidr
    assert len(await held(own_etcd_server)) == 32


async def test_a_chosen_address_is_given_once(two: list[Api], own_etcd_server: EtcdServer) -> None:
    results = await asyncio.gather(
        *(two[n % 2].client.services.create(service(f"s{n}", address="10.96.0.9")) for n in range(6)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, errors.Invalid)]
    assert len(refused) == 5
    assert {error.path for result in refused for error in result.errors} == {"spec.clusterIP"}


async def test_a_change_of_type_takes_and_gives_back(two: list[Api], own_etcd_server: EtcdServer) -> None:
    client: Client = two[0].client
    made = await client.services.create(service("s"))
    made.spec.type = "NodePort"
    with_port = await client.services.update(made)
    assert with_port.spec.cluster_ip == made.spec.cluster_ip
    assert len(await held(own_etcd_server)) == 2
    with_port.spec.type = "ClusterIP"
    without = await client.services.update(with_port)
    assert not without.spec.ports[0].node_port
    assert await held(own_etcd_server) == {f"addresses/{made.spec.cluster_ip}"}
