"""The plan of routes: the difference, and nobody else's routes in it."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import pytest

from cni.routes import PROTOCOL, plan
from cni.rtnetlink import Route

A, B, C = (IPv4Network(f"10.244.{n}.0/24") for n in (1, 2, 3))
VIA_1, VIA_2 = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")


def ours(network: IPv4Network, via: IPv4Address) -> Route:
    return Route(network, via, 2, PROTOCOL)


@pytest.mark.parametrize(
    ("present", "wanted", "deleted", "added", "replaced"),
    [
        ([], {}, frozenset(), {}, {}),
        ([], {A: VIA_1}, frozenset(), {A: VIA_1}, {}),
        ([ours(A, VIA_1)], {A: VIA_1}, frozenset(), {}, {}),
        ([ours(A, VIA_1)], {A: VIA_2}, frozenset(), {}, {A: VIA_2}),
        ([ours(A, VIA_1), ours(B, VIA_2)], {B: VIA_2, C: VIA_1}, frozenset({A}), {C: VIA_1}, {}),
        ([Route(A, VIA_1, 2, 3), Route(B, None, 2, 2)], {}, frozenset(), {}, {}),
    ],
)
def test_the_plan_is_the_difference(
    present: list[Route],
    wanted: Mapping[IPv4Network, IPv4Address],
    deleted: frozenset[IPv4Network],
    added: Mapping[IPv4Network, IPv4Address],
    replaced: Mapping[IPv4Network, IPv4Address],
) -> None:
    change = plan(present, wanted)
    assert (change.delete, change.add, change.replace) == (deleted, added, replaced)
