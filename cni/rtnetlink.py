"""Links, addresses and routes over rtnetlink (linux/if_link.h, rtnetlink.h). IPv4.

Every function takes the socket to speak through: the namespace it works on is the one where the socket was opened.
"""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final, NamedTuple

from cni import netlink
from cni.netlink import Netlink, NetlinkError, attribute, attributes, nested, number, text

_AF_INET: Final = 2
_AF_UNSPEC: Final = 0

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26

_IFINFO: Final = struct.Struct("=BxHiII")  # family, device type, index, flags, flags to change
_IFADDR: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTMSG: Final = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER: Final = 1
_BRIDGE_PORT_HAIRPIN: Final = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15

_UP: Final = 0x1
_TABLE_MAIN: Final = 254
_SCOPE_UNIVERSE, _SCOPE_NOWHERE = 0, 255
_TYPE_UNICAST: Final = 1

PROTOCOL_BOOT: Final = 3
"""What routes that a program sets without a protocol of its own carry (linux/rtnetlink.h: RTPROT_BOOT)."""


class Link(NamedTuple):
    """An interface. `id` is its index; `master` the index of its bridge, 0 without one; `kind` as in `ip -d link`."""

    id: int
    name: str
    mac: str
    mtu: int
    master: int
    kind: str
    up: bool


