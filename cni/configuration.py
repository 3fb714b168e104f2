"""The plugin's network configuration: JSON as the CNI specification lays it out, checked, with defaults filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final, NamedTuple

from cni.errors import INCOMPATIBLE_VERSION, INVALID_CONFIGURATION, CniError
from cni.iptables import Kind

SUPPORTED_VERSIONS: Final = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
"""What the specification allows as the name of a network and as a container id."""

DEFAULT_BRIDGE: Final = "podwire0"
DEFAULT_DATA_DIR: Final = "/var/lib/podwire/cni"
_INTERFACE_NAME_BYTES: Final = 15
_LARGEST_PREFIX: Final = 29
_MTU_RANGE: Final = range(68, 65536)


class Config(NamedTuple):
    """What a node's pods get. `pod_network` is all nodes' pods: traffic to it keeps its source address."""

    name: str
    version: str
    bridge: str
    subnet: IPv4Network
    pod_network: IPv4Network
    mtu: int | None
    masquerade: bool
    data_dir: Path
    iptables: Kind | None
    xtables_lock: Path | None

    @property
    def folder(self) -> Path:
        """Where the network's reservations are."""
        return self.data_dir / self.name


def version_of(raw: Mapping[str, Any]) -> str:
    """The configuration's `cniVersion`, one that we speak."""
    version = raw.get("cniVersion", "")
    if version not in SUPPORTED_VERSIONS:
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not supported",
            f"use one of {', '.join(SUPPORTED_VERSIONS)}",
        )
    return str(version)


def at_least(version: str, least: str) -> bool:
    """Whether a CNI version is `least` or later."""
    return _parts(version) >= _parts(least)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def parse(raw: Mapping[str, Any]) -> Config:
    """The configuration in `raw`. Raises CniError that names every wrong field."""
    version = version_of(raw)
    wrong: list[str] = []

    def field(key: str, kind: type, default: Any) -> Any:
        value = raw.get(key, default)
        if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            wrong.append(f"{key}: must be a {_JSON_NAMES[kind]}, not {value!r}")
            return default
        return value

    def network(key: str, default: str) -> IPv4Network:
        text = field(key, str, default)
        try:
            return IPv4Network(text)
        except ValueError:
            wrong.append(f"{key}: must be an IPv4 network like 10.244.1.0/24, not {text!r}")
            return IPv4Network("0.0.0.0/0")

    name = field("name", str, "")
    if not NAME.fullmatch(name):
        wrong.append(f"name: must match {NAME.pattern}, not {name!r}")
    bridge = field("bridge", str, DEFAULT_BRIDGE)
    if not 0 < len(bridge.encode()) <= _INTERFACE_NAME_BYTES or "/" in bridge or bridge != bridge.strip():
        wrong.append(f"bridge: must be the name of an interface, at most {_INTERFACE_NAME_BYTES} bytes, not {bridge!r}")
    if "subnet" not in raw:
        wrong.append("subnet: missing; it is the network of this node's pods, like 10.244.1.0/24")
    subnet = network("subnet", "10.244.0.0/24")
    if subnet.prefixlen > _LARGEST_PREFIX:
        wrong.append(f"subnet: {subnet} is too small for pods; its prefix must be /{_LARGEST_PREFIX} or shorter")
    pod_network = network("podNetwork", str(subnet))
    if not wrong and not subnet.subnet_of(pod_network):
        wrong.append(f"podNetwork: {pod_network} must contain the subnet {subnet}")
    mtu = field("mtu", int, None)
    if mtu is not None and mtu not in _MTU_RANGE:
        wrong.append(f"mtu: must be from {_MTU_RANGE.start} to {_MTU_RANGE.stop - 1} bytes, not {mtu}")
    kind = field("iptables", str, None)
    if kind not in (None, "nft", "legacy"):
        wrong.append(f"iptables: must be nft or legacy, or be left out, not {kind!r}")
    data_dir = field("dataDir", str, DEFAULT_DATA_DIR)
    if not data_dir.startswith("/"):
        wrong.append(f"dataDir: must be an absolute path, not {data_dir!r}")
    lock = field("xtablesLock", str, None)
    masquerade = field("ipMasq", bool, True)
    if wrong:
        raise CniError(INVALID_CONFIGURATION, "the network configuration is invalid", "; ".join(wrong))
    return Config(
        name, version, bridge, subnet, pod_network, mtu, masquerade, Path(data_dir), kind, Path(lock) if lock else None
    )


_JSON_NAMES: Final[Mapping[type, str]] = {str: "string", int: "number", bool: "boolean"}
