"""The host's side of a pod network: the bridge with the gateway's address, forwarding, and masquerading.

Everything here is made when it is missing and left alone when it is there, so that a first ADD, an ADD after somebody
flushed iptables, and two ADDs at once all end the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final

from cni import iptables, rtnetlink
from cni.configuration import Config
from cni.errors import IO_FAILURE, KERNEL_REFUSED, CniError
from cni.ipam import Addresses
from cni.iptables import Iptables, IptablesError
from cni.netlink import Netlink, NetlinkError
from cni.rtnetlink import Link

_IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")
_DEFAULT_MTU: Final = 1500
_EVERYWHERE: Final = IPv4Network("0.0.0.0/0")


def hardware_address(address: IPv4Interface) -> str:
    """The MAC that goes with an address: a neighbour's cache entry for an address used again is right at once."""
    return (b"\x0a\x58" + address.ip.packed).hex(":")


def ensure_bridge(kernel: Netlink, config: Config) -> Link:
    """The bridge, up, with the gateway's address, on a host that forwards."""
    gateway = IPv4Interface((Addresses(config.folder, config.subnet).gateway, config.subnet.prefixlen))
    bridge = rtnetlink.find_link(kernel, config.bridge)
    if bridge is None:
        bridge = _make_bridge(kernel, config, gateway)
    if bridge.kind != "bridge":
        raise CniError(KERNEL_REFUSED, f"the interface {config.bridge} is no bridge", "give another name as `bridge`")
    if not bridge.up:
        rtnetlink.set_up(kernel, bridge.id)
    if gateway not in rtnetlink.addresses(kernel, bridge.id):
        rtnetlink.add_address(kernel, bridge.id, gateway)
    if _IP_FORWARD.read_text().strip() != "1":
        _IP_FORWARD.write_text("1\n")
    return bridge


def _make_bridge(kernel: Netlink, config: Config, gateway: IPv4Interface) -> Link:
    try:
        rtnetlink.add_bridge(kernel, config.bridge, mac=hardware_address(gateway), mtu=config.mtu or uplink_mtu(kernel))
    except NetlinkError as error:
        if error.errno != errno.EEXIST:  # another ADD was first
            raise
    made = rtnetlink.find_link(kernel, config.bridge)
    if made is None:
        raise CniError(KERNEL_REFUSED, f"the bridge {config.bridge} vanished while it was set up")
    return made


def uplink_mtu(kernel: Netlink) -> int:
    """The MTU of the interface with the default route, in bytes; 1500 where there is none."""
    for route in rtnetlink.routes(kernel):
        if route.destination == _EVERYWHERE and (link := rtnetlink.get_link(kernel, route.interface)):
            return link.mtu
    return _DEFAULT_MTU


def ensure_rules(config: Config) -> None:
    """Pods reach the outside under the node's address and each other under their own, also where the host's policy
    is to forward nothing."""
    if not config.masquerade:
        return
    with _one_at_a_time(config.folder):
        try:
            tables = _tables(config)
            for table, chain, rule in _rules(config):
                tables.ensure(table, chain, *rule)
        except IptablesError as error:
            raise CniError(IO_FAILURE, "the rules of the pod network cannot be set", str(error)) from error


def _tables(config: Config) -> Iptables:
    if config.iptables is None:
        return iptables.detect(config.xtables_lock)
    return Iptables(config.iptables, config.xtables_lock)


def _rules(config: Config) -> list[tuple[str, str, tuple[str, ...]]]:
    comment = ("-m", "comment", "--comment", f"podwire-cni: {config.name}")
    source, everybody = str(config.subnet), str(config.pod_network)
    return [
        ("nat", "POSTROUTING", ("-s", source, "!", "-d", everybody, *comment, "-j", "MASQUERADE", "--random-fully")),
        ("filter", "FORWARD", ("-i", config.bridge, *comment, "-j", "ACCEPT")),
        ("filter", "FORWARD", ("-o", config.bridge, *comment, "-j", "ACCEPT")),
    ]


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Between two looks and a change, nobody else of ours changes. The kernel releases the lock of who dies."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "rules.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
