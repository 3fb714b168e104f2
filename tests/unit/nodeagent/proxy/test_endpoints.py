"""Which endpoints count, as a table."""

import pytest

from nodeagent.proxy.endpoints import Endpoints, Target, choose
from podwire import v1

HERE, THERE = "node1", "node2"
PORT = v1.ServicePort(name="http", protocol="TCP", port=80)


def endpoint(address: str, conditions: str = "ready", node: str = THERE) -> v1.Endpoint:
    made = v1.Endpoint(addresses=[address], node_name=node)
    if conditions == "silent":
        return made
    made.conditions.ready = conditions == "ready"
    made.conditions.serving = conditions in ("ready", "ending")
    made.conditions.terminating = conditions in ("ending", "ending and not serving")
    return made


def piece(*endpoints: v1.Endpoint, port: str = "http", number: int = 8080, family: str = "IPv4") -> v1.EndpointSlice:
    return v1.EndpointSlice(
        address_type=family,
        ports=[v1.EndpointPort(name=port, protocol="TCP", port=number)],
        endpoints=endpoints,
    )


def chosen(*slices: v1.EndpointSlice) -> Endpoints:
    return choose(slices, PORT, family="IPv4", node_name=HERE)


def addresses(targets: tuple[Target, ...]) -> list[str]:
    return [target.address for target in targets]


@pytest.mark.parametrize(
    ("conditions", "everywhere"),
    [
        (["ready", "not ready"], ["10.0.0.1"]),
        (["silent", "not ready"], ["10.0.0.1"]),
        (["not ready", "not ready"], []),
        (["ending", "ready"], ["10.0.0.2"]),
        (["ending", "not ready"], ["10.0.0.1"]),
        (["ending", "ending"], ["10.0.0.1", "10.0.0.2"]),
        (["ending and not serving", "not ready"], []),
    ],
)
def test_ready_endpoints_count_and_ending_ones_where_none_is_ready(
    conditions: list[str], everywhere: list[str]
) -> None:
    listed = [endpoint(f"10.0.0.{number + 1}", state) for number, state in enumerate(conditions)]
    assert addresses(chosen(piece(*listed)).everywhere) == everywhere


def test_a_node_whose_own_pods_are_ending_serves_local_traffic_with_them() -> None:
    found = chosen(piece(endpoint("10.0.0.1", "ending", HERE), endpoint("10.0.0.2", "ready", THERE)))
    assert addresses(found.everywhere) == ["10.0.0.2"]
    assert addresses(found.local) == ["10.0.0.1"]


def test_slices_are_joined_and_an_endpoint_in_two_of_them_counts_once() -> None:
    found = chosen(piece(endpoint("10.0.0.2")), piece(endpoint("10.0.0.1"), endpoint("10.0.0.2")))
    assert found.everywhere == (Target("10.0.0.1", 8080), Target("10.0.0.2", 8080))


def test_the_same_pod_may_have_another_port_in_another_slice() -> None:
    found = chosen(piece(endpoint("10.0.0.1"), number=8080), piece(endpoint("10.0.0.2"), number=9090))
    assert found.everywhere == (Target("10.0.0.1", 8080), Target("10.0.0.2", 9090))


def test_other_ports_and_other_families_do_not_count() -> None:
    found = chosen(piece(endpoint("10.0.0.1"), port="admin"), piece(endpoint("fd00::1"), family="IPv6"))
    assert found == Endpoints((), ())


@pytest.mark.parametrize("address", ["10.0.0.1\n-A INPUT -j DROP", "web", "10.0.0.1/32", "", "010.0.0.1"])
def test_what_is_no_address_never_reaches_the_rules(address: str) -> None:
    assert chosen(piece(endpoint(address))) == Endpoints((), ())
