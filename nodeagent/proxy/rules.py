"""Services and endpoints into iptables rules: pure functions, service by service.

Rules are text in the very form in which iptables-save prints them, so that what the kernel has can be compared with
what is wanted. There are two kinds of chains:

- A *leaf* belongs to one service and is written as a whole: `PODWIRE-SVC-…` balances over a port's endpoints,
  `PODWIRE-SVL-…` over those on this node, `PODWIRE-EXT-…` receives node port traffic, `PODWIRE-SEP-…` is one endpoint.
- A *shared* chain has a rule for each service's address or port. Their order does not matter, since no two match the
  same packet, so a service's rule is added and deleted alone and the cost of a change does not grow with the others.

TCP is refused with a reset, not with the ICMP error that is the default: the kernel limits those to one a second for
each peer, and the second refusal would be a time-out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from nodeagent.proxy.endpoints import Endpoints, Target, choose
from nodeagent.proxy.family import IPV4, Family
from podwire import v1

PREFIX: Final = "PODWIRE-"
_NAME_DIGITS: Final = 16
_AFFINITY_SECONDS: Final = 10800
"""Kubernetes' default of sessionAffinityConfig.clientIP.timeoutSeconds."""


class Chain(NamedTuple):
    """A chain of a table."""

    table: str
    name: str


class Entry(NamedTuple):
    """One rule of a shared chain."""

    chain: Chain
    rule: str


SERVICES: Final = Chain("nat", "PODWIRE-SERVICES")
NODE_PORTS: Final = Chain("nat", "PODWIRE-NODEPORTS")
MASQUERADE: Final = Chain("nat", "PODWIRE-POSTROUTING")
REJECT: Final = Chain("filter", "PODWIRE-REJECT")
FORWARD: Final = Chain("filter", "PODWIRE-FORWARD")
SHARED: Final = (SERVICES, NODE_PORTS, REJECT)
LEAF_KINDS: Final = ("EXT", "SVC", "SVL", "SEP")
"""Kinds of leaves; each refers only to later ones."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules need to know of the node and the cluster.

    `mark` is the bit that says "masquerade" between chains; Kubernetes' own, since no node has both.
    """

    node_name: str
    pod_network: str
    mark: int = 0x4000
    family: Family = IPV4


@dataclass(frozen=True, slots=True)
class Rules:
    """A part of the rule set: leaves as wholes, and entries of shared chains."""

    leaves: Mapping[Chain, tuple[str, ...]] = field(default_factory=dict)
    entries: frozenset[Entry] = frozenset()


NOTHING: Final = Rules()


class Frontend(NamedTuple):
    """An address where a service receives; `address` is empty for a node port. For conntrack."""

    protocol: str
    address: str
    port: int


