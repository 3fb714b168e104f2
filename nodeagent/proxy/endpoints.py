"""Which endpoints a service's port leads to: a pure choice among what the service's endpoint slices list."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from podwire import v1


class Target(NamedTuple):
    """Where a connection goes in the end."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A port's usable targets, sorted: of all nodes, and of this node alone."""

    everywhere: tuple[Target, ...]
    local: tuple[Target, ...]


def choose(slices: Iterable[v1.EndpointSlice], port: v1.ServicePort, *, family: str, node_name: str) -> Endpoints:
    """The targets of one port of a service.

    Ready endpoints; where there is none, those that end but still serve, so that the last pods of a rolling update
    take requests until their successors are ready (Kubernetes' ProxyTerminatingEndpoints). Each of the two sets chooses
    for itself: a node whose only pods are ending goes on serving local traffic with them.
    """
    found = [
        (endpoint, Target(address, slice_port.port))
        for piece in slices
        if piece.address_type == family
        for slice_port in piece.ports
        if slice_port.name == port.name and (slice_port.protocol or "TCP") == (port.protocol or "TCP")
        for endpoint in piece.endpoints
        for address in endpoint.addresses[:1]  # the others are the same endpoint's (discovery/v1)
        if slice_port.port and _is_address(address)
    ]
    return Endpoints(
        _usable(found),
        _usable([(endpoint, target) for endpoint, target in found if endpoint.node_name == node_name]),
    )


def _usable(found: list[tuple[v1.Endpoint, Target]]) -> tuple[Target, ...]:
    # An endpoint may be in two slices for a moment, while the controller moves it: a set.
    ready = {target for endpoint, target in found if _is_ready(endpoint.conditions)}
    return tuple(sorted(ready or {target for endpoint, target in found if _still_serves(endpoint.conditions)}))


def _is_address(text: str) -> bool:
    """Slices can be written by anybody who may; what is no address must not reach an iptables script."""
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def _is_ready(conditions: v1.EndpointConditions) -> bool:
    """Absent means ready (discovery/v1)."""
    return conditions.ready or not conditions.HasField("ready")


def _still_serves(conditions: v1.EndpointConditions) -> bool:
    return conditions.serving and conditions.terminating
