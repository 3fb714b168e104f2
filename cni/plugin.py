"""The `podwire` CNI plugin: a veth pair from the pod to the node's bridge, an address, a default route.

The same code serves the executable and the runner in the agent's process. Order makes it safe to kill at any
instruction: ADD reserves the address first and makes the pair in one message to the kernel; DEL takes the pair away
first and gives the address back last. The pair's name comes from the container id, so that a repeated ADD, a DEL
without a namespace, and GC find what a crash left.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Final, NamedTuple

from cni import host, rtnetlink
from cni.configuration import Config, at_least, parse
from cni.errors import (
    INTERFACE_EXISTS,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    KERNEL_REFUSED,
    NOT_AS_ADDED,
    NOT_AVAILABLE,
    CniError,
)
from cni.ipam import Addresses, Owner
from cni.namespaces import run_in
from cni.netlink import Netlink, NetlinkError

_VETH_PREFIX: Final = "pw"
_VETH_DIGITS: Final = 12
_EVERYWHERE: Final = IPv4Network("0.0.0.0/0")
_DAD_OF_NEW_INTERFACES: Final = Path("/proc/sys/net/ipv6/conf/default/accept_dad")


class Attachment(NamedTuple):
    """What a request is about: one interface of one container, and the namespace it is in (for DEL, if known)."""

    container_id: str
    interface: str
    namespace: Path | None = None

    @property
    def owner(self) -> Owner:
        return Owner(self.container_id, self.interface)


def veth_name(owner: Owner) -> str:
    """The name of the host's end of an attachment's pair."""
    digest = hashlib.sha256(f"{owner.container_id}/{owner.interface}".encode()).hexdigest()
    return _VETH_PREFIX + digest[:_VETH_DIGITS]


class Plugin:
    """The verbs of the CNI specification. One instance remembers which networks' rules it has seen to.

    Every method raises CniError and nothing else for what can go wrong outside of this code.
    """

    def __init__(self) -> None:
        self._ruled: set[Config] = set()

    def add(self, raw: Mapping[str, Any], attachment: Attachment) -> dict[str, Any]:
        """Connects the pod; the result as the specification has it. A repeated ADD makes the connection anew."""
        config = parse(raw)
        namespace = _namespace(attachment)
        if config not in self._ruled:
            self.repair(raw)
        try:
            with Netlink() as kernel, run_in(namespace, _prepared_namespace) as pod:
                return _connect(config, attachment.owner, namespace, kernel, pod)
        except OSError as error:
            raise _refusal(f"the container {attachment.container_id} cannot be connected", error) from error

    def delete(self, raw: Mapping[str, Any], attachment: Attachment) -> None:
        """Disconnects the pod, which may be gone in whole or in part, and frees its address."""
        config = parse(raw)
        try:
            with Netlink() as kernel:
                rtnetlink.delete_link(kernel, veth_name(attachment.owner))
            Addresses(config.folder, config.subnet).release(attachment.owner)
        except OSError as error:
            raise _refusal(f"the container {attachment.container_id} cannot be disconnected", error) from error

    def check(self, raw: Mapping[str, Any], attachment: Attachment) -> None:
        """Raises CniError where the connection is not as ADD made it."""
        config = parse(raw)
        namespace = _namespace(attachment)
        previous = raw.get("prevResult")
        if not isinstance(previous, Mapping):
            raise CniError(INVALID_ENVIRONMENT, "CHECK needs the result of ADD as prevResult")
        try:
            with Netlink() as kernel, run_in(namespace, Netlink) as pod:
                wrong = _differences(config, attachment.owner, previous, kernel, pod)
        except OSError as error:
            raise _refusal(f"the container {attachment.container_id} cannot be checked", error) from error
        if wrong:
            raise CniError(NOT_AS_ADDED, f"the container {attachment.container_id} is not connected", "; ".join(wrong))

    def collect(self, raw: Mapping[str, Any], valid: Collection[Owner]) -> None:
        """GC: takes away the pairs and frees the addresses of everything but the `valid` attachments."""
        config = parse(raw)
        names = {veth_name(owner) for owner in valid}
        try:
            with Netlink() as kernel:
                bridge = rtnetlink.find_link(kernel, config.bridge)
                for link in rtnetlink.links(kernel) if bridge else []:
                    if bridge and link.master == bridge.id and _is_ours(link.name) and link.name not in names:
                        rtnetlink.delete_link(kernel, link.name)
            Addresses(config.folder, config.subnet).keep_only(valid)
        except OSError as error:
            raise _refusal("what dead containers left cannot be collected", error) from error

    def status(self, raw: Mapping[str, Any]) -> None:
        """Raises CniError (NOT_AVAILABLE) where the next ADD could not work."""
        config = parse(raw)
        addresses = Addresses(config.folder, config.subnet)
        taken = sum(IPv4Address(text) in config.subnet for text, _ in addresses.reservations())
        if taken >= addresses.capacity:
            raise CniError(NOT_AVAILABLE, f"no address is left in {config.subnet}")
        existing = next(folder for folder in (config.folder, *config.folder.parents) if folder.exists())
        if not os.access(existing, os.W_OK):
            raise CniError(NOT_AVAILABLE, f"{config.folder} cannot be written")

    def repair(self, raw: Mapping[str, Any]) -> None:
        """Puts back what the host's side has lost: bridge, forwarding, rules. Quick and harmless where nothing is."""
        config = parse(raw)
        try:
            with Netlink() as kernel:
                host.ensure_bridge(kernel, config)
            host.ensure_rules(config)
        except OSError as error:
            raise _refusal("the host's side of the pod network cannot be set up", error) from error
        self._ruled.add(config)