def fixed_chains(facts: Facts) -> dict[Chain, tuple[str, ...]]:
    """The chains that depend on no service."""
    mark = f"{facts.mark:#x}"
    network = facts.pod_network
    return {
        MASQUERADE: (
            f"-m mark ! --mark {mark}/{mark} -j RETURN",
            f"-j MARK --set-xmark {mark}/0x0",
            "-j MASQUERADE --random-fully",
        ),
        FORWARD: (
            # A pod's segment that conntrack takes for invalid would leave with the pod's address instead of the
            # service's; the client answers it with a reset of its own, good connection.
            f"-s {network} -m conntrack --ctstate INVALID -j DROP",
            f"-d {network} -m conntrack --ctstate INVALID -j DROP",
            # On hosts whose policy is to forward nothing, service traffic passes all the same.
            f"-m mark --mark {mark}/{mark} -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
    }


def jumps(facts: Facts) -> tuple[Entry, ...]:
    """The rules in the tables' own chains that lead to ours."""
    services = f'-m comment --comment "podwire: cluster addresses" -j {SERVICES.name}'
    # Not on loopback: an answer from elsewhere could not come back to 127.0.0.1.
    node_ports = (
        f'! -d {facts.family.loopback} -m comment --comment "podwire: node ports" '
        f"-m addrtype --dst-type LOCAL -j {NODE_PORTS.name}"
    )
    reject = f'-m conntrack --ctstate NEW -m comment --comment "podwire: no endpoints" -j {REJECT.name}'
    return (
        Entry(Chain("nat", "PREROUTING"), services),
        Entry(Chain("nat", "PREROUTING"), node_ports),
        Entry(Chain("nat", "OUTPUT"), services),
        Entry(Chain("nat", "OUTPUT"), node_ports),
        Entry(Chain("nat", "POSTROUTING"), f'-m comment --comment "podwire: masquerade" -j {MASQUERADE.name}'),
        Entry(Chain("filter", "INPUT"), reject),
        Entry(Chain("filter", "FORWARD"), f'-m comment --comment "podwire: forwarding" -j {FORWARD.name}'),
        Entry(Chain("filter", "FORWARD"), reject),
        Entry(Chain("filter", "OUTPUT"), reject),
    )


def service_rules(service: v1.Service, slices: Sequence[v1.EndpointSlice], facts: Facts) -> Rules:
    """All that a service needs; nothing for one without a cluster address (headless, ExternalName)."""
    leaves: dict[Chain, tuple[str, ...]] = {}
    entries: set[Entry] = set()
    for port in _proxied_ports(service, facts.family):
        endpoints = choose(slices, port, family=facts.family.name, node_name=facts.node_name)
        writer = _PortWriter(service, port, facts)
        leaves.update(writer.leaves(endpoints))
        entries.update(writer.entries(endpoints))
    return Rules(leaves, frozenset(entries))


def frontends(
    service: v1.Service, slices: Sequence[v1.EndpointSlice], facts: Facts
) -> dict[Frontend, frozenset[Target]]:
    """Where the service receives, and the endpoints that each of these may lead to now."""
    found = {}
    for port in _proxied_ports(service, facts.family):
        endpoints = choose(slices, port, family=facts.family.name, node_name=facts.node_name)
        targets = frozenset(endpoints.everywhere + endpoints.local)
        protocol = port.protocol or "TCP"
        found[Frontend(protocol, service.spec.cluster_ip, port.port)] = targets
        if port.node_port:
            found[Frontend(protocol, "", port.node_port)] = targets
    return found


def _proxied_ports(service: v1.Service, family: Family) -> Iterable[v1.ServicePort]:
    address = service.spec.cluster_ip
    if service.spec.type == "ExternalName" or address in ("", "None") or (":" in address) != (family.host_prefix > 32):
        return ()
    return service.spec.ports


class _PortWriter:
    """The rules of one port of a service."""

    def __init__(self, service: v1.Service, port: v1.ServicePort, facts: Facts) -> None:
        self._spec = service.spec
        self._port = port
        self._facts = facts
        # Not in a chain of its own: at each change of nftables the kernel follows every way through the chains.
        self._mark = f"-j MARK --set-xmark {facts.mark:#x}/{facts.mark:#x}"
        self._protocol = (port.protocol or "TCP").lower()
        self._id = f"{service.metadata.namespace}/{service.metadata.name}" + (f":{port.name}" if port.name else "")
        self._inside_local = service.spec.internal_traffic_policy == "Local"
        self._outside_local = service.spec.external_traffic_policy == "Local"

    def leaves(self, endpoints: Endpoints) -> dict[Chain, tuple[str, ...]]:
        if not endpoints.everywhere:
            return {}
        found = {self._chain("SVC"): (self._mark_strangers(), *self._balance(endpoints.everywhere))}
        if endpoints.local and (self._inside_local or (self._outside_local and self._port.node_port)):
            found[self._chain("SVL")] = tuple(self._balance(endpoints.local))
        if self._port.node_port:
            found[self._chain("EXT")] = tuple(self._receive(endpoints))
        for target in {*endpoints.everywhere, *endpoints.local}:
            found[self._endpoint_chain(target)] = self._deliver(target)
        return found

    def entries(self, endpoints: Endpoints) -> Iterator[Entry]:
        inside = f"-d {self._facts.family.host(self._spec.cluster_ip)} -p {self._protocol}"
        inside_port = f"-m {self._protocol} --dport {self._port.port}"
        if not endpoints.everywhere:
            yield Entry(REJECT, f"{inside} {self._comment('no endpoints')} {inside_port} {self._refuse()}")
        elif self._inside_local and not endpoints.local:
            yield Entry(REJECT, f"{inside} {self._comment('no local endpoints')} {inside_port} -j DROP")
        else:
            leaf = self._chain("SVL" if self._inside_local else "SVC").name
            yield Entry(SERVICES, f"{inside} {self._comment()} {inside_port} -j {leaf}")
        if not self._port.node_port:
            return
        outside_port = f"-m {self._protocol} --dport {self._port.node_port}"
        on_node = f"-m addrtype --dst-type LOCAL {outside_port}"
        if not endpoints.everywhere:
            yield Entry(REJECT, f"-p {self._protocol} {self._comment('no endpoints')} {on_node} {self._refuse()}")
            return
        if self._outside_local and not endpoints.local:
            yield Entry(REJECT, f"-p {self._protocol} {self._comment('no local endpoints')} {on_node} -j DROP")
        leaf = self._chain("EXT").name
        yield Entry(NODE_PORTS, f"-p {self._protocol} {self._comment()} {outside_port} -j {leaf}")

    def _receive(self, endpoints: Endpoints) -> Iterator[str]:
        """Node port traffic. With the policy Local, what comes from outside keeps its source address and stays on this
        node; pods and the node itself reach all endpoints, as they do through the cluster address."""
        service = self._chain("SVC").name
        if not self._outside_local:
            yield f"{self._comment()} {self._mark}"
            yield f"{self._comment()} -j {service}"
            return
        yield f"-s {self._facts.pod_network} {self._comment('pods')} -j {service}"
        yield f"{self._comment('the node')} -m addrtype --src-type LOCAL {self._mark}"
        yield f"{self._comment('the node')} -m addrtype --src-type LOCAL -j {service}"
        if endpoints.local:
            yield f"{self._comment()} -j {self._chain('SVL').name}"

    def _mark_strangers(self) -> str:
        """Who is no pod gets its answer through this node: the endpoint's node may know another way back."""
        return f"! -s {self._facts.pod_network} {self._comment()} {self._mark}"

    def _balance(self, targets: Sequence[Target]) -> Iterator[str]:
        """A rule an endpoint, each taking its share of what the ones before it left."""
        if self._has_affinity():
            for target in targets:
                name = self._endpoint_chain(target).name
                seconds = self._spec.session_affinity_config.client_ip.timeout_seconds or _AFFINITY_SECONDS
                yield (
                    f"{self._comment(self._text(target))} -m recent --rcheck --seconds {seconds} --reap "
                    f"{self._recent(name)} -j {name}"
                )
        for index, target in enumerate(targets):
            left = len(targets) - index
            chance = f"-m statistic --mode random --probability {_probability(left)} " if left > 1 else ""
            yield f"{self._comment(self._text(target))} {chance}-j {self._endpoint_chain(target).name}"

    def _deliver(self, target: Target) -> tuple[str, str]:
        """To one endpoint. A pod that reaches itself is masqueraded, or it would answer itself directly."""
        name = self._endpoint_chain(target).name
        remember = f"-m recent --set {self._recent(name)} " if self._has_affinity() else ""
        return (
            f"-s {self._facts.family.host(target.address)} {self._comment()} {self._mark}",
            f"-p {self._protocol} {self._comment()} {remember}-m {self._protocol} "
            f"-j DNAT --to-destination {self._text(target)}",
        )

    def _recent(self, name: str) -> str:
        return f"--name {name} --mask {self._facts.family.host_mask} --rsource"

    def _refuse(self) -> str:
        if self._protocol == "tcp":
            return "-j REJECT --reject-with tcp-reset"
        return "-j REJECT --reject-with icmp-port-unreachable"

    def _has_affinity(self) -> bool:
        return self._spec.session_affinity == "ClientIP"

    def _comment(self, more: str = "") -> str:
        return f'-m comment --comment "{self._id}{f" {more}" if more else ""}"'

    def _text(self, target: Target) -> str:
        return self._facts.family.socket_address(target.address, target.port)

    def _chain(self, kind: str, *more: str) -> Chain:
        digest = hashlib.sha256("\0".join((self._id, self._protocol, *more)).encode()).digest()
        return Chain("nat", f"{PREFIX}{kind}-{base64.b32encode(digest).decode()[:_NAME_DIGITS]}")

    def _endpoint_chain(self, target: Target) -> Chain:
        return self._chain("SEP", self._text(target))


def _probability(left: int) -> str:
    """One in `left` as iptables-save prints it: the kernel keeps 31 bits."""
    return f"{round(2**31 / left) / 2**31:.11f}"
