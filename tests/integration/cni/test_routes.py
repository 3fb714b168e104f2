"""Routes on a real kernel: ours follow what is wanted, nobody else's is touched."""

import asyncio
from collections.abc import Callable

import pytest

from cni.routes import Routes, RoutesError
from tests.integration.cni.hosts import Host, eventually_async, needs_root, wire

pytestmark = [pytest.mark.root, needs_root]


@pytest.fixture
def connected(node: Host, hosts: Callable[[], Host]) -> Host:
    """The node, with an uplink to a network of other nodes."""
    other = hosts()
    wire(other, node, one_address="10.77.0.1/24", other_address="10.77.0.11/24")
    return node


def routes_of(node: Host) -> dict[str, str]:
    """Our routes: destination -> gateway."""
    lines = node.command("ip", "route", "show", "proto", "117").splitlines()
    return {line.split()[0]: line.split()[2] for line in lines}


def test_routes_are_added_replaced_and_deleted_by_difference(connected: Host) -> None:
    async def scenario() -> None:
        routes = Routes()
        await routes.sync({"10.244.2.0/24": "10.77.0.12", "10.244.3.0/24": "10.77.0.13"})
        assert routes_of(connected) == {"10.244.2.0/24": "10.77.0.12", "10.244.3.0/24": "10.77.0.13"}
        await Routes().sync({"10.244.3.0/24": "10.77.0.14", "10.244.4.0/24": "10.77.0.13"})
        assert routes_of(connected) == {"10.244.3.0/24": "10.77.0.14", "10.244.4.0/24": "10.77.0.13"}
        await routes.sync({})
        assert routes_of(connected) == {}

    connected.run_async(scenario)


def test_routes_of_others_stay_and_one_in_the_way_is_an_error_that_spares_the_rest(connected: Host) -> None:
    connected.command("ip", "route", "add", "10.244.2.0/24", "via", "10.77.0.99")

    async def scenario() -> None:
        routes = Routes()
        with pytest.raises(RoutesError, match="somebody else has a route") as caught:
            await routes.sync({"10.244.2.0/24": "10.77.0.12", "10.244.3.0/24": "10.77.0.13"})
        assert [str(network) for network in caught.value.failures] == ["10.244.2.0/24"]
        assert routes_of(connected) == {"10.244.3.0/24": "10.77.0.13"}
        await routes.sync({})

    connected.run_async(scenario)
    assert "via 10.77.0.99" in connected.command("ip", "route", "show", "10.244.2.0/24")


def test_a_node_that_is_on_no_network_of_ours_is_an_error_that_says_so(connected: Host) -> None:
    async def scenario() -> None:
        with pytest.raises(RoutesError, match=r"the kernel refuses 192\.0\.2\.1 as its gateway"):
            await Routes().sync({"10.244.2.0/24": "192.0.2.1"})

    connected.run_async(scenario)


def test_routes_come_back_with_the_interface_and_after_somebody_deleted_them(connected: Host) -> None:
    wanted = {"10.244.2.0/24": "10.77.0.12"}

    async def scenario() -> None:
        routes = Routes()
        keeping = asyncio.create_task(routes.run())
        await routes.sync(wanted)
        connected.command("ip", "link", "set", "uplink", "down")
        assert routes_of(connected) == {}
        connected.command("ip", "link", "set", "uplink", "up")
        await eventually_async(lambda: routes_of(connected) == wanted)
        connected.command("ip", "route", "del", "10.244.2.0/24")
        await eventually_async(lambda: routes_of(connected) == wanted)
        keeping.cancel()

    connected.run_async(scenario)
