"""Connection tracking entries that lead UDP to endpoints that are gone.

UDP has no end that the kernel sees: an entry lives on while packets come, and they go where its first one went, rules
or not. So after a change of a UDP service its entries are compared with its endpoints, and what leads elsewhere is
deleted: the next packet makes a new entry by the new rules. TCP ends by itself, by a reset at the latest.

Formats: linux/netfilter/nfnetlink_conntrack.h; ports and addresses are in network byte order.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from cni import rtnetlink
from cni.netlink import NETFILTER, Netlink, NetlinkError, attribute, attributes, nested
from nodeagent.proxy.endpoints import Target
from nodeagent.proxy.family import Family
from nodeagent.proxy.rules import Frontend

_GET: Final = 1 << 8 | 1
_DELETE: Final = 1 << 8 | 2
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _FILTER = 1, 2, 12, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_V4_SOURCE, _V4_DESTINATION, _V6_SOURCE, _V6_DESTINATION = 1, 2, 3, 4
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIGINAL: Final = 1
_BY_NUMBER, _BY_DESTINATION_PORT = 1 << 3, 1 << 5

_PORTS_ASKED_FOR: Final = 8
"""With more ports than this, one reading of all UDP entries is cheaper than one for each."""


class Flow(NamedTuple):
    """A UDP entry: where its client sends to, who answers, and the attributes that name it to the kernel."""

    destination: Target
    answers_from: Target
    name: bytes


def stale(
    flows: Iterable[Flow], frontends: Mapping[Frontend, Collection[Target]], node_addresses: Collection[str]
) -> Iterator[Flow]:
    """The flows to one of the frontends that lead to none of its targets. Node ports count on the node's addresses."""
    for flow in flows:
        address, port = flow.destination
        targets = frontends.get(Frontend("UDP", address, port))
        if targets is None and address in node_addresses:
            targets = frontends.get(Frontend("UDP", "", port))
        if targets is not None and flow.answers_from not in targets:
            yield flow


def forget_stale(frontends: Mapping[Frontend, Collection[Target]], family: Family) -> int:
    """Deletes the entries that lead to other targets than these; says how many. Blocking."""
    ports = {frontend.port for frontend in frontends}
    with Netlink(NETFILTER) as kernel, Netlink() as routing:
        node = {str(interface.ip) for interface in rtnetlink.addresses(routing)}
        asked = [None] if len(ports) > _PORTS_ASKED_FOR else sorted(ports)
        count = 0
        for port in asked:
            for flow in stale(_flows(kernel, family, port), frontends, node):
                _forget(kernel, family, flow)
                count += 1
        return count


def _flows(kernel: Netlink, family: Family, port: int | None) -> Iterator[Flow]:
    """All UDP entries, or those to a port. (A kernel before 5.8 sends all; the caller looks at each anyway.)"""
    protocol = attribute(_NUMBER, bytes([socket.IPPROTO_UDP]))
    flags = _BY_NUMBER
    if port is not None:
        protocol += attribute(_DESTINATION_PORT, struct.pack("!H", port))
        flags |= _BY_DESTINATION_PORT
    wanted = nested(_TUPLE_ORIGINAL, nested(_TUPLE_PROTOCOL, protocol))
    chosen = nested(_FILTER, attribute(_FILTER_ORIGINAL, struct.pack("=I", flags)))
    for message in kernel.dump(_GET, _header(family) + wanted + chosen):
        found = attributes(message.payload, 4)
        original, reply = found.get(_TUPLE_ORIGINAL), found.get(_TUPLE_REPLY)
        if original is None or reply is None:
            continue
        sent, answered = _ends(original), _ends(reply)
        if sent is not None and answered is not None:
            name = nested(_TUPLE_ORIGINAL, original) + attribute(_ID, found.get(_ID, b""))
            yield Flow(sent[1], answered[0], name)


def _ends(data: bytes) -> tuple[Target, Target] | None:
    """Source and destination of a tuple, where it is UDP's."""
    found = attributes(data)
    address, protocol = attributes(found.get(_TUPLE_IP, b"")), attributes(found.get(_TUPLE_PROTOCOL, b""))
    if protocol.get(_NUMBER) != bytes([socket.IPPROTO_UDP]):
        return None
    source = address.get(_V4_SOURCE) or address.get(_V6_SOURCE)
    destination = address.get(_V4_DESTINATION) or address.get(_V6_DESTINATION)
    if source is None or destination is None:
        return None
    return Target(_text(source), _port(protocol[_SOURCE_PORT])), Target(
        _text(destination), _port(protocol[_DESTINATION_PORT])
    )


def _text(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _port(packed: bytes) -> int:
    return int.from_bytes(packed, "big")


def _header(family: Family) -> bytes:
    return struct.pack("!BBH", family.address_family, 0, 0)


def _forget(kernel: Netlink, family: Family, flow: Flow) -> None:
    try:
        kernel.request(_DELETE, _header(family) + flow.name)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:  # it ended meanwhile
            raise
