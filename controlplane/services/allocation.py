"""Addresses, node ports and pod CIDRs: values of which each belongs to one object at a time.

Each has a key in etcd, made in the transaction that stores the object, with a compare that it was free, and deleted in
the transaction that gives it up or deletes the object: no two objects have one, and no crash leaks one.

What an object holds can be read off it (`claims`), so that the keys of any write are the difference between the claims
before and after.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from controlplane.settings import NodePortRange
from controlplane.store import keys
from podwire import errors, kinds, v1
from podwire.errors import FieldError
from podwire.keys import key_of
from podwire.kinds import Kind

HEADLESS: Final = "None"
# A node's share of the pod CIDR; Kubernetes' default.
_NODE_PREFIX_LENGTH: Final = 24
_ADDRESS: Final = keys.ALLOCATIONS + b"addresses/"
_NODE_PORT: Final = keys.ALLOCATIONS + b"nodeports/"
_POD_CIDR: Final = keys.ALLOCATIONS + b"podcidrs/"


@dataclass(frozen=True, slots=True)
class Claim:
    """A value that an object holds, and the field that names it."""

    key: bytes
    path: str
    text: str


def allocates(kind: Kind) -> bool:
    """Whether objects of that kind hold anything."""
    return kind is kinds.SERVICE or kind is kinds.NODE


def claims(kind: Kind, obj: Any) -> list[Claim]:
    """Everything that `obj` holds."""
    if kind is kinds.SERVICE:
        return list(_service_claims(obj.spec))
    if kind is kinds.NODE and obj.spec.pod_cidr:
        cidr = obj.spec.pod_cidr
        return [Claim(_POD_CIDR + cidr.partition("/")[0].encode(), "spec.podCIDR", cidr)]
    return []


def _service_claims(spec: v1.ServiceSpec) -> Iterator[Claim]:
    if spec.cluster_ip and spec.cluster_ip != HEADLESS:
        yield Claim(_ADDRESS + spec.cluster_ip.encode(), "spec.clusterIP", spec.cluster_ip)
    seen = set()
    for index, port in enumerate(spec.ports):
        # One number serves TCP and UDP of the same service.
        if port.node_port and port.node_port not in seen:
            seen.add(port.node_port)
            text = str(port.node_port)
            yield Claim(_NODE_PORT + text.encode(), f"spec.ports[{index}].nodePort", text)


class Allocator:
    """Gives out what is free. `taken` is what the cache knows; the transaction's compare has the last word."""

    def __init__(
        self,
        *,
        service_cidr: ipaddress.IPv4Network,
        pod_cidr: ipaddress.IPv4Network,
        node_ports: NodePortRange,
        taken: Callable[[], Mapping[bytes, bytes]],
        randrange: Callable[[int, int], int] = random.randrange,
    ) -> None:
        self._service_cidr = service_cidr
        self._pod_cidr = pod_cidr
        self._node_ports = node_ports
        self._taken = taken
        self._randrange = randrange

    def assign(self, kind: Kind, old: Any | None, new: Any, avoid: Collection[bytes]) -> None:
        """Fills in, in `new`, what it needs and does not name; keeps what `old` had.

        `avoid` has the keys that a transaction found taken. Raises Invalid where a named value cannot be had, and
        PreconditionFailed where nothing is left.
        """
        if kind is kinds.SERVICE:
            self._assign_service(old.spec if old is not None else v1.ServiceSpec(), new.spec, avoid)
        elif kind is kinds.NODE:
            self._assign_node(old.spec if old is not None else v1.NodeSpec(), new.spec, avoid)
        else:
            return
        held = {claim.key for claim in claims(kind, old)} if old is not None else set()
        wrong = [
            FieldError(claim.path, f"{claim.text} is taken: {self._owner(claim.key)}")
            for claim in claims(kind, new)
            if claim.key not in held and (claim.key in avoid or claim.key in self._taken())
        ]
        wrong += self._out_of_range(kind, new)
        if wrong:
            raise errors.Invalid.fields(f'{kind.name} "{key_of(new)}"', wrong)

    def _owner(self, key: bytes) -> str:
        owner = self._taken().get(key, b"").decode()
        return f"{owner} has it" if owner else "another object has it"

    def _assign_service(self, old: v1.ServiceSpec, new: v1.ServiceSpec, avoid: Collection[bytes]) -> None:
        if new.type == "ExternalName":
            new.cluster_ip = ""
        elif not new.cluster_ip:
            new.cluster_ip = old.cluster_ip or self._free_address(avoid)
        del new.cluster_ips[:]
        if new.cluster_ip:
            new.cluster_ips.append(new.cluster_ip)
        if new.type == "NodePort" or (new.type == "LoadBalancer" and new.allocate_load_balancer_node_ports):
            self._assign_node_ports(old, new, avoid)

    def _assign_node_ports(self, old: v1.ServiceSpec, new: v1.ServiceSpec, avoid: Collection[bytes]) -> None:
        before = {(port.protocol, port.port): port.node_port for port in old.ports if port.node_port}
        used = {port.node_port for port in new.ports if port.node_port}
        for port in new.ports:
            if port.node_port:
                continue
            kept = before.get((port.protocol, port.port), 0)
            port.node_port = kept if kept and kept not in used else self._free_port(avoid, used)
            used.add(port.node_port)

    def _assign_node(self, old: v1.NodeSpec, new: v1.NodeSpec, avoid: Collection[bytes]) -> None:
        if not new.pod_cidr:
            new.pod_cidr = old.pod_cidr or self._free_cidr(avoid)
        del new.pod_cidrs[:]
        new.pod_cidrs.append(new.pod_cidr)

    def _free_address(self, avoid: Collection[bytes]) -> str:
        """Of the upper part of the range: the lower is for those who choose their own, as in Kubernetes.

        The band is min(max(16, size / 16), 256) addresses (KEP-3070).
        """
        first = int(self._service_cidr.network_address)
        size = self._service_cidr.num_addresses
        band = min(max(16, size // 16), 256)
        # The first address is the API's own in Kubernetes, the last one a broadcast address.
        for low, high in ((band, size - 1), (2, min(band, size - 1))):
            found = self._search(
                low, high, lambda offset: _ADDRESS + str(ipaddress.IPv4Address(first + offset)).encode(), avoid
            )
            if found is not None:
                return str(ipaddress.IPv4Address(first + found))
        raise errors.PreconditionFailed(f"no address is free in the service CIDR {self._service_cidr}")

    def _free_port(self, avoid: Collection[bytes], used: Collection[int]) -> int:
        excluded = {*avoid, *(_NODE_PORT + b"%d" % port for port in used)}
        ports = self._node_ports
        found = self._search(ports.first, ports.last + 1, lambda port: _NODE_PORT + b"%d" % port, excluded)
        if found is None:
            raise errors.PreconditionFailed(f"no node port is free between {ports.first} and {ports.last}")
        return found

    def _free_cidr(self, avoid: Collection[bytes]) -> str:
        """The lowest that is free: CIDRs in order are easier to read. Whom others were quicker than looks elsewhere."""
        first = int(self._pod_cidr.network_address)
        size = 1 << (32 - _NODE_PREFIX_LENGTH)
        count = self._pod_cidr.num_addresses // size
        found = self._search(
            0,
            count,
            lambda number: _POD_CIDR + str(ipaddress.IPv4Address(first + number * size)).encode(),
            avoid,
            start=None if avoid else 0,
        )
        if found is None:
            raise errors.PreconditionFailed(f"every /{_NODE_PREFIX_LENGTH} of the pod CIDR {self._pod_cidr} has a node")
        return f"{ipaddress.IPv4Address(first + found * size)}/{_NODE_PREFIX_LENGTH}"

    def _search(
        self,
        low: int,
        high: int,
        key: Callable[[int], bytes],
        avoid: Collection[bytes],
        *,
        start: int | None = None,
    ) -> int | None:
        """A free number in [low, high), from `start` or a random place on: who allocates at once then seldom meets."""
        if low >= high:
            return None
        taken = self._taken()
        begin = self._randrange(low, high) if start is None else start
        for number in chain(range(begin, high), range(low, begin)):
            candidate = key(number)
            if candidate not in taken and candidate not in avoid:
                return number
        return None

    def _out_of_range(self, kind: Kind, obj: Any) -> Iterator[FieldError]:
        if kind is kinds.NODE:
            yield from self._wrong_cidr(obj.spec.pod_cidr)
            return
        address = obj.spec.cluster_ip
        if address and address != HEADLESS and not _within(address, self._service_cidr):
            yield FieldError("spec.clusterIP", f"{address} is not in the service CIDR {self._service_cidr}")
        ports = self._node_ports
        for index, port in enumerate(obj.spec.ports):
            if port.node_port and not ports.first <= port.node_port <= ports.last:
                yield FieldError(
                    f"spec.ports[{index}].nodePort",
                    f"{port.node_port} is not in the range of node ports, {ports.first}-{ports.last}",
                )

    def _wrong_cidr(self, cidr: str) -> Iterator[FieldError]:
        try:
            network = ipaddress.IPv4Network(cidr)
        except ValueError:
            network = None
        if network is None or network.prefixlen != _NODE_PREFIX_LENGTH or not network.subnet_of(self._pod_cidr):
            yield FieldError("spec.podCIDR", f"{cidr} is not a /{_NODE_PREFIX_LENGTH} of the pod CIDR {self._pod_cidr}")


def _within(address: str, network: ipaddress.IPv4Network) -> bool:
    try:
        return ipaddress.IPv4Address(address) in network
    except ValueError:
        return False