class Route(NamedTuple):
    """A unicast route of the main table."""

    destination: IPv4Network
    gateway: IPv4Address | None
    interface: int
    protocol: int


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _link(payload: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = attributes(payload, _IFINFO.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    return Link(
        id=index,
        name=found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(_IFLA_MTU)),
        master=_number(found.get(_IFLA_MASTER)),
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
        up=bool(flags & _UP),
    )


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0


def _ifinfo(index: int = 0, *, up: bool = False) -> bytes:
    flags = _UP if up else 0
    return _IFINFO.pack(_AF_UNSPEC, 0, index, flags, flags)


def links(kernel: Netlink) -> list[Link]:
    return [_link(message.payload) for message in kernel.dump(_GETLINK, _ifinfo())]


def find_link(kernel: Netlink, name: str) -> Link | None:
    """The interface of that name, or None."""
    try:
        answers = kernel.request(_GETLINK, _ifinfo() + text(_IFLA_IFNAME, name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(answers[0].payload)


def get_link(kernel: Netlink, index: int) -> Link | None:
    """The interface of that index, or None."""
    try:
        answers = kernel.request(_GETLINK, _ifinfo(index))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(answers[0].payload)


def add_bridge(kernel: Netlink, name: str, *, mac: str, mtu: int) -> None:
    """A bridge that is up. Its MAC is fixed: without that it changes as ports come and go."""
    kernel.request(
        _NEWLINK,
        _ifinfo(up=True)
        + text(_IFLA_IFNAME, name)
        + attribute(_IFLA_ADDRESS, _mac(mac))
        + number(_IFLA_MTU, mtu)
        + nested(_IFLA_LINKINFO, text(_INFO_KIND, "bridge")),
        netlink.CREATE | netlink.EXCLUSIVE,
    )


def add_veth(
    kernel: Netlink, name: str, *, master: int, mtu: int, peer_name: str, peer_mac: str, peer_namespace: int
) -> None:
    """A veth pair in one message: `name` up and a port of bridge `master`, the peer in the namespace whose open file
    is `peer_namespace`. Either both ends exist, or none. (The kernel refuses to make the peer up at once.)"""
    peer = (
        _ifinfo()
        + text(_IFLA_IFNAME, peer_name)
        + attribute(_IFLA_ADDRESS, _mac(peer_mac))
        + number(_IFLA_MTU, mtu)
        + number(_IFLA_NET_NS_FD, peer_namespace)
    )
    kernel.request(
        _NEWLINK,
        _ifinfo(up=True)
        + text(_IFLA_IFNAME, name)
        + number(_IFLA_MTU, mtu)
        + number(_IFLA_MASTER, master)
        + nested(_IFLA_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, nested(_VETH_PEER, peer))),
        netlink.CREATE | netlink.EXCLUSIVE,
    )


def set_hairpin(kernel: Netlink, name: str) -> None:
    """Lets a bridge port send out what came in through it: a pod that reaches itself through its service."""
    kernel.request(
        _NEWLINK,
        _ifinfo()
        + text(_IFLA_IFNAME, name)
        + nested(
            _IFLA_LINKINFO,
            text(_INFO_SLAVE_KIND, "bridge"),
            nested(_INFO_SLAVE_DATA, attribute(_BRIDGE_PORT_HAIRPIN, b"\1")),
        ),
    )


def set_up(kernel: Netlink, index: int) -> None:
    kernel.request(_NEWLINK, _ifinfo(index, up=True))


def delete_link(kernel: Netlink, name: str) -> bool:
    """Whether there was an interface of that name to delete. Both ends of a veth pair go together."""
    try:
        kernel.request(_DELLINK, _ifinfo() + text(_IFLA_IFNAME, name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return True


def addresses(kernel: Netlink, index: int = 0) -> list[IPv4Interface]:
    """The addresses of an interface, or of all."""
    found = []
    for message in kernel.dump(_GETADDR, _IFADDR.pack(_AF_INET, 0, 0, 0, index)):
        _, prefix, _, _, owner = _IFADDR.unpack_from(message.payload)
        local = attributes(message.payload, _IFADDR.size).get(_IFA_LOCAL)
        if index in (0, owner) and local:
            found.append(IPv4Interface((local, prefix)))
    return found


def add_address(kernel: Netlink, index: int, address: IPv4Interface) -> None:
    """Gives the interface an address, which it may have already."""
    kernel.request(
        _NEWADDR,
        _IFADDR.pack(_AF_INET, address.network.prefixlen, 0, _SCOPE_UNIVERSE, index)
        + attribute(_IFA_LOCAL, address.ip.packed)
        + attribute(_IFA_ADDRESS, address.ip.packed)
        + attribute(_IFA_BROADCAST, address.network.broadcast_address.packed),
        netlink.CREATE | netlink.REPLACE,
    )


def routes(kernel: Netlink, *, protocol: int = 0) -> list[Route]:
    """The main table's unicast routes, all or those of one protocol. Those with several next hops are left out."""
    wanted = _RTMSG.pack(_AF_INET, 0, 0, 0, _TABLE_MAIN, protocol, 0, 0, 0) + number(_RTA_TABLE, _TABLE_MAIN)
    try:
        answers = kernel.dump(_GETROUTE, wanted)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:  # a namespace that never had a route has no table
            return []
        raise
    found = []
    for message in answers:
        _, prefix, _, _, table, owner, _, kind, _ = _RTMSG.unpack_from(message.payload)
        if table != _TABLE_MAIN or kind != _TYPE_UNICAST or protocol not in (0, owner):
            continue
        values = attributes(message.payload, _RTMSG.size)
        if _RTA_OIF not in values:
            continue
        gateway = values.get(_RTA_GATEWAY)
        found.append(
            Route(
                IPv4Network((values.get(_RTA_DST, bytes(4)), prefix)),
                IPv4Address(gateway) if gateway else None,
                _number(values[_RTA_OIF]),
                owner,
            )
        )
    return found


def add_route(
    kernel: Netlink,
    destination: IPv4Network,
    gateway: IPv4Address,
    *,
    protocol: int = PROTOCOL_BOOT,
    metric: int = 0,
    replace: bool = False,
) -> None:
    """A route through `gateway`. One that is there for the same destination and metric is an error, or is replaced."""
    kernel.request(
        _NEWROUTE,
        _route(destination, protocol, metric, _SCOPE_UNIVERSE) + attribute(_RTA_GATEWAY, gateway.packed),
        netlink.CREATE | (netlink.REPLACE if replace else netlink.EXCLUSIVE),
    )


def delete_route(kernel: Netlink, destination: IPv4Network, *, protocol: int, metric: int = 0) -> None:
    """Takes away the route of that destination, protocol and metric, which may be gone already."""
    try:
        kernel.request(_DELROUTE, _route(destination, protocol, metric, _SCOPE_NOWHERE))
    except NetlinkError as error:
        if error.errno != errno.ESRCH:
            raise


def _route(destination: IPv4Network, protocol: int, metric: int, scope: int) -> bytes:
    message = _RTMSG.pack(_AF_INET, destination.prefixlen, 0, 0, _TABLE_MAIN, protocol, scope, _TYPE_UNICAST, 0)
    return (
        message
        + attribute(_RTA_DST, destination.network_address.packed)
        + (number(_RTA_PRIORITY, metric) if metric else b"")
    )