def _namespace(attachment: Attachment) -> Path:
    if attachment.namespace is None:
        raise CniError(INVALID_ENVIRONMENT, "CNI_NETNS is missing")
    return attachment.namespace


def _prepared_namespace() -> Netlink:
    """A socket in the pod's namespace, where interfaces made from now on come up without duplicate address detection:
    it would hold their IPv6 addresses back for seconds."""
    try:
        _DAD_OF_NEW_INTERFACES.write_text("0\n")
    except FileNotFoundError:
        pass  # a kernel without IPv6
    return Netlink()


def _connect(config: Config, owner: Owner, namespace: Path, kernel: Netlink, pod: Netlink) -> dict[str, Any]:
    bridge = host.ensure_bridge(kernel, config)
    addresses = Addresses(config.folder, config.subnet)
    address = IPv4Interface((addresses.reserve(owner), config.subnet.prefixlen))
    name = veth_name(owner)
    try:
        rtnetlink.delete_link(kernel, name)
        if rtnetlink.find_link(pod, owner.interface) is not None:
            raise CniError(INTERFACE_EXISTS, f"the namespace {namespace} has an interface {owner.interface} already")
        mac = host.hardware_address(address)
        mtu = config.mtu or bridge.mtu
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            rtnetlink.add_veth(
                kernel,
                name,
                master=bridge.id,
                mtu=mtu,
                peer_name=owner.interface,
                peer_mac=mac,
                peer_namespace=descriptor,
            )
        finally:
            os.close(descriptor)
        rtnetlink.set_hairpin(kernel, name)
        _configure(pod, owner.interface, address, addresses.gateway)
        veth = rtnetlink.find_link(kernel, name)
    except BaseException:
        rtnetlink.delete_link(kernel, name)
        addresses.release(owner)
        raise
    interfaces = [
        {"name": bridge.name, "mac": bridge.mac, "mtu": bridge.mtu},
        {"name": name, "mac": veth.mac if veth else "", "mtu": mtu},
        {"name": owner.interface, "mac": mac, "mtu": mtu, "sandbox": str(namespace)},
    ]
    return _result(config.version, interfaces, address, addresses.gateway)


def _configure(pod: Netlink, interface: str, address: IPv4Interface, gateway: IPv4Address) -> None:
    loopback = rtnetlink.find_link(pod, "lo")
    if loopback is not None:
        rtnetlink.set_up(pod, loopback.id)
    link = rtnetlink.find_link(pod, interface)
    if link is None:
        raise CniError(KERNEL_REFUSED, f"the interface {interface} vanished while it was set up")
    rtnetlink.add_address(pod, link.id, address)
    rtnetlink.set_up(pod, link.id)
    rtnetlink.add_route(pod, _EVERYWHERE, gateway)


def _result(
    version: str, interfaces: list[dict[str, Any]], address: IPv4Interface, gateway: IPv4Address
) -> dict[str, Any]:
    """The success object; `mtu` came with 1.1, and before 1.0 an address said its version."""
    if not at_least(version, "1.1.0"):
        for interface in interfaces:
            del interface["mtu"]
    ip = {"address": str(address), "gateway": str(gateway), "interface": len(interfaces) - 1}
    if not at_least(version, "1.0.0"):
        ip["version"] = "4"
    return {
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": [ip],
        "routes": [{"dst": str(_EVERYWHERE), "gw": str(gateway)}],
        "dns": {},
    }


def _differences(config: Config, owner: Owner, previous: Mapping[str, Any], kernel: Netlink, pod: Netlink) -> list[str]:
    wrong = []
    bridge = rtnetlink.find_link(kernel, config.bridge)
    veth = rtnetlink.find_link(kernel, veth_name(owner))
    if bridge is None:
        wrong.append(f"the bridge {config.bridge} is gone")
    elif veth is None or veth.master != bridge.id or not veth.up:
        wrong.append(f"{veth_name(owner)} is not an active port of {config.bridge}")
    address = Addresses(config.folder, config.subnet).of(owner)
    if address is None:
        return [*wrong, "it has no address reserved"]
    expected = IPv4Interface((address, config.subnet.prefixlen))
    if str(expected) not in [ip.get("address") for ip in previous.get("ips", [])]:
        wrong.append(f"the reserved address {expected} is not the one in prevResult")
    link = rtnetlink.find_link(pod, owner.interface)
    if link is None or not link.up:
        return [*wrong, f"the pod has no active interface {owner.interface}"]
    if expected not in rtnetlink.addresses(pod, link.id):
        wrong.append(f"{owner.interface} has lost its address {expected}")
    if not any(route.destination == _EVERYWHERE for route in rtnetlink.routes(pod)):
        wrong.append("the pod has no default route")
    return wrong


def _is_ours(name: str) -> bool:
    digits = name.removeprefix(_VETH_PREFIX)
    return digits != name and len(digits) == _VETH_DIGITS and not set(digits) - set("0123456789abcdef")


def _refusal(what: str, error: OSError) -> CniError:
    if isinstance(error, NetlinkError):
        return CniError(KERNEL_REFUSED, what, error.strerror or str(error))
    if error.errno in (errno.ENOENT, errno.EINVAL) and error.filename is not None:
        return CniError(INVALID_ENVIRONMENT, what, f"{error.filename}: {error.strerror}")
    return CniError(IO_FAILURE, what, str(error))
