"""Who gets which address, port and CIDR."""

from __future__ import annotations

import ipaddress

import pytest

from controlplane.services.allocation import Allocator, claims
from controlplane.settings import NodePortRange
from podwire import errors, kinds, v1


def allocator(taken: dict[bytes, bytes] | None = None, *, cidr: str = "10.96.0.0/24") -> Allocator:
    return Allocator(
        service_cidr=ipaddress.IPv4Network(cidr),
        pod_cidr=ipaddress.IPv4Network("10.244.0.0/22"),
        node_ports=NodePortRange(30000, 30002),
        taken=lambda: taken or {},
        randrange=lambda low, high: low,
    )


def service(type_: str = "ClusterIP", *ports: int, address: str = "") -> v1.Service:
    made = v1.Service(metadata=v1.ObjectMeta(name="s", namespace="default"))
    made.spec.type = type_
    made.spec.cluster_ip = address
    for port in ports:
        made.spec.ports.add(port=port, protocol="TCP")
    return made


def assigned(obj: v1.Service, *, old: v1.Service | None = None, taken: dict[bytes, bytes] | None = None) -> v1.Service:
    allocator(taken).assign(kinds.SERVICE, old, obj, ())
    return obj


def address_key(address: str) -> bytes:
    return b"/podwire/allocations/addresses/" + address.encode()


def test_a_service_gets_an_address_above_the_band_for_chosen_ones() -> None:
    spec = assigned(service()).spec
    assert spec.cluster_ip == "10.96.0.16"
    assert list(spec.cluster_ips) == ["10.96.0.16"]
    assert not any(claim.key for claim in claims(kinds.SERVICE, service()))


def test_the_next_address_is_taken_where_one_is() -> None:
    spec = assigned(service(), taken={address_key("10.96.0.16"): b"service a/b"}).spec
    assert spec.cluster_ip == "10.96.0.17"


def test_the_lower_band_is_used_when_the_upper_is_full_and_then_none_is_left() -> None:
    taken = {address_key(f"10.96.0.{last}"): b"x" for last in range(16, 255)}
    assert assigned(service(), taken=taken).spec.cluster_ip == "10.96.0.2"
    taken |= {address_key(f"10.96.0.{last}"): b"x" for last in range(16)}
    with pytest.raises(errors.PreconditionFailed, match="no address is free"):
        assigned(service(), taken=taken)


def test_a_chosen_address_is_taken_as_it_is_or_refused_with_its_owner() -> None:
    assert assigned(service(address="10.96.0.9")).spec.cluster_ip == "10.96.0.9"
    with pytest.raises(errors.Invalid) as caught:
        assigned(service(address="10.96.0.9"), taken={address_key("10.96.0.9"): b"service a/b"})
    assert [error.path for error in caught.value.errors] == ["spec.clusterIP"]
    assert "service a/b has it" in str(caught.value)
    with pytest.raises(errors.Invalid, match="not in the service CIDR"):
        assigned(service(address="10.97.0.9"))


@pytest.mark.parametrize(("type_", "address"), [("ExternalName", ""), ("ClusterIP", "None")])
def test_some_services_need_no_address(type_: str, address: str) -> None:
    made = assigned(service(type_, address=address))
    assert made.spec.cluster_ip == address
    assert claims(kinds.SERVICE, made) == []


def test_an_update_keeps_address_and_node_ports_that_it_does_not_name() -> None:
    old = assigned(service("NodePort", 80, 81))
    new = assigned(service("NodePort", 81, 82), old=old)
    assert new.spec.cluster_ip == old.spec.cluster_ip
    assert [port.node_port for port in old.spec.ports] == [30000, 30001]
    assert [port.node_port for port in new.spec.ports] == [30001, 30000]


def test_a_node_port_out_of_range_or_taken_is_refused() -> None:
    made = service("NodePort", 80, 81)
    made.spec.ports[0].node_port = 29999
    made.spec.ports[1].node_port = 30001
    with pytest.raises(errors.Invalid) as caught:
        assigned(made, taken={b"/podwire/allocations/nodeports/30001": b"service a/b"})
    assert sorted(error.path for error in caught.value.errors) == ["spec.ports[0].nodePort", "spec.ports[1].nodePort"]


def test_no_node_port_is_left() -> None:
    with pytest.raises(errors.PreconditionFailed, match="no node port is free"):
        assigned(service("NodePort", 80, 81, 82, 83))


def test_one_node_port_may_serve_two_protocols_of_a_service() -> None:
    made = service("NodePort", 53, 53)
    made.spec.ports[1].protocol = "UDP"
    made.spec.ports[0].node_port = made.spec.ports[1].node_port = 30001
    assert len(claims(kinds.SERVICE, assigned(made))) == 2


def test_nodes_get_the_lowest_free_cidr_and_keep_it() -> None:
    node = v1.Node(metadata=v1.ObjectMeta(name="n"))
    allocator({b"/podwire/allocations/podcidrs/10.244.0.0": b"node m"}).assign(kinds.NODE, None, node, ())
    assert node.spec.pod_cidr == "10.244.1.0/24"
    assert list(node.spec.pod_cidrs) == ["10.244.1.0/24"]
    again = v1.Node(metadata=v1.ObjectMeta(name="n"))
    allocator().assign(kinds.NODE, node, again, ())
    assert again.spec.pod_cidr == node.spec.pod_cidr


def test_no_cidr_is_left() -> None:
    taken = {b"/podwire/allocations/podcidrs/10.244.%d.0" % third: b"node" for third in range(4)}
    with pytest.raises(errors.PreconditionFailed, match="has a node"):
        allocator(taken).assign(kinds.NODE, None, v1.Node(), ())
